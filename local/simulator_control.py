"""The control route of a vendor simulator: what the vendors' own are made of."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.simulator_clock import SimulatorClock
from local.simulator_faults import Faults
from local.simulator_process import HTTP_METHODS, is_from_this_machine
from messaging.codec import encode

PREFIX = "/_control"
_WRONG_BODY: tuple[type[Exception], ...] = (ValueError, KeyError, TypeError, AttributeError)

Endpoint = Callable[[Request], Awaitable[Response]]
Handler = Callable[[Any], Mapping[str, object]]
"""Answers one call, given its body."""


class SimulatorControl(ABC):
    """Answers calls under ``/_control``, JSON both ways, for callers that name the simulator by a loopback address.

    A refusal is ``{"error": …}`` with status 400, 403 or 404. Faults and clock are controlled alike everywhere; the
    rest is the vendor's.
    """

    refusals: ClassVar[tuple[type[Exception], ...]] = ()
    """What the vendor's handlers raise where they refuse; the message is told."""
    clock_takes: ClassVar[str] = "freeze, advance or run"
    """The keys of ``POST /_control/clock``, for the refusal of others."""

    def __init__(self, lock: threading.RLock, clock: SimulatorClock, faults: Faults) -> None:
        self._lock = lock
        self._clock = clock
        self._faults = faults

    @abstractmethod
    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """The vendor's own handlers, by method and path below ``/_control``; each runs under the lock."""

    async def __call__(self, request: Request) -> Response:
        """Answer a control call."""
        body = await request.body()
        if not is_from_this_machine(request):
            return answer({"error": "the control route answers on a loopback address only"}, 403)
        path = request.url.path.rstrip("/").removeprefix(PREFIX)
        try:
            return await self._answer(request.method, path, json.loads(body) if body else {})
        except self.refusals + _WRONG_BODY as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            return answer({"error": said}, 400)

    async def _answer(self, method: str, path: str, given: Any) -> Response:
        with self._lock:
            shared: dict[tuple[str, str], Handler] = {
                ("POST", "/clock"): self._set_clock,
                ("POST", "/faults"): self._arm_fault,
                ("DELETE", "/faults"): lambda _: do(self._faults.clear),
            }
            handler = (shared | dict(self.handlers())).get((method, path))
            if handler is None:
                return answer({"error": f"there is no {method} {PREFIX}{path}"}, 404)
            return answer(handler(given), 200)

    def _set_clock(self, given: Any) -> Mapping[str, object]:
        clock = self._clock
        if "freeze" in given:
            clock.freeze(self._moment(given["freeze"]))
        elif "advance" in given:
            clock.advance(timedelta(seconds=given["advance"]))
        elif given.get("run"):
            clock.run()
        else:
            raise ValueError(f"a clock takes {self.clock_takes}")
        return {"now": clock().isoformat()}

    def _moment(self, text: str) -> datetime:
        return datetime.fromisoformat(text)

    def _arm_fault(self, given: Any) -> Mapping[str, object]:
        changes = {name: value for name, value in given.items() if name != "kind"}
        self._faults.add(str(given["kind"]), **changes)
        return {"kind": given["kind"]}


def controlled(api: Endpoint, control: SimulatorControl) -> Starlette:
    """The app of a simulator: *control* answers what is under ``/_control``, *api* the rest."""
    methods = list(HTTP_METHODS)
    return Starlette(
        routes=[
            Route(f"{PREFIX}{{rest:path}}", control.__call__, methods=methods),
            Route("/{rest:path}", api, methods=methods),
        ]
    )


def answer(value: Mapping[str, object], status: int) -> Response:
    """A JSON answer."""
    return Response(encode(value), status, media_type="application/json")


def do(*actions: Callable[[], None]) -> dict[str, object]:
    """Do what has nothing to tell; the answer."""
    for action in actions:
        action()
    return {"ok": True}


def each(given: Any) -> list[Any]:
    """The changes of a body that is one change, or a list of them."""
    return given if isinstance(given, list) else [given]


def refuse_unknown(given: Mapping[str, Any], known: set[str]) -> None:
    """Let no setting pass that is none.

    Raises:
        ValueError: *given* has another than *known*.
    """
    unknown = given.keys() - known
    if unknown:
        raise ValueError(f"there is no setting {min(unknown)}")
