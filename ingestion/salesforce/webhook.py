"""What Salesforce posts to a connection's own address: Outbound Messages, callouts of flows and Apex, change events.

The address is the secret, since none of these is signed. What comes is only a hint at which records changed; it is
answered once the request to read them is durably queued.
"""

import asyncio
import hmac
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b, sha256
from http import HTTPStatus
from typing import Any, Final
from weakref import WeakKeyDictionary

from connections.directory import ConnectionDirectory
from connections.salesforce_connection import SalesforceConnection
from connections.secrets import SecretError, SecretStore, SecretsUnavailableError
from ingestion.salesforce.events import SYSTEM
from ingestion.salesforce.outbound_message import (
    ACK,
    FAULT,
    NO_ACK,
    Notification,
    NotOutboundMessageError,
    parse_outbound_message,
)
from ingestion.salesforce.pushed_json import Pushed, TooManyRecordsError, find_records, without_sessions
from ingestion.turns import Turns
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts, problem
from messaging import codec, tracing
from messaging.bus import LARGEST_BODY, BusUnavailableError, Message
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_milliseconds, to_milliseconds, to_text
from shards.store import StoreUnavailableError

log = logging.getLogger(__name__)

LARGEST_REQUEST: Final = 10 * 1024 * 1024
"""A hundred records with all their fields are a few megabytes."""
LARGEST_KEPT: Final = LARGEST_BODY // 2
"""Bytes of a body that is kept for people because it names no record."""
IDS_A_WORK: Final = 200
LONGEST_KEY: Final = 300
"""Characters of a change event's own key that go into the request as they are: a transaction key has 36."""
BUCKET: Final = timedelta(seconds=2)
"""Callouts about the same records within one are one request, made when it ends: it misses nothing that they tell."""
WORKS_A_SECOND: Final = 20.0
"""Requests of one connection that go into the queue at once, about what a process reads: a load of 50,000 records that
the org tells one by one waits behind itself, and not in front of what others push."""
REMEMBERED: Final = 20_000
"""Notification ids that a process remembers."""
FRESH_EVERY: Final = 5.0
"""Seconds between two fresh reads of a connection's secrets: whoever guesses must not keep the vault busy."""
DEEPEST_JSON: Final = 100
"""Levels that are read at all; records are found in far fewer."""
PARSED_ASIDE: Final = 256 * 1024
"""Bytes from which a body is parsed in a thread, so that others are answered meanwhile."""

_XML: Final = "text/xml; charset=utf-8"

_acknowledged: WeakKeyDictionary[ConnectionDirectory, OrderedDict[tuple[str, str, str], None]] = WeakKeyDictionary()
"""Notifications of which a request to read is queued: Salesforce repeats them one by one or among others."""

_turns: WeakKeyDictionary[ConnectionDirectory, Turns] = WeakKeyDictionary()

_Asked = tuple[SalesforceConnection, Message]
"""A request for source work, and whose it is."""

_fresh_reads: WeakKeyDictionary[SecretStore, dict[tuple[str, str], float]] = WeakKeyDictionary()


async def receive(request: PushRequest, ports: WebhookPorts) -> PushAnswer:
    """Take a request to ``webhooks/salesforce/{connectionId}/{secret}``; the answer is made for who sends it."""
    try:
        connections = await _addressed(request.route, ports)
        if not connections:
            return problem(HTTPStatus.NOT_FOUND, "no-such-route", "There is no such route.")
        if len(request.body) > LARGEST_REQUEST:
            return problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body-too-large",
                f"The body may have {LARGEST_REQUEST} bytes at most.",
            )
        kind = request.headers.get("content-type", "").lower()
        if "xml" in kind or request.body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
            return await _receive_message(request.body, connections, ports)
        if kind and "json" not in kind:
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", "Send XML (an Outbound Message) or JSON.")
        return await _receive_json(request.body, connections, ports)
    except (BusUnavailableError, StoreUnavailableError, SecretsUnavailableError) as error:
        log.warning("a push of Salesforce could not be taken: %s", error)
        return _away(request)


def _away(request: PushRequest) -> PushAnswer:
    headers = {"Retry-After": "10"}
    if "xml" in request.headers.get("content-type", "").lower():
        return PushAnswer(HTTPStatus.SERVICE_UNAVAILABLE, NO_ACK, _XML, headers)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "bus-unavailable", "Try again.", headers)


