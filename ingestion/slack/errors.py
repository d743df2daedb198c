"""What Slack's ``ok: false`` means for whoever asked, and what to do about it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from ingestion.errors import CredentialError, SourceError, TransientError


class RefusedError(SourceError):
    """Slack refuses a call as it is: *code* is its own word (``channel_not_found``)."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"{method}: Slack answers {code}")
        self.code = code


class NoJsonError(Exception):
    """Slack, or what stands before it, answered with something else; *status* is the HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status} with a body that is no JSON")
        self.status = status


REINSTALL: Final = "install the app in the workspace again and store its new bot token under the same reference"

_CREDENTIAL: Final[Mapping[str, str]] = {
    "not_authed": "store the app's bot token (xoxb-…) under the connection's reference",
    "invalid_auth": "store the app's present bot token (xoxb-…) under the connection's reference",
    "account_inactive": f"the app's bot user or the workspace is deactivated: {REINSTALL}",
    "token_revoked": f"the app was removed or its token revoked: {REINSTALL}",
    "token_expired": "switch token rotation off in the app's settings, and store the new bot token",
    "not_allowed_token_type": "store a bot token (xoxb-…), not a user or app-level token",
    "org_login_required": "the workspace is moving into an organisation: wait for its end, then resume the connection",
    "ekm_access_denied": "ask the organisation's owners why Enterprise Key Management keeps this app out",
    "team_access_not_granted": "grant the app access to this workspace in the organisation's settings",
    "enterprise_is_restricted": "ask the organisation's owners to allow the app",
    "access_denied": "ask the workspace's owners to allow the app",
    "accesslimited": "allow this network's addresses in the app's settings (OAuth & Permissions, IP address ranges)",
    "no_permission": "ask the workspace's owners to allow the app what it asks for",
    "two_factor_setup_required": "set up two-factor authentication for the account that installed the app",
}
OF_PRIVATE_CHANNELS: Final = frozenset({"groups:read", "groups:history"})
"""Scopes that an app may be without: it sees, or reads, no private channels then."""
_PASSING: Final = frozenset(
    {
        "ratelimited", "rate_limited", "request_timeout", "service_unavailable", "internal_error", "fatal_error",
        "team_added_to_org", "fetch_members_failed",
    }
)  # fmt: skip


def error_of(method: str, status: int, body: Mapping[str, Any]) -> SourceError:
    """The error that an answer without ``ok: true`` is."""
    code = body.get("error")
    code = code[:80] if isinstance(code, str) and code else f"HTTP {status}"
    if code == "missing_scope":
        needed = str(body.get("needed", ""))[:200] or "a scope"
        if needed in OF_PRIVATE_CHANNELS:
            return RefusedError(method, code)
        return CredentialError(
            f"{method}: the bot token lacks the scope {needed}: add it in the app's settings (OAuth & Permissions),"
            f" then {REINSTALL}"
        )
    if code in _CREDENTIAL:
        return CredentialError(f"{method}: Slack answers {code}: {_CREDENTIAL[code]}")
    if code in _PASSING or status >= 500:
        return TransientError(f"{method}: Slack answers {code}")
    return RefusedError(method, code)


def retry_after(headers: Mapping[str, str]) -> timedelta:
    """How long Slack wants to be left alone; a minute where it does not say."""
    text = headers.get("retry-after", "")
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 60
    return timedelta(seconds=max(1, seconds))
