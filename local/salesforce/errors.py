"""The errors a Salesforce org answers with."""


class ApiError(Exception):
    """A refused REST call: a status and a list with one ``{message, errorCode}``, as the vendor writes it."""

    def __init__(self, status: int, error_code: str, message: str) -> None:
        super().__init__(f"{status} {error_code}: {message}")
        self.status = status
        self.error_code = error_code
        self.message = message

    def body(self) -> list[dict[str, str]]:
        """The answer's JSON body."""
        return [{"message": self.message, "errorCode": self.error_code}]


def not_found() -> ApiError:
    """No such resource or record, or none that this user may see."""
    return ApiError(404, "NOT_FOUND", "The requested resource does not exist")