async def _receive_message(body: bytes, connections: Sequence[SalesforceConnection], ports: WebhookPorts) -> PushAnswer:
    try:
        message = await _parsed(parse_outbound_message, body)
    except NotOutboundMessageError as error:
        log.warning("connection %s: an Outbound Message was refused: %s", connections[0].connection_id, error)
        return PushAnswer(HTTPStatus.BAD_REQUEST, FAULT, _XML)
    if any(not one.instance for one in connections):
        # Whose message it is can't be told before the first login; Salesforce sends it again for a day.
        return PushAnswer(HTTPStatus.SERVICE_UNAVAILABLE, NO_ACK, _XML, {"Retry-After": "60"})
    meant = [one for one in connections if _is_of(one, message.organization_id)]
    if not meant:
        log.warning("connection %s: a message of another org was refused", connections[0].connection_id)
        return PushAnswer(HTTPStatus.FORBIDDEN, FAULT, _XML)
    known = _acknowledged.setdefault(ports.directory, OrderedDict())
    fresh = {
        (one.tenant_id, one.connection_id, told.id): (one, told)
        for one in meant
        for told in message.notifications
        if one.wants(told.object_type) and (one.tenant_id, one.connection_id, told.id) not in known
    }
    works = [
        (one, work)
        for one in meant
        if (work := _work_of_notifications(one, [told for of, told in fresh.values() if of is one], ports.clock()))
    ]
    await _queue(works, ports)
    known.update(dict.fromkeys(fresh))
    while len(known) > REMEMBERED:
        known.popitem(last=False)
    return PushAnswer(HTTPStatus.OK, ACK, _XML)


def _work_of_notifications(
    connection: SalesforceConnection, notifications: Sequence[Notification], now: datetime
) -> Message | None:
    """One request for all: the same notifications again are the same request, to whichever process they come."""
    if not notifications:
        return None
    ids: dict[str, list[str]] = {}
    for one in notifications:
        ids.setdefault(one.object_type, []).append(one.record_id)
    return _work(connection, now, ids=ids, event_id=f"message:{_digest(*sorted(one.id for one in notifications))}")


