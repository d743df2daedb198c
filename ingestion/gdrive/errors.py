"""What Drive and Google's token endpoint refuse, by what has to be done about it.

Drive says what is wrong by a reason in ``error.errors[0]``; 403 alone may be a rate limit, a permission, a policy or
the size of an export (https://developers.google.com/workspace/drive/api/guides/handle-errors).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from ingestion.errors import BudgetExhaustedError, CredentialError, SourceError, TransientError
from messaging import codec

QUOTA_PAUSE = timedelta(hours=1)
"""How long nobody asks after a limit of the day was reached: no answer says when it eases."""
HTML_PAUSE = timedelta(minutes=1)
"""After an answer of Google's edge in place of the API's."""

_RATES = frozenset({"userRateLimitExceeded", "rateLimitExceeded"})
_QUOTAS = frozenset({"dailyLimitExceeded", "dailyLimitExceededUnreg", "quotaExceeded", "sharingRateLimitExceeded"})
_REMEDIES = {
    "accessNotConfigured": "switch on the Google Drive API in the service account's Google Cloud project",
    "insufficientPermissions": "allow the scope drive.readonly to the service account's client id in the Admin console",
    "insufficientScopes": "allow the scope drive.readonly to the service account's client id in the Admin console",
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": (
        "allow the scope drive.readonly to the service account's client id in the Admin console"
    ),
    "domainPolicy": "let the users have Drive and its API in the Admin console",
    "forbidden": "the call went out without a login: check the service account's key",
}


class NotFoundError(SourceError):
    """There is no such file or shared drive, or none that this user may see: Drive does not tell which."""


class LostTokenError(SourceError):
    """The page token is not known, or not any more."""


class FileRefusedError(SourceError):
    """Drive refuses this one call for this one file; *reason* is its own word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class RequestRefusedError(SourceError):
    """Drive does not understand the call: repeating it is in vain."""


class ContentTooLargeError(SourceError):
    """The content has more bytes than are read."""


class PolicyError(CredentialError):
    """A 403 that is about the login as a whole where it meets a call for data, and may be about one file's content."""


class SubjectError(CredentialError):
    """Google gives no token for this user; others may go on. *problem* says what is wrong, *remedy* what to do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem
        self.remedy = remedy


def of_response(  # noqa: PLR0911 - one an error
    status: int, body: bytes, headers: Mapping[str, str], now: datetime
) -> SourceError:
    """The error that a refused call is."""
    error = _error_of(body)
    after = retry_after(headers, now)
    if error is None:
        # What is no envelope comes from Google's edge, and passes.
        return TransientError(f"Google answered {status} with a page in place of an answer", after or HTML_PAUSE)
    detail = _first_detail(error)
    reason = str(detail.get("reason") or error.get("status") or "")
    message = str(error.get("message") or "")[:300]
    place = str(detail.get("location") or "")
    told = f"Drive answered {status} {reason}: {message}"
    if status == 429 or status >= 500 or reason in _RATES:
        return TransientError(told, after)
    if status == 410 or (status in (400, 404) and place == "pageToken"):
        return LostTokenError(told)
    if status == 404:
        return NotFoundError(told)
    if status == 401:
        return CredentialError(
            f"{told}: the login of the service account is not accepted; check its key and delegation"
        )
    if status == 403:
        if reason in _QUOTAS:
            return BudgetExhaustedError(told, now + (after or QUOTA_PAUSE))
        if reason in _REMEDIES:
            return PolicyError(f"{told}: {_REMEDIES[reason]}")
        return FileRefusedError(reason, message)
    return RequestRefusedError(told)


def of_login(told: object, *, retryable: bool, subject: str, scope: str) -> SourceError:
    """The error that a refused token request for *subject* is; *told* is the endpoint's answer."""
    word, text = "", ""
    if isinstance(told, Mapping):
        word, text = str(told.get("error") or ""), str(told.get("error_description") or "")[:300]
    who = subject or "the service account"
    said = f"Google gives no token for {who} ({word or 'no reason told'}: {text})"
    if retryable or not word:
        return TransientError(said)
    return SubjectError(said, _login_remedy(word, text.lower(), scope))


def _login_remedy(word: str, text: str, scope: str) -> str:
    if word == "unauthorized_client":
        return (
            "in the Admin console under Security, API controls, Domain-wide delegation, allow the service account's "
            f"client id exactly this scope: {scope}"
        )
    if word != "invalid_grant":
        return "a policy stands in the way; let the service account have Drive in the Admin console"
    if "signature" in text:
        return "the key is not, or no longer, one of this service account: store a new one"
    if "timeframe" in text:
        return "the clock of this machine is wrong: set it"
    return (
        "the user is suspended, deleted or misspelt, or the service account is gone: restore the user, or take them "
        "out of the connection's subjects"
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """What Retry-After asks for, seconds or a date; None when there is none."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:9]), 86_400))
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))


def _error_of(body: bytes) -> Mapping[str, Any] | None:
    try:
        content = codec.decode(body)
    except codec.DecodeError:
        return None
    error = content.get("error") if isinstance(content, dict) else None
    return error if isinstance(error, dict) else None


def _first_detail(error: Mapping[str, Any]) -> Mapping[str, Any]:
    details = error.get("errors")
    if isinstance(details, list) and details and isinstance(details[0], dict):
        return details[0]
    return {}
