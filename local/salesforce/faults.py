"""Faults on demand: what the vendor, its edge or the network does to calls now and then."""

import json
import threading
from dataclasses import dataclass, field
from typing import Any

_HTML_503 = (
    "<html><head><title>Service Unavailable</title></head><body><h1>We are down for maintenance.</h1>"
    "<p>Sorry for the inconvenience. We'll be back shortly.</p></body></html>"
)
_HTML_401 = "<html><head><title>Error</title></head><body>Unauthorized</body></html>"


@dataclass
class Fault:
    """One thing that goes wrong. *path* is a part of the paths it is for, every call of the API and of login if empty.

    It sees every call it is for: the first *skip* pass, then *times* are hit (``None``: all until it is cleared).
    A hit waits *delay* seconds, and with a *status* answers that and no more.
    """

    status: int | None = None
    body: str = ""
    content_type: str = "application/json;charset=UTF-8"
    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    skip: int = 0
    times: int | None = 1
    delay: float = 0.0
    seen: int = 0
    hits: int = 0

    def strikes(self, path: str) -> bool:
        """Whether the call of *path* is one to hit; counts it."""
        if self.path not in path:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


def _errors(code: str, message: str) -> str:
    return json.dumps([{"message": message, "errorCode": code}])


_KINDS: dict[str, dict[str, Any]] = {
    "request-limit": {"status": 403, "body": _errors("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")},
    "concurrent-limit": {
        "status": 403,
        "body": _errors("REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
    },
    "api-disabled": {
        "status": 403,
        "body": _errors("API_DISABLED_FOR_ORG", "API is not enabled for this Organization or Partner"),
    },
    "insufficient-access": {
        "status": 403,
        "body": _errors("INSUFFICIENT_ACCESS", "insufficient access rights on object id"),
    },
    "unavailable-html": {"status": 503, "body": _HTML_503, "content_type": "text/html;charset=UTF-8"},
    "unavailable": {
        "status": 503,
        "body": _errors("SERVER_UNAVAILABLE", "The server is temporarily unavailable. Please try again later."),
    },
    "server-error": {"status": 500, "body": _errors("UNKNOWN_EXCEPTION", "An unexpected error occurred.")},
    "too-many-requests": {"status": 429, "headers": {"Retry-After": "1"}},
    "session-expired": {"status": 401, "body": _errors("INVALID_SESSION_ID", "Session expired or invalid")},
    "unauthorized-object": {"status": 401, "body": '{"error": "unauthorized"}'},
    "unauthorized-html": {"status": 401, "body": _HTML_401, "content_type": "text/html;charset=UTF-8"},
    "query-timeout": {
        "status": 400,
        "body": _errors("QUERY_TIMEOUT", "Your query request was running for too long."),
    },
    "row-lock": {
        "status": 400,
        "body": _errors("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record or 1 records"),
    },
    "dead-locator": {
        "status": 400,
        "body": _errors("INVALID_QUERY_LOCATOR", "invalid query locator"),
        "path": "/query/0r8",
    },
    "login-refused": {
        "status": 400,
        "body": '{"error": "invalid_grant"}',  # the vendor leaves error_description out at times
        "path": "/services/oauth2/token",
    },
    "slow": {"delay": 1.0},
}

KINDS = tuple(_KINDS)
"""The names that :func:`fault` knows."""


def fault(kind: str, **changes: Any) -> Fault:
    """The vendor's fault of that name, with *changes* to its fields.

    Raises:
        ValueError: no such kind, or no such field.
    """
    try:
        return Fault(**{"path": "/services/data", **_KINDS[kind], **changes})
    except KeyError:
        raise ValueError(f"no fault {kind!r}; there are {', '.join(KINDS)}") from None
    except TypeError as error:
        raise ValueError(f"a fault takes no such field: {error}") from error


class Faults:
    """The faults that are armed."""

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, armed: Fault | str, **changes: Any) -> Fault:
        """Arm a fault, or the vendor's of that name (see :func:`fault`)."""
        made = fault(armed, **changes) if isinstance(armed, str) else armed
        with self._lock:
            self._armed.append(made)
        return made

    def clear(self) -> None:
        """Disarm all."""
        with self._lock:
            self._armed.clear()

    def strike(self, path: str) -> Fault | None:
        """The fault that hits this call; the first armed one when several would. All of them count it."""
        with self._lock:
            hit: Fault | None = None
            for armed in self._armed:
                if armed.strikes(path) and hit is None:
                    hit = armed
            return hit