async def _receive_json(body: bytes, connections: Sequence[SalesforceConnection], ports: WebhookPorts) -> PushAnswer:
    now = ports.clock()
    objects = {polled.name.lower(): polled.name for one in connections for polled in one.objects}

    def parse(text: bytes) -> tuple[Any, Pushed]:
        read = codec.decode_shallow(text, DEEPEST_JSON)
        return read, find_records(read, objects, now)

    try:
        content, pushed = await _parsed(parse, body)
    except codec.DecodeError:
        return problem(HTTPStatus.BAD_REQUEST, "invalid-json", "The body is no JSON, or more than anyone sends.")
    except TooManyRecordsError as error:
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", f"The body is refused: {error}.")
    meant = [one for one in connections if all(_is_of(one, org) for org in pushed.org_ids)]
    if not meant:
        log.warning("connection %s: a push of another org was refused", connections[0].connection_id)
        return problem(HTTPStatus.FORBIDDEN, "wrong-organization", "This address is of another org.")
    if not pushed.changes and not pushed.records:
        return await _keep_unknown(content, pushed, meant, ports)
    at_once: list[_Asked] = []
    later: list[_Asked] = []
    ignored: dict[str, int] = {}
    bucket = -(-to_milliseconds(now) // 2000) * 2000
    due = from_milliseconds(bucket)
    for one in meant:
        at_once += [(one, work) for work in _works_of_changes(one, pushed, now, ignored)]
        later += [(one, work) for work in _works_of_records(one, pushed, due, ignored)]
    await _queue(at_once, ports)
    await _queue(later, ports, not_before=max(due - now, timedelta(0)))
    taken = pushed.named - sum(ignored.values())
    answer: dict[str, Any] = {"taken": taken, "ignored": ignored}
    if pushed.unreadable:
        answer["unreadable"] = pushed.unreadable
    return PushAnswer(HTTPStatus.ACCEPTED, codec.encode(answer).decode(), "application/json")


def _works_of_changes(
    connection: SalesforceConnection, pushed: Pushed, now: datetime, ignored: dict[str, int]
) -> list[Message]:
    works = []
    for change in pushed.changes:
        if not connection.wants(change.object_type):
            ignored[change.object_type] = ignored.get(change.object_type, 0) + max(len(change.ids), 1)
            continue
        key = change.key or _digest(change.object_type, *sorted(change.ids), to_text(now))
        key = key if len(key) <= LONGEST_KEY else _digest(key)
        if change.everything_since:
            works.append(
                _work(
                    connection,
                    now,
                    ids={change.object_type: []},
                    event_id=f"change:{key}:all",
                    push={"everythingSince": change.everything_since},
                )
            )
        for start in range(0, len(change.ids), IDS_A_WORK):
            ids = {change.object_type: list(change.ids[start : start + IDS_A_WORK])}
            works.append(_work(connection, now, ids=ids, event_id=f"change:{key}:{start}"))
    return works


def _works_of_records(
    connection: SalesforceConnection, pushed: Pushed, due: datetime, ignored: dict[str, int]
) -> list[Message]:
    works = []
    for object_type, ids in sorted(pushed.records.items()):
        if object_type and not connection.wants(object_type):
            ignored[object_type] = ignored.get(object_type, 0) + len(ids)
            continue
        ordered = sorted(ids)
        for start in range(0, len(ordered), IDS_A_WORK):
            part = ordered[start : start + IDS_A_WORK]
            event_id = f"hint:{_digest(object_type, *part)}:{to_text(due)}"
            works.append(_work(connection, due, ids={object_type: part}, event_id=event_id))
    return works


async def _keep_unknown(
    content: Any, pushed: Pushed, connections: Sequence[SalesforceConnection], ports: WebhookPorts
) -> PushAnswer:
    """JSON that names no record: kept where people look, if it says anything at all."""
    kept = without_sessions(content)
    body = codec.encode(kept)
    if not isinstance(kept, dict | list) or not kept or pushed.unreadable or len(body) > LARGEST_KEPT:
        return problem(HTTPStatus.BAD_REQUEST, "invalid-request", "The body names no record by a Salesforce id.")
    push = kept if isinstance(kept, dict) else {"items": kept}
    event_id = f"unknown:{_digest(body.decode())}"
    works = [(one, _work(one, ports.clock(), push=push, event_id=event_id, kind="push")) for one in connections]
    await _queue(works, ports)
    return PushAnswer(HTTPStatus.ACCEPTED, '{"taken":0,"kept":true}', "application/json")


async def _queue(works: Sequence[_Asked], ports: WebhookPorts, not_before: timedelta = timedelta(0)) -> None:
    """Have what the connections are asked for done, at once or, above a connection's rate, when its turn comes."""
    turns = _turns.setdefault(ports.directory, Turns())
    by_delay: dict[timedelta, list[Message]] = {}
    for connection, work in works:
        turn = turns.wait(connection, WORKS_A_SECOND, ports.monotonic())
        by_delay.setdefault(max(turn, not_before), []).append(work)
    for delay, messages in by_delay.items():
        await ports.bus.send(SOURCE_WORK, messages, delay=delay or None)


def _work(
    connection: SalesforceConnection,
    due: datetime,
    *,
    event_id: str,
    ids: dict[str, list[str]] | None = None,
    push: dict[str, Any] | None = None,
    kind: str = "read",
) -> Message:
    work = SourceWork(
        tenant_id=connection.tenant_id,
        connection_id=connection.connection_id,
        work="push" if kind == "push" else "read",
        due_at=to_text(due),
        ids=ids or {},
        push=push,
        event_id=event_id,
        traceparent=tracing.new_trace(SOURCE_WORK, connection.tenant_id),
    )
    return work.to_message(SOURCE_WORK)


def _is_of(connection: SalesforceConnection, org_id: str) -> bool:
    """Whether the org is the connection's: old and new messages agree on the first 15 characters."""
    return len(org_id) in (15, 18) and hmac.compare_digest(
        org_id[:15].encode(errors="replace"), connection.instance[:15].encode()
    )


async def _parsed(parse: Callable[[bytes], Any], body: bytes) -> Any:
    if len(body) < PARSED_ASIDE:
        return parse(body)
    return await asyncio.to_thread(parse, body)


async def _addressed(route: Any, ports: WebhookPorts) -> list[SalesforceConnection]:
    """The connections of this address; none when the secret is no one's."""
    given = sha256(str(route.get("secret", "")).encode(errors="surrogatepass")).digest()
    named = await ports.directory.named(SYSTEM, str(route.get("connectionId", "")))
    candidates = [one for one in named if isinstance(one, SalesforceConnection) and one.webhook_secrets]
    found = [one for one in candidates if await _knows(one, given, ports, fresh=False)]
    if found:
        return found
    fresh = [one for one in candidates if _may_read_fresh(one, ports)]
    return [one for one in fresh if await _knows(one, given, ports, fresh=True)]


async def _knows(connection: SalesforceConnection, given: bytes, ports: WebhookPorts, *, fresh: bool) -> bool:
    """Whether the connection has the secret. All are compared, whichever fits."""
    knows = False
    for reference in connection.webhook_secrets:
        try:
            secret = await ports.secrets.get(connection.tenant_id, reference, fresh=fresh)
        except SecretError as error:
            log.warning("connection %s: a webhook secret can't be had: %s", connection.connection_id, error)
            continue
        knows |= hmac.compare_digest(sha256(secret.reveal().encode()).digest(), given)
    return knows


def _may_read_fresh(connection: SalesforceConnection, ports: WebhookPorts) -> bool:
    reads = _fresh_reads.setdefault(ports.secrets, {})
    key = (connection.tenant_id, connection.connection_id)
    now, last = ports.monotonic(), reads.get(key)
    if last is not None and now - last < FRESH_EVERY:
        return False
    reads[key] = now
    return True


def _digest(*parts: str) -> str:
    return blake2b("\x1f".join(parts).encode(errors="surrogatepass"), digest_size=16).hexdigest()
