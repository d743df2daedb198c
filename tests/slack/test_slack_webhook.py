"""The door that Slack posts to: what it takes for Slack's, what it answers, and what has been queued by then."""

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connections.connection import Connection
from connections.directory import ConnectionDirectory
from connections.secrets import Secret, SecretError, SecretsUnavailableError
from connections.slack_connection import SlackAuth, SlackConnection
from ingestion.slack.webhook import LARGEST_REQUEST, receive
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts
from messaging.bus import LARGEST_BODY, BusUnavailableError, Message
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK

SAMPLES = Path(__file__).parents[1] / "samples" / "slack"
VECTORS = json.loads((SAMPLES / "signing" / "signature_vectors.json").read_text())
SECRET = "e6b19c573432dcc6b075501d51b51bb8"
NOW = 1_700_000_000


def connection(tenant: str, team: str = "T111", *, enterprise: str | None = None, **more: Any) -> SlackConnection:
    return SlackConnection(
        connection_id=f"slack-{team.lower()}",
        tenant_id=tenant,
        name="Slack",
        instance=team,
        enterprise=enterprise,
        auth=SlackAuth(bot_token=f"secret:{tenant}/bot", signing_secret=f"secret:{tenant}/signing"),
        **more,
    )


@dataclass
class Registry:
    connections: list[Connection]
    reads: int = 0

    async def all(self) -> list[Connection]:
        self.reads += 1
        return self.connections


@dataclass
class Secrets:
    values: dict[str, str]
    fresh_reads: int = 0
    away: bool = False

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:
        self.fresh_reads += fresh
        if self.away:
            raise SecretsUnavailableError("the vault is away")
        if tenant_id not in self.values:
            raise SecretError(f"{reference} is not set")
        return Secret(self.values[tenant_id])

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class Bus:
    sent: list[tuple[Message, timedelta | None]] = field(default_factory=list)
    away: bool = False

    async def send(self, queue: str, messages: list[Message], *, delay: timedelta | None = None) -> None:
        assert queue == SOURCE_WORK
        if self.away:
            raise BusUnavailableError("the bus is away")
        self.sent += [(message, delay) for message in messages]

    @property
    def works(self) -> list[SourceWork]:
        return [SourceWork.from_bytes(message.body) for message, _ in self.sent]


class Door:
    def __init__(self, *connections: SlackConnection, secrets: dict[str, str] | None = None) -> None:
        self.registry = Registry(list(connections))
        self.secrets = Secrets(secrets or {one.tenant_id: SECRET for one in connections})
        self.bus = Bus()
        self.now = NOW
        self.seconds = 0.0
        self.ports = WebhookPorts(
            self.bus,  # type: ignore[arg-type]  # what a webhook asks of a bus
            ConnectionDirectory(self.registry, monotonic=lambda: self.seconds),  # type: ignore[arg-type]
            self.secrets,
            clock=lambda: datetime.fromtimestamp(self.now, UTC),
            monotonic=lambda: self.seconds,
        )

    async def raw(self, body: bytes, headers: dict[str, str]) -> PushAnswer:
        return await receive(PushRequest(headers, body), self.ports)

    async def post(self, content: Any, secret: str = SECRET, at: int | None = None) -> PushAnswer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.raw(body, signed(body, secret, self.now if at is None else at))


def signed(body: bytes, secret: str = SECRET, at: int = NOW) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
    return {"x-slack-request-timestamp": str(at), "x-slack-signature": f"v0={digest}"}


def envelope(team: str = "T111", event_id: str = "Ev1", **more: Any) -> dict[str, Any]:
    event = {"type": "message", "channel": "C111", "ts": "1.000001", "event_ts": "1.000001", "text": "hi", "user": "U1"}
    return {"type": "event_callback", "token": "old", "team_id": team, "event_id": event_id, "event": event, **more}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_published_and_hostile_signatures(vector: dict[str, Any]) -> None:
    door = Door(connection("acme"), secrets={"acme": vector["signing_secret"]})
    door.now = vector["now"]
    given_headers = {
        "x-slack-request-timestamp": vector["timestamp"],
        "x-slack-signature": vector["signature"],
    }
    body = vector["raw_body"].encode()
    if "T061EG9R6" in vector["raw_body"] or "T1DC2JH3J" in vector["raw_body"]:
        door.registry.connections = [connection("acme", "T061EG9R6")]
    answer = await door.raw(body, {name: value for name, value in given_headers.items() if value is not None})
    if vector["expect"] == "reject":
        assert answer.status == 401
    elif body.startswith(b"{"):
        assert answer.status == 200
    else:
        assert answer.status == 400, "a slash command's form is signed, and no event"


