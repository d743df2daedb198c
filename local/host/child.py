"""What every process of the host shares: its logs, its word that it is ready, and when it ends.

A child writes its logs to stderr, one JSON line on the descriptor it was given once it is ready or can't be, and takes
SIGTERM, SIGINT or the end of its stdin as the request to stop. The supervisor holds the other end of that stdin, so a
supervisor that dies, however it dies, stops its children.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from local.host.app_index import AppIndex, load_app
from local.host.errors import HostError
from local.host.services import HostedServices, load_services

DEFAULT_GRACE: Final = timedelta(seconds=30)
"""How long a stop waits for what runs."""
RECYCLE_EXIT_CODE: Final = 75
"""A child that ends with it asks to be started anew at once (EX_TEMPFAIL)."""
_LAST_WORD: Final = timedelta(seconds=3)

_log = logging.getLogger("Host.Process")


def add_child_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every child takes from the supervisor."""
    parser.add_argument("--app", default="function_app", help="module that holds the FunctionApp as app")
    parser.add_argument("--services", default="composition", help="module whose services() gives bus and store")
    parser.add_argument("--host-json", type=Path, default=None, help="another host.json than the one beside the app")
    parser.add_argument("--ready-fd", type=int, default=-1, help="descriptor that is told of readiness")
    parser.add_argument(
        "--grace",
        type=lambda text: timedelta(seconds=float(text)),
        default=DEFAULT_GRACE,
        help="seconds that a stop waits for what runs",
    )


class ChildProcess:
    """The child's side of what it has agreed with the supervisor."""

    def __init__(self, ready_descriptor: int, grace: timedelta) -> None:
        self.stop = asyncio.Event()
        self.recycle = False
        self.threads_running = 0
        """Threads that run a function and can't be ended; the work sets it at its end."""
        self._ready_descriptor = ready_descriptor
        self.grace = grace

    def ready(self) -> None:
        """Tell the supervisor that the work has begun."""
        self._tell({"ready": True})

    def failed(self, why: str) -> None:
        """Tell the supervisor why the work can't begin; without one that listens, the log."""
        if not self._tell({"error": why}):
            _log.error("%s", why)

    def _tell(self, content: dict[str, object]) -> bool:
        if self._ready_descriptor < 0:
            return False
        try:
            os.write(self._ready_descriptor, json.dumps(content).encode() + b"\n")
        except BrokenPipeError:
            return False
        finally:
            os.close(self._ready_descriptor)
            self._ready_descriptor = -1
        return True

    def ask_to_recycle(self) -> None:
        """Stop, and have a fresh process take over."""
        self.recycle = True
        self.stop.set()

    def watch(self) -> None:
        """Set *stop* at SIGTERM, SIGINT or the end of stdin. Call it from the running loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)

        def until_stdin_ends() -> None:
            while os.read(0, 4096):
                continue
            try:
                loop.call_soon_threadsafe(self.stop.set)
            except RuntimeError:
                return  # the loop has ended already, and the process with it
            time.sleep((self.grace + _LAST_WORD).total_seconds())
            os._exit(1)

        threading.Thread(target=until_stdin_ends, name="stdin", daemon=True).start()


def _configure_logging() -> None:
    """Logs on stderr, one line an entry; INFO unless host.json says otherwise."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )


def run_child(
    options: argparse.Namespace, work: Callable[[ChildProcess, AppIndex, HostedServices], Awaitable[None]]
) -> int:
    """Load the app and the services that *options* name, run *work* with them to its end, and end the process.

    The services are closed after the work. What it returns is the exit code, where threads let the process end so.
    """
    child = ChildProcess(options.ready_fd, options.grace)

    async def main() -> None:
        child.watch()
        index = load_app(options.app, options.host_json)
        index.settings.apply_log_levels()
        services = load_services(options.services)
        try:
            await work(child, index, services)
        finally:
            await services.close()

    _configure_logging()
    code = _ended(child, main())
    _leave(code, threads_running=child.threads_running)
    return code


def _ended(child: ChildProcess, main: Coroutine[Any, Any, None]) -> int:
    """The exit code of the process, after *main*."""
    try:
        asyncio.run(main)
    except HostError as error:
        child.failed(str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - the last frame of the process: it reports and ends
        _log.exception("the process can't go on")
        child.failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return RECYCLE_EXIT_CODE if child.recycle else 0


def _leave(code: int, *, threads_running: int) -> None:
    """End the process with *code*, without waiting for threads that can't be ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    if threads_running:
        os._exit(code)
    sys.exit(code)
