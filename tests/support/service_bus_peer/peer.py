"""The peer as tests hold it: in a thread of their own process, or in a process of its own."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any, Self, cast

from messaging.queues import QUEUES, QueueProperties
from messaging.times import Clock, utc_now

if TYPE_CHECKING:
    from service_bus_peer.controls import FaultControls, StateViews, TimeControls

MAX_MESSAGE_SIZE = 262_144
"""256 KB, the limit of the Standard tier."""


class _Proxy:
    """Has every method called where the peer runs."""

    def __init__(self, ask: Callable[..., Any], target: str) -> None:
        self._ask = ask
        self._target = target

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._ask, self._target, name)


class PeerHandle:
    """What both kinds of peer offer: an address, and controls that may be used from any thread."""

    port: int

    def __init__(self) -> None:
        self.faults = cast("FaultControls", _Proxy(self._ask, "faults"))
        self.state = cast("StateViews", _Proxy(self._ask, "state"))
        self.time = cast("TimeControls", _Proxy(self._ask, "time"))

    @property
    def connection_string(self) -> str:
        """What to make a ``ServiceBusClient`` from."""
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
        )

    def advance(self, by: timedelta) -> None:
        """Move the peer's time: locks end, scheduled messages come due, duplicates are forgotten."""
        self.time.advance(by)

    def _ask(self, target: str, method: str, /, *args: Any, **options: Any) -> Any:
        raise NotImplementedError


class ServiceBusPeer(PeerHandle):
    """A Service Bus namespace on a loopback port, in a thread of this process.

    A *clock* that a test moves must start near the present, because the SDK compares the end of a lock with its own;
    after moving it call ``time.look_again()``. Or leave the clock alone and call :meth:`advance`.
    """

    def __init__(
        self,
        queues: Mapping[str, QueueProperties] = QUEUES,
        *,
        clock: Clock = utc_now,
        port: int = 0,
        max_message_size: int = MAX_MESSAGE_SIZE,
    ) -> None:
        super().__init__()
        self.port = port
        self._queues = queues
        self._clock = clock
        self._max_message_size = max_message_size
        self._controls: dict[str, object] = {}
        self._errors: list[Exception] = []
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="service-bus-peer", daemon=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> Self:
        """Listen; :attr:`port` is set on return."""
        self._thread.start()
        self._started.result()
        return self

    def close(self) -> None:
        """End every connection and the thread. Closing twice is harmless.

        Raises:
            ExceptionGroup: something went wrong in the peer itself.
        """
        if self._thread.is_alive():
            self._started.result().call_soon_threadsafe(self._stop.set)
            self._thread.join()
        if self._errors:
            errors, self._errors = self._errors, []
            raise ExceptionGroup("the Service Bus peer has failed", errors)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - it is raised by start or close
            if self._started.done():
                self._errors.append(error)
            else:
                self._started.set_exception(error)

    async def _serve(self) -> None:
        # Only here, so that this module can be imported where proton is missing.
        from service_bus_peer.broker import Broker
        from service_bus_peer.controls import FaultControls, PeerClock, StateViews, TimeControls
        from service_bus_peer.listener import Listener

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._keep_error)
        clock = PeerClock(self._clock)
        listener = Listener(Broker(self._queues, clock), clock, max_message_size=self._max_message_size)
        self._controls = {
            "faults": FaultControls(listener),
            "state": StateViews(listener),
            "time": TimeControls(listener, clock),
        }
        self.port = await listener.listen(self.port)
        self._started.set_result(loop)
        await self._stop.wait()
        await listener.close()

    def _keep_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._errors.append(error if isinstance(error, Exception) else RuntimeError(context["message"]))

    def _ask(self, target: str, method: str, /, *args: Any, **options: Any) -> Any:
        answer: Future[Any] = Future()

        def do() -> None:
            try:
                answer.set_result(getattr(self._controls[target], method)(*args, **options))
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                answer.set_exception(error)

        self._started.result().call_soon_threadsafe(do)
        return answer.result()


class ServiceBusPeerProcess(PeerHandle):
    """The same in a process of its own, which ends with this one: for benchmarks."""

    def __init__(self, *, max_message_size: int = MAX_MESSAGE_SIZE) -> None:
        super().__init__()
        self._asking = threading.Lock()
        self._control, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "service_bus_peer", "--control", str(theirs.fileno())),
                    *("--max-message-size", str(max_message_size)),
                ],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[theirs.fileno()],
            )
        try:
            self.port = self._control.recv()
        except EOFError:
            raise RuntimeError(f"the Service Bus peer ended with exit code {self._process.wait()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Closing twice is harmless."""
        self._control.close()
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What the process ended with; above 0 if something went wrong in the peer itself. None while it runs."""
        return self._process.poll()

    def _ask(self, target: str, method: str, /, *args: Any, **options: Any) -> Any:
        with self._asking:
            self._control.send((target, method, args, options))
            answer = self._control.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer
