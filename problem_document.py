"""The body of an error over HTTP, RFC 9457, whoever answers: the API, a webhook, or the local host before either."""

from http import HTTPStatus
from typing import Any, Final

PROBLEM_JSON: Final = "application/problem+json"
"""The content type of the document."""


def problem_document(status: HTTPStatus, kind: str, detail: str) -> dict[str, Any]:
    """The document; *kind* is the stable last part of its type, *detail* is for people and holds no secret."""
    return {
        "type": f"urn:shardline:problem:{kind}",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
    }
