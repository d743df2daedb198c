"""Notifications of push channels: a poll now. The body is empty; all is in headers, and nothing of it is believed
before the token."""

import hmac
import logging
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus

from connections.gdrive_connection import DriveConnection
from connections.secrets import SecretError, SecretsUnavailableError
from ingestion.gdrive.channels import channel_token, connection_named_in
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts, problem
from messaging.bus import BusUnavailableError
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_milliseconds, to_milliseconds, to_text
from shards.store import StoreUnavailableError

log = logging.getLogger(__name__)

BUCKET = timedelta(seconds=2)
"""Notifications of one burst ask for one poll, at the burst's end: one that began in its middle might miss the rest."""

LARGEST_REQUEST = 64 * 1024
"""Drive sends no body; older kinds of notification have one of a few hundred bytes."""

_CHANNEL_ID = re.compile(r"[A-Za-z0-9_+/=-]{1,64}\Z")

OK = PushAnswer(200)
UNKNOWN = problem(HTTPStatus.NOT_FOUND, "channel-unknown", "There is no such channel, or the token is not its own.")
"""Drive does not send again what is answered so, nor should it."""
TOO_LARGE = problem(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", f"The body may have {LARGEST_REQUEST} bytes at most."
)
LATER = problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "The notification can't be taken now: send it again.")
"""What Drive sends again, with growing pauses."""


async def receive(request: PushRequest, ports: WebhookPorts) -> PushAnswer:
    """Ask for a poll of the connection whose channel it is, before it is answered."""
    if len(request.body) > LARGEST_REQUEST:
        return TOO_LARGE
    try:
        connection = await _connection_of(request.headers, ports)
    except (SecretsUnavailableError, StoreUnavailableError) as error:
        log.warning("a notification of Drive can't be taken now: %s", error)
        return LATER
    if connection is None:
        return UNKNOWN
    if request.headers.get("x-goog-resource-state") == "sync":
        # It only says that the channel is open.
        return OK
    now = ports.clock()
    due_at = _bucket_end(now)
    work = SourceWork(
        tenant_id=connection.tenant_id,
        connection_id=connection.connection_id,
        work="poll",
        due_at=to_text(due_at),
    )
    try:
        await ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=due_at - now)
    except BusUnavailableError as error:
        log.warning("a notification of Drive can't be queued now: %s", error)
        return LATER
    return OK


async def _connection_of(headers: Mapping[str, str], ports: WebhookPorts) -> DriveConnection | None:
    """The connection that has made the token in *headers* for the channel in them; None when none has.

    Raises:
        SecretsUnavailableError, StoreUnavailableError: it can't be told now.
    """
    channel_id, token = headers.get("x-goog-channel-id", ""), headers.get("x-goog-channel-token", "")
    named = connection_named_in(token)
    if named is None or not _CHANNEL_ID.match(channel_id):
        return None
    for connection in await ports.directory.named("gdrive", named):
        if not isinstance(connection, DriveConnection) or connection.channel_secret is None:
            continue
        try:
            secret = await ports.secrets.get(connection.tenant_id, connection.channel_secret)
        except SecretError:
            continue
        made = channel_token(connection, channel_id, secret)
        if hmac.compare_digest(made.encode(), token.encode("utf-8", "surrogatepass")):
            return connection
    return None


def _bucket_end(now: datetime) -> datetime:
    length = BUCKET // timedelta(milliseconds=1)
    return from_milliseconds((to_milliseconds(now) // length + 1) * length)
