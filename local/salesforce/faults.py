"""The faults that Salesforce, its edge or the network answers calls with now and then."""

import json
from collections.abc import Mapping
from typing import Any

_HTML_503 = (
    "<html><head><title>Service Unavailable</title></head><body><h1>We are down for maintenance.</h1>"
    "<p>Sorry for the inconvenience. We'll be back shortly.</p></body></html>"
)
_HTML_401 = "<html><head><title>Error</title></head><body>Unauthorized</body></html>"


def _errors(code: str, message: str) -> str:
    return json.dumps([{"message": message, "errorCode": code}])


_ANSWERS: Mapping[str, Mapping[str, Any]] = {
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

KINDS: Mapping[str, Mapping[str, Any]] = {
    kind: {"path": "/services/data", **answer} for kind, answer in _ANSWERS.items()
}
"""The vendor's faults by name, as fields of :class:`local.simulator_faults.Fault`."""
