"""The webhooks behind the local HTTP door, over files of their own and connections of two tenants, and all they did.

Two pairs of connections share an id, one pair a Slack team: only a secret tells whose a request is.
"""

import hashlib
import hmac
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from hypothesis import HealthCheck, settings
from polled_org import MovedClock
from the_app import app

from connections.connection import Connection
from connections.directory import ConnectionDirectory
from connections.gdrive_connection import DriveConnection, GoogleAuth
from connections.registry import ConnectionRegistry
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.secrets import EnvironmentSecrets, Secret, environment_variable
from connections.slack_connection import SlackAuth, SlackConnection
from ingestion.gdrive.channels import channel_token
from ingestion.webhooks import WebhookPorts
from local.home import DEFAULT_SCHEDULES
from local.host.app_index import AppIndex, index_app
from local.host.host_json import HostSettings
from local.host.http_door import HttpDoor
from local.host.invocation import Invoker
from messaging.bus import LARGEST_BODY, Message
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.sqlite_bus import SqliteMessageBus
from shards.sqlite_store import SqliteShardStore

ACME, GLOBEX = "acme", "globex"
TEAM, OTHER_TEAM, GRID_TEAM, GRID = "T061EG9R6", "T9TK3CUKW", "T0GRID001", "E0GRID001"
ORG, OTHER_ORG = "00D5g000000OPENEA4", "00DD0000000muCUMAY"
CHANNEL = "4ba78bf0-6a47-11e2-bcfd-0800200c9a66"

FUZZ_SETTING: Final = "SHARDLINE_FUZZ"
"""Environment variable: how many times the examples of an ordinary run are tried, with others each time."""
TIMES: Final = int(os.environ.get(FUZZ_SETTING, "1"))


def examples(number: int) -> settings:
    """So many examples in an ordinary run, always the same ones; `make fuzz` tries many more."""
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@dataclass
class Answer:
    """What came back. *taken* are the requests for work that were queued meanwhile."""

    status: int
    headers: dict[str, str]
    body: bytes
    taken: list[SourceWork] = field(default_factory=list)


class _Heard(logging.Handler):
    """Every line of every log, with tracebacks, as long as nobody forgets them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class _CountedSecrets(EnvironmentSecrets):
    """Secrets, and each read of one."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(environment)
        self.reads: list[tuple[str, str]] = []

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:
        self.reads.append((tenant_id, reference))
        return await super().get(tenant_id, reference, fresh=fresh)


class _CountedRegistry(ConnectionRegistry):
    """Connections, and how often all of them were listed."""

    listings = 0

    async def all(self) -> list[Connection]:
        self.listings += 1
        return await super().all()


