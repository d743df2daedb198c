"""The HTTP routes for readers and operators."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from http import HTTPStatus

import azure.functions as func

from api import reading
from api.problems import ProblemError
from api.request_span import request_span
from api.requests import authenticate, json_response, list_request, moment, search_request
from api.status import pipeline_status
from api.tokens import Reader
from composition import Services, services
from messaging.bus import BusUnavailableError
from shards.model import shard_document
from shards.request_charges import charged
from shards.store import InvalidCursorError, ShardQuery, StoreUnavailableError

log = logging.getLogger(__name__)

blueprint = func.Blueprint()

Handler = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]


def answers_problems(handler: Handler) -> Handler:
    """Turn what a handler raises into problem JSON; what nobody foresaw is logged, and told without its inside."""

    @charged
    @wraps(handler)
    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        try:
            told_by_host = services().settings.home == "azure"
            with request_span(handler.__name__, req, told_by_host=told_by_host) as answered:
                response = await _answered(handler, req)
                answered(response.status_code)
                return response
        except StoreUnavailableError as error:
            log.warning("%s: the store is away (%s)", handler.__name__, error)
            return ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", "the store does not answer; try again"
            ).response()
        except BusUnavailableError as error:
            log.warning("%s: the bus is away (%s)", handler.__name__, error)
            return ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "bus-unavailable",
                "the queues do not answer; try again",
                error.retry_after,
            ).response()
        except Exception:
            log.exception("%s failed", handler.__name__)
            return ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the request failed; the log has the reason"
            ).response()

    return answer


async def _answered(handler: Handler, req: func.HttpRequest) -> func.HttpResponse:
    try:
        return await handler(req)
    except ProblemError as problem:
        return problem.response()


@blueprint.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """Liveness: the app is up and serves."""
    return json_response({"status": "ok"})


@blueprint.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION)
@answers_problems
async def status(req: func.HttpRequest) -> func.HttpResponse:
    """The state of the pipeline."""
    return json_response(await pipeline_status(services()))


async def _reader(req: func.HttpRequest, app: Services) -> Reader:
    """Who asks, by what the tenant goes by them: a token is signed for guests, too."""
    reader = await authenticate(req, app.tokens)
    principals = await reading.principals_in(app.store, reader.tenant_id, reader.user, reader.principals)
    return replace(reader, principals=principals)


@blueprint.route(route="search", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@answers_problems
async def search(req: func.HttpRequest) -> func.HttpResponse:
    """Hybrid search over what the reader may see."""
    app = services()
    reader = await _reader(req, app)
    asked = search_request(req)
    account = await reading.find_shard(app.store, reader.tenant_id, asked.account) if asked.account else None
    if asked.account and (account is None or not await reading.readable(app.store, account, reader.principals)):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid-request", "account: there is no such account")
    return json_response(
        await reading.search(
            app.store,
            app.model,
            tenant_id=reader.tenant_id,
            text=asked.query,
            limit=asked.limit,
            principals=reader.principals,
            shard_type_ids=asked.types,
            systems=asked.sources,
            linked_to=account.id if account else None,
            updated_after=moment(asked.after, "after"),
            updated_before=moment(asked.before, "before"),
        )
    )


@blueprint.route(route="shards/{id}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@answers_problems
async def shard(req: func.HttpRequest) -> func.HttpResponse:
    """One shard, its links both ways and its chunks."""
    app = services()
    reader = await _reader(req, app)
    found = await reading.find_shard(app.store, reader.tenant_id, req.route_params["id"])
    if found is None or not await reading.readable(app.store, found, reader.principals):
        raise ProblemError(HTTPStatus.NOT_FOUND, "shard-not-found", "there is no such shard, or not for this reader")
    return json_response(await reading.describe(app.store, found, reader.principals))


@blueprint.route(route="shards", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@answers_problems
async def shards(req: func.HttpRequest) -> func.HttpResponse:
    """Shards by type, source and external id, in pages."""
    app = services()
    reader = await _reader(req, app)
    asked = list_request(req.params)
    query = ShardQuery(
        reader.tenant_id,
        shard_type_ids=(asked.type,) if asked.type else (),
        system=asked.source,
        external_id=asked.external_id,
        updated_after=moment(asked.after, "after"),
        updated_before=moment(asked.before, "before"),
        include_deleted=asked.include_deleted == "true",
        principals=reader.principals,
    )
    try:
        page = await app.store.query(query, limit=asked.limit, cursor=asked.cursor)
    except InvalidCursorError as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "invalid-request", f"cursor: {error}") from None
    return json_response({"items": [shard_document(item) for item in page.items], "cursor": page.cursor})
