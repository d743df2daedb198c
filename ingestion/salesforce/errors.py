"""What can go wrong between Shardline and Salesforce, by what has to be done about it.

Bodies differ by who answers: a list of ``{errorCode, message}`` from REST, a dict of ``{error, error_description}``
from OAuth, HTML from the edge.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from ingestion.errors import BudgetExhaustedError, CredentialError, RepeatError, SourceError, TransientError

BUSY_PAUSE = timedelta(minutes=1)
"""After ``ConcurrentRequests … Limit exceeded`` (more than 25 calls that each take longer than 20 s are running), and
the like of other long work (``ConcurrentPerOrgLongTxn``): it is not the day's calls that are used up."""

LOGIN_PAUSE = timedelta(minutes=15)
"""After LOGIN_RATE_EXCEEDED: a user may log in 3,600 times an hour."""


class ObjectError(SourceError):
    """One object can't be read; the others can. The message says what to do."""


class FieldError(ObjectError):
    """A field of the query is not there for this login (any more): it was renamed, deleted or hidden."""

    def __init__(self, message: str, field: str | None) -> None:
        super().__init__(message)
        self.field = field


class LocatorLostError(RepeatError):
    """The server's query cursor is gone: read on from the last checkpoint."""


class RequestTooLongError(SourceError):
    """The URI or the headers are longer than Salesforce takes: ask for fewer fields at once."""


class SessionExpiredError(SourceError):
    """The session is over (there is no other sign of its end): log in once and repeat the call."""


_WHERE = re.compile(r"ERROR at Row:\d+:Column:\d+\s+")
"""Stands between the query, which a refusal repeats, and the reason."""

_MISSING_COLUMN = re.compile(r"No such column '([^']+)'")

_REMEDIES = {
    "user hasn't approved this consumer": (
        "pre-authorize the user for the connected app (Manage Connected Apps, Permitted Users: Admin approved users "
        "are pre-authorized, then add the user's profile or permission set)"
    ),
    "audience is invalid": "set the connection's domain: test for a sandbox, login or the My Domain for production",
    "invalid assertion": "the private key does not match the certificate uploaded to the connected app",
    "expired authorization code": "this machine's clock is wrong: the login assertion counts as expired",
    "authentication failure": "check user name, password and security token, and the user's login history for why",
    "no client credentials user enabled": "set a Run As user for the client credentials flow on the connected app",
    "user is locked": "unlock the user in Setup",
    "inactive user": "activate the user in Setup, or connect with another one",
    "invalid_client_id": "the consumer key is not one of this org's connected apps",
    "invalid_client": "the consumer secret does not fit the consumer key",
    "unsupported_grant_type": "enable this OAuth flow on the connected app",
    "invalid_app_access": "the user is not allowed to use the connected app",
    "invalid_grant": "check the user, the connected app and its policies",
    "INVALID_LOGIN": "check user name, password and security token; the user may be locked",
    "LOGIN_MUST_USE_SECURITY_TOKEN": "add the user's security token, or allow this machine's IP addresses",
    "INVALID AUTH": "the connection's login settings are incomplete",
}

_REFUSED = {
    "API_DISABLED_FOR_ORG": "API access is not part of this org's edition, or is switched off for it",
    "API_CURRENTLY_DISABLED": "API access is switched off for this org at the moment",
    "FORBIDDEN": "the user may not call the API: grant the permission API Enabled",
}