class _WatchedBus(SqliteMessageBus):
    """The bus, and what was given to it."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.sent: list[Message] = []

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        assert queue == SOURCE_WORK
        await super().send(queue, messages, delay=delay)
        self.sent += messages


@dataclass
class Tokens:
    """Secrets by the connection that has them: ``(tenant, connection)``."""

    of: dict[tuple[str, str], str]

    def all(self) -> list[str]:
        return list(self.of.values())


_index: list[AppIndex] = []


class WebhookRig:
    """The app's own functions behind the door. Lead ``ingestion.blueprint.services`` to :meth:`services`."""

    def __init__(self, folder: Path) -> None:
        self.clock = MovedClock()
        self.seconds = 1000.0
        self.bus = _WatchedBus(folder / "bus.db", clock=self.clock)
        self.store = SqliteShardStore(folder / "store.db", clock=self.clock)
        self.registry = _CountedRegistry(self.store, clock=self.clock)
        self.environment: dict[str, str] = {}
        self.secrets = _CountedSecrets(self.environment)
        self.tokens = Tokens({})
        self.connections: dict[tuple[str, str], Connection] = {}
        self.heard = _Heard()
        self._level = logging.getLogger().level
        logging.getLogger().addHandler(self.heard)
        logging.getLogger().setLevel(logging.DEBUG)
        if not _index:
            _index.append(index_app(app, HostSettings(), environment=DEFAULT_SCHEDULES))
        self._invoker = Invoker(None, lambda: None)
        self.door = HttpDoor(_index[0], self._invoker, function_key=None)
        self.open_anew()

    def open_anew(self) -> None:
        """A process that knows nothing yet."""
        directory = ConnectionDirectory(self.registry, monotonic=lambda: self.seconds)
        self.ports = WebhookPorts(self.bus, directory, self.secrets, self.clock, lambda: self.seconds)

    def services(self) -> Any:
        """What the functions ask for."""
        return SimpleNamespace(webhooks=self.ports)

    async def close(self) -> None:
        """Give back files and threads."""
        logging.getLogger().removeHandler(self.heard)
        logging.getLogger().setLevel(self._level)
        self._invoker.close()
        await self.store.close()
        await self.bus.close()

    async def connect(self) -> None:
        """Register the connections of both tenants."""
        for tenant, name, team, grid in (
            (ACME, "chat", TEAM, None),
            (GLOBEX, "chat", OTHER_TEAM, None),
            (GLOBEX, "same-team", TEAM, None),
            (ACME, "grid", GRID_TEAM, GRID),
        ):
            auth = SlackAuth(bot_token=f"secret:{tenant}/{name}-bot", signing_secret=self._secret(tenant, name))
            await self._save(
                SlackConnection(
                    connection_id=name, tenant_id=tenant, name=name, instance=team, enterprise=grid, auth=auth
                )
            )
        for tenant, name, org in ((ACME, "sf", ORG), (GLOBEX, "sf", OTHER_ORG), (GLOBEX, "sf-other", OTHER_ORG)):
            login = SalesforceAuth(
                flow="client-credentials",
                domain="acme.my",
                consumer_key="key",
                consumer_secret=f"secret:{tenant}/{name}-consumer",
            )
            await self._save(
                SalesforceConnection(
                    connection_id=name,
                    tenant_id=tenant,
                    name=name,
                    instance=org,
                    auth=login,
                    objects=tuple(PolledObject(name=one) for one in ("Account", "Contact", "Opportunity")),
                    webhook_secrets=(self._secret(tenant, name),),
                )
            )
        for tenant, name in ((ACME, "drive"), (GLOBEX, "drive")):
            await self._save(
                DriveConnection(
                    connection_id=name,
                    tenant_id=tenant,
                    name=name,
                    instance=f"C0{tenant}",
                    auth=GoogleAuth(service_account=f"secret:{tenant}/{name}-key"),
                    push_address="https://shardline.example/api/webhooks/gdrive",
                    channel_secret=self._secret(tenant, name),
                )
            )

    async def _save(self, connection: Connection) -> None:
        self.connections[connection.tenant_id, connection.connection_id] = await self.registry.save(connection)

    def _secret(self, tenant: str, name: str) -> str:
        value = hashlib.sha256(f"{tenant}/{name}".encode()).hexdigest()[:32]
        self.tokens.of[tenant, name] = value
        self.environment[environment_variable(tenant, name)] = value
        return f"secret:{tenant}/{name}"

    # Asking

    async def post(
        self,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Sequence[tuple[str | bytes, str | bytes]] = (),
        *,
        refused: bool | None = None,
    ) -> Answer:
        """Post through the door, and hold to what always holds: see :meth:`_hold`. *path* stands after ``/api/``."""
        before = len(self.bus.sent)
        del self.heard.lines[:]
        parts = iter([body] if isinstance(body, bytes) else body)
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": f"/api/{path}",
            "raw_path": f"/api/{path}".encode("latin-1", "replace"),
            "query_string": b"",
            "headers": [(b"host", b"localhost:7071"), *((_raw(name).lower(), _raw(text)) for name, text in headers)],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 7071),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            part = next(parts, None)
            return {"type": "http.request", "body": part or b"", "more_body": part is not None}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.door(scope, receive, send)
        answer = Answer(
            sent[0]["status"],
            {name.decode("latin-1"): text.decode("latin-1") for name, text in sent[0]["headers"]},
            b"".join(message.get("body", b"") for message in sent[1:]),
        )
        self._hold(answer, self.bus.sent[before:])
        return answer

    def _hold(self, answer: Answer, messages: list[Message]) -> None:
        """Nothing fails; nothing is queued but on 2xx; what is queued fits and can be read; no secret comes out."""
        assert answer.status < 500, self.heard.lines
        assert 200 <= answer.status < 300 or not messages, "what was refused was queued"
        for message in messages:
            assert len(message.body) <= LARGEST_BODY
            assert 0 < len(message.message_id) <= 128
            answer.taken.append(SourceWork.from_bytes(message.body))
        seen = ["\n".join(self.heard.lines), repr(answer.headers), answer.body.decode("utf-8", "replace")]
        seen += [message.body.decode() for message in messages] + [message.message_id for message in messages]
        for secret in self.tokens.all():
            assert not any(secret in text for text in seen), "a secret came out"
        for name in ("Traceback", "SESSION-SECRET", "VERIFICATION-TOKEN"):
            assert not any(name in text for text in seen), f"{name} came out: {self.heard.lines}"

    # What senders make

    def slack(self, body: bytes, tenant: str = ACME, name: str = "chat", *, off: int = 0) -> list[tuple[str, str]]:
        """The headers of a delivery of Slack's, signed by a connection's app; *off* seconds from now."""
        timestamp = str(int(self.clock().timestamp()) + off)
        return [
            ("X-Slack-Request-Timestamp", timestamp),
            ("X-Slack-Signature", signature(self.tokens.of[tenant, name], timestamp, body)),
            ("Content-Type", "application/json"),
        ]

    def address(self, tenant: str = ACME, name: str = "sf") -> str:
        """Where a connection's org posts."""
        return f"webhooks/salesforce/{name}/{self.tokens.of[tenant, name]}"

    def drive(
        self, tenant: str = ACME, name: str = "drive", *, channel: str = CHANNEL, state: str = "change"
    ) -> list[tuple[str, str]]:
        """The headers of a notification of a connection's channel."""
        connection = self.connections[tenant, name]
        assert isinstance(connection, DriveConnection)
        return [
            ("X-Goog-Channel-ID", channel),
            ("X-Goog-Channel-Token", channel_token(connection, channel, Secret(self.tokens.of[tenant, name]))),
            ("X-Goog-Resource-State", state),
            ("X-Goog-Message-Number", "7"),
        ]


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Slack's, of version v0."""
    text = b"v0:" + timestamp.encode("utf-8", "surrogatepass") + b":" + body
    return "v0=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")