async def test_the_challenge_is_answered_to_whom_a_secret_has_signed() -> None:
    door = Door(connection("acme"))
    sample = (SAMPLES / "events" / "slackgo_url_verification.json").read_bytes()
    answer = await door.post(sample)
    assert (answer.status, answer.body) == (200, json.loads(sample)["challenge"])
    assert answer.content_type.startswith("text/plain")
    assert (await door.post(sample, secret="another")).status == 401
    assert (await door.post({"type": "url_verification", "challenge": {"a": 1}})).status == 400
    assert door.bus.sent == []


async def test_an_event_is_queued_for_the_connection_that_signed_before_it_is_acknowledged() -> None:
    door = Door(connection("acme"), connection("beta", "T222"), secrets={"acme": SECRET, "beta": "other"})
    assert (await door.post(envelope())).status == 200
    [work] = door.bus.works
    assert (work.tenant_id, work.connection_id, work.work) == ("acme", "slack-t111", "push")
    assert work.push is not None and "token" not in work.push
    assert work.event_id == "slack|Ev1"
    # The team in the body is whose secret is tried, and nothing else.
    assert (await door.post(envelope("T222"))).status == 401
    assert (await door.post(envelope("T999"))).status == 401
    assert len(door.bus.sent) == 1
    assert door.registry.reads == 1, "the store is not asked for each event"


async def test_a_repeat_has_the_id_of_the_first() -> None:
    door = Door(connection("acme"))
    retries = json.loads((SAMPLES / "http" / "delivery_headers.json").read_text())
    body = json.dumps(envelope()).encode()
    for name in ("first", "retry_1", "retry_2", "retry_3"):
        door.now += 60
        more = {key.lower(): value for key, value in retries[name].items() if not key.startswith("X-Slack-S")}
        assert (await door.raw(body, {**more, **signed(body, at=door.now)})).status == 200
    assert len({message.message_id for message, _ in door.bus.sent}) == 1


async def test_a_bus_that_is_away_makes_slack_send_again() -> None:
    door = Door(connection("acme"))
    door.bus.away = True
    answer = await door.post(envelope())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    door.bus.away = False
    assert (await door.post(envelope())).status == 200


async def test_a_vault_that_is_away_is_no_wrong_signature() -> None:
    door = Door(connection("acme"))
    door.secrets.away = True
    assert (await door.post(envelope())).status == 503


async def test_a_rotated_secret_is_taken_up_without_a_restart() -> None:
    door = Door(connection("acme"))
    assert (await door.post(envelope())).status == 200
    door.secrets.values["acme"] = "the new one"
    assert (await door.post(envelope(), secret="the new one")).status == 200
    assert (await door.post(envelope())).status == 401, "the old one is over"
    before = door.secrets.fresh_reads
    for _ in range(50):
        assert (await door.post(envelope(), secret="guess")).status == 401
    assert door.secrets.fresh_reads <= before + 1, "whoever guesses does not keep the vault busy"


async def test_one_app_of_several_tenants_tells_each_its_own() -> None:
    door = Door(connection("acme"), connection("beta", "T222"))
    await door.post(envelope("T222"))
    shared = envelope("T333", authorizations=[{"team_id": "T111", "enterprise_id": None, "is_bot": True}])
    await door.post(shared)
    assert [work.tenant_id for work in door.bus.works] == ["beta", "acme"]


async def test_an_event_that_names_nobody_is_of_the_only_one_with_its_secret() -> None:
    unnamed = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "odd"}}
    door = Door(connection("acme"), connection("beta", "T222"))
    assert (await door.post(unnamed)).status == 200
    assert door.bus.works == [], "it may be the other tenant's"
    alone = Door(connection("acme"))
    await alone.post(unnamed)
    assert [work.tenant_id for work in alone.bus.works] == ["acme"]


async def test_an_organisation_is_known_by_its_own_id_and_the_teams() -> None:
    door = Door(connection("acme", enterprise="E111"), connection("beta", "T222", enterprise="E222"))
    await door.post(envelope(enterprise_id="E111"))
    assert [work.tenant_id for work in door.bus.works] == ["acme"]
    await door.post(envelope(event_id="Ev2", enterprise_id="E999"))
    assert len(door.bus.works) == 1, "this team of another organisation is another's"
    await door.post(json.loads((SAMPLES / "events" / "bolt_tokens_revoked.json").read_text()))
    assert [work.tenant_id for work in door.bus.works] == ["acme", "acme"], (
        "an event of no team is for all of its teams"
    )


