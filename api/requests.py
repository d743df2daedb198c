"""What a request asks, read and checked; whatever is wrong is one problem that names the field."""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

import azure.functions as func
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from api.problems import ProblemError
from api.tokens import InvalidTokenError, Reader, TokenVerifier, VerificationUnavailableError
from messaging import codec
from messaging.times import to_text

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024


class SearchRequest(BaseModel):
    """The body of a search. Times are ISO 8601 dates or times; a date means its first moment in UTC."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")

    query: str = Field(min_length=1, max_length=2000)
    limit: int = Field(default=10, ge=1, le=100)
    types: list[str] = Field(default_factory=list, max_length=50)
    sources: list[str] = Field(default_factory=list, max_length=50)
    account: str | None = None
    after: str | None = None
    before: str | None = None


class ListRequest(BaseModel):
    """The query string of a listing of shards."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid")

    type: str | None = None
    source: str | None = None
    external_id: str | None = None
    after: str | None = None
    before: str | None = None
    include_deleted: Literal["true", "false"] = "false"
    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = None


async def authenticate(request: func.HttpRequest, tokens: TokenVerifier) -> Reader:
    """The reader whose bearer token the request carries.

    Raises:
        ProblemError: 401, there is none or it does not hold; 503, it can't be checked now.
    """
    scheme, _, token = (request.headers.get("Authorization") or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "token-missing", "send a reader token: Authorization: Bearer …")
    try:
        return await tokens.verify(token.strip())
    except InvalidTokenError as error:
        raise ProblemError(HTTPStatus.UNAUTHORIZED, "token-invalid", str(error)) from None
    except VerificationUnavailableError as error:
        log.warning("no token can be checked now: %s", error)
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, "token-unverifiable", "the token can't be checked now; try again"
        ) from None


def search_request(request: func.HttpRequest) -> SearchRequest:
    """The search that the body asks for.

    Raises:
        ProblemError: 400 or 413, with the field that is wrong.
    """
    body = request.get_body()
    if len(body) > MAX_BODY:
        raise ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", f"the most is {MAX_BODY} bytes")
    try:
        content = codec.decode(body)
    except codec.DecodeError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid-json", f"the body is no JSON: {error}") from None
    try:
        return SearchRequest.model_validate(content)
    except ValidationError as error:
        raise _invalid(error) from None


def list_request(parameters: Mapping[str, str]) -> ListRequest:
    """The listing that the query string asks for.

    Raises:
        ProblemError: 400, with the parameter that is wrong.
    """
    try:
        return ListRequest.model_validate(dict(parameters))
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> ProblemError:
    problems = "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False)
    )
    return ProblemError(HTTPStatus.BAD_REQUEST, "invalid-request", problems)


def moment(text: str | None, name: str) -> str | None:
    """An ISO date or time as it stands in shards.

    Raises:
        ProblemError: 400, it is neither.
    """
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "invalid-request", f"{name}: {text[:40]!r} is no date like 2026-11-22"
        ) from None
    return to_text(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))


def json_response(content: Mapping[str, Any], headers: Iterable[tuple[str, str]] = ()) -> func.HttpResponse:
    """A JSON answer that no cache keeps: what one reader may see, another may not."""
    return func.HttpResponse(
        codec.encode(content),
        mimetype="application/json",
        headers={"Cache-Control": "no-store", **dict(headers)},
    )
