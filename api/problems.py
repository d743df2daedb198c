"""Errors as RFC 9457 problem JSON: a stable type, a title and a detail for people, never a stack trace."""

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from math import ceil

import azure.functions as func

from messaging import codec

TYPE_PREFIX = "urn:shardline:problem:"


@dataclass(frozen=True, slots=True)
class ProblemError(Exception):
    """A request that can't be answered; *kind* is the stable last part of the problem's type."""

    status: HTTPStatus
    kind: str
    detail: str
    retry_after: timedelta | None = None
    """When the same request is worth another try."""

    def response(self) -> func.HttpResponse:
        """The HTTP answer."""
        body = {
            "type": TYPE_PREFIX + self.kind,
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
        }
        headers = {"WWW-Authenticate": "Bearer"} if self.status is HTTPStatus.UNAUTHORIZED else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, ceil(self.retry_after.total_seconds())))
        return func.HttpResponse(
            codec.encode(body), status_code=self.status.value, mimetype="application/problem+json", headers=headers
        )
