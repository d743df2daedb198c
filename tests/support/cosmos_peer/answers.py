"""What the peer answers: status, headers and body, and the refusals that become one."""

from dataclasses import dataclass, field

import msgspec

CODES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "RequestTimeout",
    409: "Conflict",
    410: "Gone",
    412: "PreconditionFailed",
    413: "RequestEntityTooLarge",
    424: "FailedDependency",
    429: "429",
    449: "RetryWith",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}
"""The ``code`` of an error's body by HTTP status."""


@dataclass(slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """The service says no: *status*, *substatus* (0: none) and *message* as the client reads them."""

    def __init__(self, status: int, message: str, *, substatus: int = 0, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.substatus = substatus
        self.headers = headers or {}

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"

    def answer(self) -> Answer:
        """The refusal as the service words it: ``{"code", "message"}``."""
        body = msgspec.json.encode({"code": CODES.get(self.status, str(self.status)), "message": self.message})
        headers = dict(self.headers)
        if self.substatus:
            headers["x-ms-substatus"] = str(self.substatus)
        return Answer(self.status, body, headers)


def bad_request(message: str, *, substatus: int = 0) -> RefusedError:
    """A 400 that names what was wrong."""
    return RefusedError(400, message, substatus=substatus)


def undecided(what: str) -> RefusedError:
    """A 400 where the service's behaviour is not documented: the peer never guesses."""
    return RefusedError(400, f"This peer does not know what the service does here: {what}")
