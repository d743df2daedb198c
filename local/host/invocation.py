"""Running one function once: on the loop or in a thread, within the time it may take, and with its failure reported."""

import asyncio
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import azure.functions as func

from local.host.app_index import HttpFunction, IndexedFunction

_MAX_ERROR_TEXT: Final = 500


class InvocationFailedError(Exception):
    """The function raised, took too long or returned what it may not; it has been reported already."""

    def __init__(self, invocation_id: str, *, timed_out: bool = False) -> None:
        super().__init__(invocation_id)
        self.invocation_id = invocation_id
        self.timed_out = timed_out


class _TraceContext:
    """A W3C trace context as ``func.Context`` gives it."""

    def __init__(self, trace_parent: str) -> None:
        self.trace_parent = trace_parent
        self.trace_state = ""
        self.attributes: dict[str, str] = {}


class _RetryContext:
    """The first try of an invocation, as there are no retry policies on one machine."""

    retry_count = 0
    max_retry_count = 0
    exception = None


class InvocationContext(func.Context):
    """What a function that has a ``context`` parameter learns about its invocation."""

    _local = threading.local()

    def __init__(self, invocation_id: str, function: IndexedFunction, trace_parent: str | None) -> None:
        self._invocation_id = invocation_id
        self._function = function
        self._trace = _TraceContext(trace_parent or f"00-{uuid4().hex}-{uuid4().hex[:16]}-01")

    @property
    def invocation_id(self) -> str:
        """The id under which the host reports this invocation."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        """Where a thread that the function starts may set ``invocation_id``."""
        return self._local

    @property
    def function_name(self) -> str:
        """The function's name in the app."""
        return self._function.name

    @property
    def function_directory(self) -> str:
        """The folder of the function's source."""
        return self._function.directory

    @property
    def trace_context(self) -> Any:
        """``trace_parent``, ``trace_state`` and ``attributes``."""
        return self._trace

    @property
    def retry_context(self) -> Any:
        """``retry_count``, ``max_retry_count`` and ``exception``: always the first try."""
        return _RetryContext


class Invoker:
    """Runs functions for all triggers of a process: async ones on the loop, others in a pool of threads.

    *running* counts invocations, *threads_running* the threads that run a function, which may outlive its invocation.

    The pool has ``PYTHON_THREADPOOL_THREAD_COUNT`` threads, by default as many as the Python worker's own.
    A thread that outstays its function's time can't be ended, so *recycle* is called, and the process should give way
    to a fresh one, as Azure does with its worker.
    """

    def __init__(self, timeout: timedelta | None, recycle: Callable[[], None]) -> None:
        self._timeout = timeout.total_seconds() if timeout else None
        self._recycle = recycle
        threads = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "")
        self._pool = ThreadPoolExecutor(int(threads) if threads.isdecimal() and int(threads) else None, "function")
        self.running = 0
        self.threads_running = 0
        self._threads_lock = threading.Lock()

    async def invoke(
        self, function: IndexedFunction, value: object, *, what: Callable[[], str], trace_parent: str | None = None
    ) -> Any:
        """What *function* makes of *value*. *what* names the work for the report of a failure: messages, a tick.

        Raises:
            InvocationFailedError: it failed. One line has been logged at ERROR, its traceback at DEBUG.
        """
        invocation_id = str(uuid4())
        arguments: dict[str, Any] = {function.parameter: value}
        if function.wants_context:
            arguments["context"] = InvocationContext(invocation_id, function, trace_parent)
        log = logging.getLogger(f"Function.{function.name}")
        started = time.perf_counter()
        self.running += 1
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                if function.is_async:
                    result = await function.call(**arguments)
                else:
                    result = await self._in_thread(function, arguments)
                    # A plain function may hand back a coroutine, as functools.partial of an async one does.
                    if asyncio.iscoroutine(result):
                        result = await result
            if result is not None and not isinstance(function, HttpFunction):
                # Azure fails such an invocation as well: there is no $return binding to take the value.
                raise TypeError(f"returned a {type(result).__name__}; without a $return binding it must return None")
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            timed_out = limit.expired()
            if timed_out:
                problem = f"took longer than the functionTimeout of {self._timeout:g} s"
            else:
                problem = f"failed with {type(error).__name__}: {_one_line(str(error))}"
            log.error("function %s %s (%s; invocation %s)", function.name, problem, what(), invocation_id)
            log.debug("traceback of invocation %s", invocation_id, exc_info=True)
            if timed_out and not function.is_async:
                self._recycle()
            raise InvocationFailedError(invocation_id, timed_out=timed_out) from error
        finally:
            self.running -= 1
        if log.isEnabledFor(logging.DEBUG):
            milliseconds = (time.perf_counter() - started) * 1000
            log.debug("function %s done in %.0f ms (%s; %s)", function.name, milliseconds, what(), invocation_id)
        return result

    async def _in_thread(self, function: IndexedFunction, arguments: dict[str, Any]) -> Any:
        context = contextvars.copy_context()

        def call() -> Any:
            with self._threads_lock:
                self.threads_running += 1
            try:
                return context.run(function.call, **arguments)
            except StopIteration as error:
                # An asyncio future can't hold one, and would never be done.
                raise RuntimeError("the function raised StopIteration") from error
            finally:
                with self._threads_lock:
                    self.threads_running -= 1

        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Take no more work; threads that still run are left to end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _is_cancelled() -> bool:
    """Whether this task is asked to end, and a CancelledError so comes from outside the function."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_ERROR_TEXT else line[:_MAX_ERROR_TEXT] + "…"
