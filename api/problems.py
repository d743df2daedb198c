"""What a reader's or operator's request can't be answered for, as problem JSON: never a stack trace."""

from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from math import ceil

import azure.functions as func

from messaging import codec
from problem_document import PROBLEM_JSON, problem_document


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
        body = codec.encode(problem_document(self.status, self.kind, self.detail))
        headers = {"WWW-Authenticate": "Bearer"} if self.status is HTTPStatus.UNAUTHORIZED else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, ceil(self.retry_after.total_seconds())))
        return func.HttpResponse(body, status_code=self.status.value, mimetype=PROBLEM_JSON, headers=headers)
