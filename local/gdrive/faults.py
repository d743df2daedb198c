"""The faults that Google, its edge or the network answers calls with now and then."""

import json
from collections.abc import Mapping
from typing import Any

from local.gdrive.errors import bad_credentials, envelope

_HTML_502 = (
    "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p><b>502.</b> <ins>That's an error.</ins>"
    "<p>The server encountered a temporary error and could not complete your request.</html>"
)
_HTML_403 = (
    "<!DOCTYPE html><html lang=en><title>Sorry...</title><p>Our systems have detected unusual traffic from your "
    "computer network. Please try your request again later.</html>"
)
_HTML = "text/html; charset=UTF-8"
_TOKEN = "/token"  # noqa: S105 - a path
_API = "/drive/v3"


def _usage(status: int, reason: str, message: str) -> dict[str, Any]:
    return {"status": status, "body": json.dumps(envelope(status, reason, message, "usageLimits")), "path": _API}


def _global(status: int, reason: str, message: str, **place: Any) -> dict[str, Any]:
    return {"status": status, "body": json.dumps(envelope(status, reason, message, **place)), "path": _API}


def _oauth(status: int, error: str, description: str) -> dict[str, Any]:
    return {
        "status": status,
        "body": json.dumps({"error": error, "error_description": description}),
        "path": _TOKEN,
    }


KINDS: Mapping[str, Mapping[str, Any]] = {
    "user-rate-limit": _usage(403, "userRateLimitExceeded", "User Rate Limit Exceeded"),
    "rate-limit": _usage(403, "rateLimitExceeded", "Rate Limit Exceeded"),
    "too-many-requests": {**_usage(429, "rateLimitExceeded", "Rate Limit Exceeded"), "headers": {"Retry-After": "1"}},
    "daily-limit": _usage(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
    "access-not-configured": _usage(
        403, "accessNotConfigured", "Google Drive API has not been used in this project before or it is disabled."
    ),
    "download-quota": _global(
        403, "downloadQuotaExceeded", "The download quota for this file has been exceeded.", domain="usageLimits"
    ),
    "insufficient-permissions": _global(
        403, "insufficientFilePermissions", "The user does not have sufficient permissions for this file."
    ),
    "domain-policy": _global(403, "domainPolicy", "The domain administrators have disabled Drive apps."),
    "lost-page-token": {
        **_global(400, "invalid", "Invalid Value", location=("pageToken", "parameter")),
        "path": f"{_API}/changes",
    },
    "gone-page-token": {
        **_global(410, "updatedMinTooLongAgo", "The requested minimum modification time lies too far in the past."),
        "path": f"{_API}/changes",
    },
    "unknown-page-token": {**_global(404, "notFound", "Not found."), "path": f"{_API}/changes"},
    "auth-error": {"status": 401, "body": json.dumps(bad_credentials().body()), "path": _API},
    "backend-error": _global(500, "backendError", "Backend Error"),
    "internal-error": _global(500, "internalError", "Internal Error"),
    "unavailable": _global(503, "backendError", "Transient failure."),
    "bad-gateway-html": {"status": 502, "body": _HTML_502, "content_type": _HTML, "path": _API},
    "forbidden-html": {"status": 403, "body": _HTML_403, "content_type": _HTML, "path": _API},
    "no-json": {"status": 200, "body": "<html>You are offline.</html>", "path": _API},
    "token-refused": _oauth(400, "invalid_grant", "Invalid email or User ID"),
    "token-unauthorized": _oauth(
        401,
        "unauthorized_client",
        "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the "
        "scopes requested.",
    ),
    "token-policy": _oauth(400, "admin_policy_enforced", "Access to your account data is restricted by policies."),
    "token-unavailable": {"status": 503, "body": _HTML_502, "content_type": _HTML, "path": _TOKEN},
    "slow": {"delay": 1.0, "path": _API},
}
"""The vendor's faults by name, as fields of :class:`local.simulator_faults.Fault`."""
