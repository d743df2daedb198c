"""What the Web API refuses with: HTTP 200 and ``{"ok": false, "error": …}``."""

from typing import Any


class ApiError(Exception):
    """A refused call. *more* are further fields of the answer."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.more = more