def of_response(
    status: int, body: object, headers: Mapping[str, str], now: datetime, object_type: str | None = None
) -> SourceError:
    """The error that a REST answer of *status* (300 or more) means; *body* as parsed, text when it was no JSON."""
    code, message = _code_and_message(body)
    told = f"Salesforce answered {status} {code}: {message}" if code else f"Salesforce answered {status}"
    after = retry_after(headers, now)
    subject = object_type or "the request"
    error: SourceError
    match status:
        case 400:
            error = _of_bad_request(code, message, told, subject)
        case 401:
            error = SessionExpiredError(told)
        case 403 if code == "REQUEST_LIMIT_EXCEEDED":
            if message.startswith("Concurrent"):
                error = TransientError(f"{told}; too many long calls run at once", after or BUSY_PAUSE)
            else:
                error = BudgetExhaustedError(f"{told}; the org's API calls of the last 24 hours are used up")
        case 403 if code in _REFUSED or not code:
            error = CredentialError(f"{told}; {_REFUSED.get(code, 'the user or this address may not call the API')}")
        case 403 | 404:
            error = ObjectError(
                f"{subject}: {told}; the object does not exist here or the user may not read it: grant read access, "
                "or take it out of the connection"
            )
        case 410:
            error = CredentialError(f"{told}; this API version is retired: raise the connection's apiVersion")
        case 414 | 431:
            error = RequestTooLongError(f"{subject}: {told}")
        case 405 | 415:
            error = CredentialError(f"{told}; the address does not serve the REST API: check the connection's domain")
        case _:
            # 406, 409, 412, 420, 429 and all 5xx pass; so may what nobody has seen yet.
            error = TransientError(told, after)
    return error


def _of_bad_request(code: str, message: str, told: str, subject: str) -> SourceError:
    error: SourceError
    match code:
        case "INVALID_FIELD":
            column = _MISSING_COLUMN.search(message)
            error = FieldError(
                f"{subject}: {told}; the field was renamed, deleted or hidden from the user",
                column[1] if column else None,
            )
        case "INVALID_TYPE":
            error = ObjectError(
                f"{subject}: {told}; no such object, or hidden from the user: grant read access, or take it out of the "
                "connection"
            )
        case "INVALID_QUERY_LOCATOR":
            error = LocatorLostError(told)
        case "QUERY_TIMEOUT" | "OPERATION_TOO_LARGE":
            error = TransientError(f"{subject}: {told}", smaller=True)
        case "QUERY_TOO_COMPLICATED":
            # Too many fields or formulas for one query: what helps is what helps one that is too long.
            error = RequestTooLongError(f"{subject}: {told}")
        case "UNABLE_TO_LOCK_ROW":
            error = TransientError(f"{subject}: {told}")
        case _:
            error = ObjectError(f"{subject}: {told}; Salesforce does not accept the query for this object")
    return error


def of_login(code: object, message: str) -> SourceError:
    """The error that a failed login means: *code* as the login answered it, an HTTP status when it answered no JSON."""
    name = str(code or "")
    text = " ".join(message.split())[:200]
    told = f"Salesforce refused the login ({name}{': ' + text if text else ''})"
    error: SourceError
    if isinstance(code, int):
        error = TransientError(f"the login host answered {code} with something that is no token answer")
    elif name in ("SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION", "temporarily_unavailable", "server_error"):
        error = TransientError(told)
    elif "login rate exceeded" in f"{name} {text}".lower().replace("_", " "):
        error = TransientError(told, LOGIN_PAUSE)
    elif name == "REQUEST_LIMIT_EXCEEDED":
        error = BudgetExhaustedError(told)
    else:
        error = CredentialError(f"{told}: {_login_remedy(name, text)}")
    return error


def _login_remedy(name: str, text: str) -> str:
    for told in (text, name):
        for known, remedy in (*_REMEDIES.items(), *_REFUSED.items()):
            if known.lower() in told.lower():
                return remedy
    return "check the connection's login settings"


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """The pause that a Retry-After header asks for: whole seconds, or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return timedelta(seconds=int(value))
    moment = http_date(value)
    return None if moment is None else max(moment - now, timedelta(0))


def http_date(value: str | None) -> datetime | None:
    """The moment in an HTTP date, None when it is none."""
    if not value:
        return None

    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _code_and_message(body: object) -> tuple[str, str]:
    first: Any = body[0] if isinstance(body, list) and body else body
    if not isinstance(first, dict):
        return "", ""
    code = first.get("errorCode") or first.get("error") or ""
    message = first.get("message") or first.get("error_description") or ""
    reason = _WHERE.split(str(message), maxsplit=1)[-1]
    return str(code)[:80], " ".join(reason.split())[:300]
