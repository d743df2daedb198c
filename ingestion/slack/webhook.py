"""What Slack's Events API posts: verified over its raw bytes, durably queued, then acknowledged.

The team in the body only says whose secret to try first; the tenant is that of a connection whose secret has signed.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import islice
from typing import Any, Final
from weakref import WeakKeyDictionary

from connections.directory import ConnectionDirectory
from connections.secrets import SecretError, SecretStore, SecretsUnavailableError
from connections.slack_connection import SlackConnection
from ingestion.slack.signature import Signed, claimed
from ingestion.turns import Turns
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts, problem
from messaging import codec
from messaging.bus import LARGEST_BODY, BusUnavailableError, Message
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text
from shards.store import StoreUnavailableError

log = logging.getLogger(__name__)

LARGEST_REQUEST: Final = 1024 * 1024
"""A message has 40,000 characters at most; with its blocks, and the one before an edit, it stays far below."""
LARGEST_UNADDRESSED: Final = 8 * 1024
"""Bytes of a request that names no team and is tried with every secret there is: Slack's challenges have 200."""
DEEPEST: Final = 100
"""Levels that a body may nest in; blocks of rich text have a dozen."""
PARSED_ASIDE: Final = 128 * 1024
"""Bytes from which a body is parsed in a thread, so that others are answered meanwhile."""
KEPT_SECONDS: Final = 60.0
"""How long a signing secret is kept; one that does not fit is read anew, so a rotated one is taken up at once."""
FRESH_EVERY: Final = 5.0
"""Seconds between two fresh reads of one secret: whoever guesses must not keep the vault busy."""

NOT_AGAIN: Final = {"X-Slack-No-Retry": "1"}
"""Says that a body which is refused now would be refused again."""

_LARGEST_WORK: Final = LARGEST_BODY - 8 * 1024
_LONGEST_CHALLENGE: Final = 1000
_LONGEST_ID: Final = 200
_MOST_KEPT: Final = 50
"""Fields of an event that is too large to be queued."""
_LEFT_OUT: Final = frozenset({"token", "authed_users", "authed_teams"})
"""The deprecated verification token is a secret, the others are what ``authorizations`` says better."""


@dataclass(slots=True)
class _Memory:
    """What is kept between two requests: secrets, when each was read anew, and whose turn is when."""

    secrets: dict[tuple[str, str], tuple[float, str | None]] = field(default_factory=dict)
    fresh: dict[tuple[str, str], float] = field(default_factory=dict)
    turns: Turns = field(default_factory=Turns)


_memories: WeakKeyDictionary[ConnectionDirectory, _Memory] = WeakKeyDictionary()


async def receive(request: PushRequest, ports: WebhookPorts) -> PushAnswer:
    """Take a request to ``webhooks/slack``. 200 is Slack's "done"; anything else makes it send again, thrice, but for
    what says that it would be refused again."""
    if len(request.body) > LARGEST_REQUEST:
        return problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"The body may have {LARGEST_REQUEST} bytes at most.",
            NOT_AGAIN,
        )
    signed = claimed(request.headers, ports.clock())
    if signed is None:
        return problem(
            HTTPStatus.UNAUTHORIZED, "signature-invalid", "No signature of Slack's, or none of the last five minutes."
        )
    try:
        return await _taken(signed, request.body, ports)
    except (BusUnavailableError, StoreUnavailableError, SecretsUnavailableError) as error:
        log.warning("a delivery of Slack's could not be taken: %s", error)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "bus-unavailable", "Try again.", {"Retry-After": "10"})


async def _taken(signed: Signed, body: bytes, ports: WebhookPorts) -> PushAnswer:
    content = await _parsed(body)
    verified = await _signers(_Trial(signed, body), content, ports)
    if not verified:
        return problem(HTTPStatus.UNAUTHORIZED, "signature-invalid", "The signature fits no connection.")
    if not isinstance(content, dict):
        return problem(HTTPStatus.BAD_REQUEST, "invalid-json", "The body is no JSON object.", NOT_AGAIN)
    if content.get("type") == "url_verification":
        return _challenge(content)
    await _queue(content, body, _meant(content, verified), ports)
    return PushAnswer(HTTPStatus.OK)


def _challenge(content: Mapping[str, Any]) -> PushAnswer:
    challenge = content.get("challenge")
    if not isinstance(challenge, str) or not challenge.isprintable() or len(challenge) > _LONGEST_CHALLENGE:
        return problem(HTTPStatus.BAD_REQUEST, "invalid-request", "The challenge is no text.", NOT_AGAIN)
    return PushAnswer(HTTPStatus.OK, challenge)