async def test_what_is_above_the_rate_waits_its_turn_and_no_other_does() -> None:
    door = Door(connection("acme", events_per_second=10.0), connection("beta", "T222"))
    for number in range(700):
        assert (await door.post(envelope(event_id=f"Ev{number}"))).status == 200
    await door.post(envelope("T222"))
    delays = [delay for _, delay in door.bus.sent]
    assert len(delays) == 701, "nothing is dropped"
    assert delays[0] is None and delays[-1] is None
    waits = [delay.total_seconds() for delay in delays[:-1] if delay is not None]
    assert waits == sorted(waits) and 38 <= waits[-1] <= 41, "ten a second after the first half minute's worth"
    door.seconds += 200
    await door.post(envelope(event_id="later"))
    assert door.bus.sent[-1][1] is None


async def test_large_bodies_and_deep_json_are_refused_early() -> None:
    door = Door(connection("acme"))
    assert (await door.post(b"x" * (LARGEST_REQUEST + 1))).status == 413
    deep = b'{"team_id":"T111","event":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert (await door.post(deep)).status in (400, 401)
    assert (await door.post(b'{"type": "event_callback"')).status == 400, "signed, and no JSON"
    assert (await door.post(b"\xff\xfe")).status == 400
    assert (await door.post(b"[]")).status == 400
    assert door.bus.sent == []


async def test_slack_is_asked_to_send_again_only_what_may_be_taken_then() -> None:
    door = Door(connection("acme"))
    challenge = {"type": "url_verification", "challenge": ["x"]}
    for content in (b"x" * (LARGEST_REQUEST + 1), b"[]", challenge):
        assert (await door.post(content)).headers["X-Slack-No-Retry"] == "1"
    door.bus.away = True
    assert "X-Slack-No-Retry" not in (await door.post(envelope())).headers
    assert "X-Slack-No-Retry" not in (await door.post(envelope(), secret="rotated and not stored yet")).headers


async def test_what_is_too_large_for_the_bus_goes_lean_or_is_read() -> None:
    door = Door(connection("acme"))
    before = envelope()
    before["event"] |= {"subtype": "message_changed", "previous_message": {"text": "x" * 300_000}}
    before["event"]["message"] = {"ts": "1.000001", "text": "short", "blocks": ["y" * 100_000]}
    whole = envelope(event_id="Ev2")
    whole["event"]["text"] = "z" * 300_000
    nothing = envelope(event_id="Ev3", event={"type": "odd", "data": "z" * 300_000})
    for content in (before, whole, nothing):
        assert (await door.post(content)).status == 200
    assert all(len(message.body) <= LARGEST_BODY for message, _ in door.bus.sent)
    lean, read, cut = door.bus.works
    assert lean.push is not None and lean.push["event"]["message"] == {"ts": "1.000001", "text": "short"}
    assert (read.work, read.ids) == ("read", {"message": ["C111:1.000001"]})
    assert cut.push is not None and cut.push["cut"] is True


def samples() -> list[Path]:
    return sorted([*(SAMPLES / "events").glob("*.json"), *(SAMPLES / "events_shape").glob("*.json")])


@pytest.mark.parametrize("sample", samples(), ids=lambda path: path.stem)
async def test_every_recorded_payload_is_taken(sample: Path) -> None:
    """Inner events alone, and shapes with blank values, name no team: they are of the only one with this secret."""
    body = sample.read_bytes()  # noqa: ASYNC240 - a small file
    content = json.loads(body)
    named = content.get("team_id") or (content.get("authorizations") or [{}])[0].get("team_id")
    door = Door(
        connection("acme", named or "T111", enterprise=content.get("enterprise_id") or None if not named else None)
    )
    answer = await door.post(body)
    assert answer.status == 200
    if content.get("type") == "url_verification":
        assert door.bus.works == []
    else:
        [work] = door.bus.works
        assert work.push == {
            name: value for name, value in content.items() if name not in ("token", "authed_users", "authed_teams")
        }


header_values = st.text(max_size=80) | st.sampled_from(
    ["0", "-1", "1e9", "١٢٣", f"{NOW}, {NOW}", "v0=", "v0=" + "a" * 64]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)
NAMES = ("type", "team_id", "enterprise_id", "context_team_id", "authorizations", "event", "event_id", "challenge")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), header_values, header_values)
async def test_no_forgery_is_taken_and_none_breaks_the_door(body: bytes, timestamp: str, signature: str) -> None:
    door = Door(connection("acme"))
    headers = {"x-slack-request-timestamp": timestamp, "x-slack-signature": signature}
    assert (await door.raw(body, headers)).status == 401
    assert door.bus.sent == []


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), json_values | st.sampled_from(["T111", "url_verification", "E1"])))
async def test_whatever_is_signed_has_an_answer(content: dict[str, Any]) -> None:
    door = Door(connection("acme"))
    assert (await door.post(content)).status in (200, 400, 401)


def test_a_connection_shows_no_secret() -> None:
    assert SECRET not in repr(msgspec.to_builtins(connection("acme")))
