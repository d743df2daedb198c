"""A call and its answer, however it came: by itself or as a part of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.gdrive.errors import DriveApiError, invalid_value
from messaging.codec import DecodeError, decode, encode

JSON = "application/json; charset=UTF-8"


@dataclass(slots=True)
class Call:
    """A call; the names of *headers* are in lower case. *user* is whom its token is for, once that is known."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    user: str | None = None

    def text(self, name: str) -> str | None:
        """A parameter, None where it is missing or empty."""
        return self.params.get(name) or None

    def flag(self, name: str, *, otherwise: bool = False) -> bool:
        """A boolean parameter.

        Raises:
            DriveApiError: 400: it is neither true nor false.
        """
        given = self.params.get(name, "").lower()
        if given not in {"", "true", "false"}:
            raise invalid_value(name, f"Invalid value '{given}'.")
        return given == "true" if given else otherwise

    def number(self, name: str, otherwise: int, most: int) -> int:
        """A parameter from 1 to *most*.

        Raises:
            DriveApiError: 400: it is beyond that.
        """
        given = self.params.get(name)
        if given is None:
            return otherwise
        if not given.isascii() or not given.isdigit() or not 1 <= int(given[:9]) <= most:
            message = f"Invalid value '{given}'. Values must be within the range: [1, {most}]"
            raise DriveApiError(400, "invalidParameter", message, location=(name, "parameter"))
        return int(given)

    @property
    def all_drives(self) -> bool:
        """Whether the caller knows of shared drives."""
        return self.flag("supportsAllDrives") or self.flag("supportsTeamDrives")

    def json(self) -> dict[str, Any]:
        """The body, a JSON object.

        Raises:
            DriveApiError: 400 parseError: it is none.
        """
        try:
            given = decode(self.body) if self.body else {}
        except DecodeError as error:
            raise DriveApiError(400, "parseError", "Parse Error") from error
        if not isinstance(given, dict):
            raise DriveApiError(400, "parseError", "Parse Error")
        return given


@dataclass(slots=True)
class Answer:
    """An answer: a status and a body of one kind."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(value: object, status: int = 200) -> Answer:
    """An answer of JSON."""
    return Answer(status, encode(value))