async def _parsed(body: bytes) -> Any:
    """The JSON value of *body*; None when it is none, or one nested too deep."""
    try:
        if len(body) > PARSED_ASIDE:
            return await asyncio.to_thread(codec.decode_shallow, body, DEEPEST)
        return codec.decode_shallow(body, DEEPEST)
    except codec.DecodeError:
        return None


# Who has signed


@dataclass(frozen=True, slots=True)
class _Trial:
    """A body and what its headers claim, tried with each secret once: several tenants may use one app."""

    signed: Signed
    body: bytes
    fits: dict[str, bool] = field(default_factory=dict)

    def fitted_by(self, secret: str | None) -> bool:
        """Whether *secret* has signed it."""
        if secret is None:
            return False
        if secret not in self.fits:
            self.fits[secret] = self.signed.fits(self.body, secret)
        return self.fits[secret]


async def _signers(trial: _Trial, content: Any, ports: WebhookPorts) -> list[SlackConnection]:
    """The connections whose secret has signed the body, among those that it can be meant for."""
    addressed = await _addressed(content, ports.directory)
    candidates = addressed or await _anyone(content, len(trial.body), ports.directory)
    if not candidates:
        return []
    memory = _memories.setdefault(ports.directory, _Memory())
    by_secret: dict[tuple[str, str], list[SlackConnection]] = {}
    for one in candidates:
        by_secret.setdefault((one.tenant_id, one.auth.signing_secret), []).append(one)
    signers: list[SlackConnection] = []
    away: SecretsUnavailableError | None = None
    for key, connections in by_secret.items():
        try:
            if await _fits(trial, key, memory, ports, may_read_fresh=bool(addressed)):
                signers += connections
        except SecretsUnavailableError as error:
            away = error
    if not signers and away is not None:
        raise away
    return signers


async def _addressed(content: Any, directory: ConnectionDirectory) -> list[SlackConnection]:
    """The connections of the teams and of the organisation that a request names."""
    if not isinstance(content, dict):
        return []
    found = [one for team in set(_teams(content)) for one in await directory.of_instance("slack", team)]
    enterprise = _text(content, "enterprise_id")
    if enterprise is not None:
        found += [one for one in await directory.of_system("slack") if getattr(one, "enterprise", None) == enterprise]
    return list({(one.tenant_id, one.connection_id): one for one in found if isinstance(one, SlackConnection)}.values())


async def _anyone(content: Any, size: int, directory: ConnectionDirectory) -> list[SlackConnection]:
    """All connections there are, for a small request that names nobody: a challenge."""
    names_someone = isinstance(content, dict) and (_teams(content) or _text(content, "enterprise_id"))
    if names_someone or size > LARGEST_UNADDRESSED:
        return []
    return [one for one in await directory.of_system("slack") if isinstance(one, SlackConnection)]


def _teams(content: Mapping[str, Any]) -> list[str]:
    """The teams that an envelope names: whose event it is, and whose installation may see it."""
    named = [_text(content, "team_id"), _text(content, "context_team_id")]
    authorizations = content.get("authorizations")
    if isinstance(authorizations, list):
        named += [_text(one, "team_id") for one in authorizations[:2] if isinstance(one, dict)]
    return [team for team in named if team is not None]


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    return value if isinstance(value, str) and value else None


async def _fits(
    trial: _Trial, key: tuple[str, str], memory: _Memory, ports: WebhookPorts, *, may_read_fresh: bool
) -> bool:
    """Whether the secret of *key* signed the body: the one that is kept, else the one that there is now.

    What names nobody is tried with what is kept alone, or each such request would have every secret read.
    """
    now = ports.monotonic()
    read_at, secret = memory.secrets.get(key, (None, None))
    if read_at is None or now >= read_at + KEPT_SECONDS:
        secret = await _secret(key, ports.secrets, fresh=False)
        memory.secrets[key] = (now, secret)
    if trial.fitted_by(secret):
        return True
    if not may_read_fresh or now < memory.fresh.get(key, float("-inf")) + FRESH_EVERY:
        return False
    memory.fresh[key] = now
    newest = await _secret(key, ports.secrets, fresh=True)
    memory.secrets[key] = (now, newest)
    return newest != secret and trial.fitted_by(newest)


async def _secret(key: tuple[str, str], secrets: SecretStore, *, fresh: bool) -> str | None:
    tenant_id, reference = key
    try:
        return (await secrets.get(tenant_id, reference, fresh=fresh)).reveal()
    except SecretError as error:
        log.error("a signing secret of Slack's can't be had: %s", error)
        return None


# What was signed


