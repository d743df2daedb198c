"""The faults that Slack, its edge or the network answers calls with now and then."""

from collections.abc import Mapping
from typing import Any

_HTML_503 = (
    "<!DOCTYPE html><html><head><title>Slack</title></head><body><h1>There's been a glitch…</h1>"
    "<p>We're not quite sure what went wrong. You can go back, or try looking on our status page.</p></body></html>"
)
_HTML_502 = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
_HTML = "text/html; charset=utf-8"
_JSON = "application/json; charset=utf-8"


def _error(code: str) -> str:
    return f'{{"ok":false,"error":"{code}"}}'


_ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "ratelimited": {"status": 429, "body": _error("ratelimited"), "headers": {"Retry-After": "1"}},
    "internal-error": {"status": 200, "body": _error("internal_error")},
    "fatal-error": {"status": 200, "body": _error("fatal_error")},
    "request-timeout": {"status": 200, "body": _error("request_timeout")},
    "service-unavailable": {"status": 503, "body": _error("service_unavailable")},
    "server-error": {"status": 500, "body": _error("internal_error")},
    "unavailable-html": {"status": 503, "body": _HTML_503, "content_type": _HTML},
    "bad-gateway-html": {"status": 502, "body": _HTML_502, "content_type": _HTML},
    "html-200": {"status": 200, "body": _HTML_503, "content_type": _HTML},
    "slow": {"delay": 1.0},
}

KINDS: Mapping[str, Mapping[str, Any]] = {
    kind: {"path": "/api/", "content_type": _JSON, **answer} for kind, answer in _ANSWERS.items()
}
"""The vendor's faults by name, as fields of :class:`local.simulator_faults.Fault`."""
