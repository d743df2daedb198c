"""The errors that the Drive API answers with."""

from typing import Any


class DriveApiError(Exception):
    """A refused call: a status and the vendor's envelope with one error in ``errors``."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        domain: str = "global",
        location: tuple[str, str] | None = None,
        status_text: str | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.domain = domain
        self.location = location
        self.status_text = status_text

    def body(self) -> dict[str, Any]:
        """The answer's JSON body."""
        return envelope(
            self.status, self.reason, self.message, self.domain, location=self.location, status_text=self.status_text
        )


def envelope(
    status: int,
    reason: str,
    message: str,
    domain: str = "global",
    *,
    location: tuple[str, str] | None = None,
    status_text: str | None = None,
) -> dict[str, Any]:
    """The error envelope; *location* is a place and its type, *status_text* is there on auth failures alone."""
    error: dict[str, Any] = {"message": message, "domain": domain, "reason": reason}
    if location is not None:
        error |= {"location": location[0], "locationType": location[1]}
    outer: dict[str, Any] = {"code": status, "message": message, "errors": [error]}
    if status_text is not None:
        outer["status"] = status_text
    return {"error": outer}


def invalid_value(parameter: str, message: str = "Invalid Value") -> DriveApiError:
    """A parameter that can't be understood, a lost page token among them."""
    return DriveApiError(400, "invalid", message, location=(parameter, "parameter"))


def required(parameter: str) -> DriveApiError:
    """A parameter that is missing."""
    message = f"Required parameter: {parameter}"
    return DriveApiError(400, "required", message, location=(parameter, "parameter"))


def file_not_found(file_id: str) -> DriveApiError:
    """No such file, or none that this user may see."""
    return DriveApiError(404, "notFound", f"File not found: {file_id}.", location=("fileId", "parameter"))


def drive_not_found(drive_id: str) -> DriveApiError:
    """No such shared drive, or none that this user is a member of."""
    return DriveApiError(404, "notFound", f"Shared drive not found: {drive_id}", location=("driveId", "parameter"))


def bad_credentials() -> DriveApiError:
    """A token that is unknown, has ended, or whose user is gone."""
    return DriveApiError(
        401,
        "authError",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        location=("Authorization", "header"),
        status_text="UNAUTHENTICATED",
    )