def _meant(content: Mapping[str, Any], verified: Sequence[SlackConnection]) -> list[SlackConnection]:
    """Those of the connections that the event is of. One app, and so one secret, may be installed in many teams.

    A team of an organisation is that team of that organisation alone; an event of no team is for all of its teams. One
    that names neither is of whoever alone has this secret.
    """
    teams = set(_teams(content))
    enterprises = {_text(content, "enterprise_id")}
    authorizations = content.get("authorizations")
    if isinstance(authorizations, list):
        enterprises |= {_text(one, "enterprise_id") for one in authorizations[:2] if isinstance(one, dict)}
    enterprises.discard(None)
    if teams:
        named = [one for one in verified if one.instance in teams]
        return [one for one in named if one.enterprise is None or one.enterprise in enterprises]
    if enterprises:
        return [one for one in verified if one.enterprise in enterprises]
    return list(verified) if len(verified) == 1 else []


async def _queue(
    content: dict[str, Any], body: bytes, connections: Sequence[SlackConnection], ports: WebhookPorts
) -> None:
    """Have the event queued for each of *connections*, at once or, above a workspace's rate, when its turn comes."""
    now = ports.clock()
    memory = _memories.setdefault(ports.directory, _Memory())
    envelope = {name: value for name, value in content.items() if name not in _LEFT_OUT}
    event_id = _event_id(content, body)
    by_delay: dict[timedelta, list[Message]] = {}
    for one in connections:
        delay = memory.turns.wait(one, one.events_per_second, ports.monotonic())
        by_delay.setdefault(delay, []).append(_message(one, envelope, event_id, now))
    if not connections:
        log.warning("an event of Slack's under a known secret names no connected team: it is not kept")
    for delay, messages in by_delay.items():
        await ports.bus.send(SOURCE_WORK, messages, delay=delay or None)


def _event_id(content: Mapping[str, Any], body: bytes) -> str:
    """What tells an event apart from every other; a repeat has the same."""
    event_id = _text(content, "event_id")
    if event_id is not None:
        return f"slack|{event_id[:_LONGEST_ID]}"
    if content.get("type") == "app_rate_limited":
        return f"slack|rate|{content.get('team_id')}|{content.get('minute_rate_limited')}"[:_LONGEST_ID]
    return f"slack|body|{hashlib.sha256(body).hexdigest()}"


def _message(connection: SlackConnection, envelope: dict[str, Any], event_id: str, now: datetime) -> Message:
    """The request to take the event; a large one goes without what can be done without, or as a request to read."""
    for lean in (_whole, _lean):
        work = SourceWork(
            tenant_id=connection.tenant_id,
            connection_id=connection.connection_id,
            work="push",
            due_at=to_text(now),
            push=lean(envelope),
            event_id=event_id,
        )
        message = work.to_message(SOURCE_WORK)
        if len(message.body) <= _LARGEST_WORK:
            return message
    event = envelope.get("event")
    ids = dict(_named_records(event)) if isinstance(event, dict) else {}
    if not ids:
        # Too large to be queued, and nothing in it can be read again: what it is stays known.
        short = (
            (name, value)
            for name, value in envelope.items()
            if isinstance(value, str | int) and len(name) + len(str(value)) < _LONGEST_ID
        )
        cut = dict(islice(short, _MOST_KEPT))
        return work.model_copy(update={"push": cut | {"cut": True}}).to_message(SOURCE_WORK)
    return work.model_copy(update={"work": "read", "push": None, "ids": ids}).to_message(SOURCE_WORK)


def _whole(envelope: dict[str, Any]) -> dict[str, Any]:
    return envelope


def _lean(envelope: dict[str, Any]) -> dict[str, Any]:
    """The envelope without what a message was before, and without the blocks that its text tells, too."""
    event = envelope.get("event")
    if not isinstance(event, dict):
        return envelope
    event = {name: value for name, value in event.items() if name not in ("previous_message", "blocks", "root")}
    message = event.get("message")
    if isinstance(message, dict):
        event["message"] = {name: value for name, value in message.items() if name not in ("blocks", "root")}
    return {**envelope, "event": event}


def _named_records(event: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    channel, message, user = event.get("channel"), event.get("message"), event.get("user")
    ts = _id(message, "ts") if isinstance(message, dict) else _id(event, "ts")
    if event.get("type") == "message" and ts and (of := _id(event, "channel")):
        yield "message", [f"{of}:{ts}"]
    elif isinstance(channel, dict) and (changed := _id(channel, "id")):
        yield "channel", [changed]
    if isinstance(user, dict) and (person := _id(user, "id")):
        yield "user", [person]


def _id(holder: Mapping[str, Any], name: str) -> str | None:
    value = _text(holder, name)
    return value if value is not None and len(value) <= _LONGEST_ID else None
