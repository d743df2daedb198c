"""A source at work as tests drive it: its simulator, its real webhook, the app's own functions and the chain behind.

Time stands still until :meth:`SourceRig.wait` moves it, here and at the vendor. A worker's process can be let die in
the moment after its events are durably queued: nothing of it is written any more, its lease stays taken.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, cast

import msgspec
import pytest
from working_rig import LANES, POLL, WorkingRig

from composition import LocalServices, Store, build_local
from connections.connection import Connection, Schedule
from connections.directory import ConnectionDirectory
from connections.secrets import EnvironmentSecrets, Secret, environment_variable
from connections.state import STATE_TYPE
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.connecting import check, establish
from ingestion.connection_memory import ConnectionMemory, memory_of
from ingestion.source import AnySource, Checked, HistoryPage, Position
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts
from messaging.bus import Message, MessageBus
from messaging.contracts import IngestionEvent
from messaging.times import utc_now
from shards.identity import shard_id
from shards.model import Shard
from shards.store import ShardQuery

TENANT = "acme"
OTHER_TENANT = "beta"
CONFIRM = timedelta(seconds=700)
"""Longer than a second listing is waited for that confirms what the first one misses."""
AFTER_A_KILL = timedelta(minutes=6)
"""Longer than a lease holds."""


MOST_PAGES = 500


class EndlessHistoryError(BaseException):
    """A first load asks for pages without end: the clock stands still, so nothing else would stop it."""


class KilledError(BaseException):
    """The worker's process ends here."""


@dataclass(frozen=True, slots=True)
class Key:
    """A record by the vendor's own words."""

    object_type: str
    external_id: str


class MortalProcess:
    """What a process writes by, until it dies."""

    def __init__(self) -> None:
        self.dies_after_events = False
        self.writes_left: int | None = None
        """How many writes it lives for; None: it lives on."""
        self.is_dead = False

    def die(self) -> None:
        """End here."""
        self.is_dead = True
        raise KilledError

    def write(self) -> None:
        """Be about to write; a dead process, or one whose time has come, does not come to it."""
        if self.is_dead or self.writes_left == 0:
            self.die()
        if self.writes_left is not None:
            self.writes_left -= 1


class WatchedBus:
    """A bus that keeps a list of the events it took, and whose process may die behind them."""

    def __init__(self, bus: MessageBus, process: MortalProcess, sent: list[Message]) -> None:
        self._bus = bus
        self._process = process
        self._sent = sent

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        self._process.write()
        await self._bus.send(queue, messages, delay=delay)
        if queue in LANES:
            self._sent.extend(messages)
            if messages and self._process.dies_after_events:
                self._process.die()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)


class WatchedStore:
    """A store that a dead process can't write to."""

    def __init__(self, store: Store, process: MortalProcess) -> None:
        self._store = store
        self._process = process

    async def write_many(self, *args: Any, **options: Any) -> Any:
        self._process.write()
        return await self._store.write_many(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class KeptSecrets:
    """Secrets as a vault's client has them: what was read once is kept, until it is asked for anew."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._secrets = EnvironmentSecrets(environment)
        self.kept: dict[tuple[str, str], Secret] = {}

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:
        key = (tenant_id, reference)
        if fresh or key not in self.kept:
            self.kept[key] = await self._secrets.get(tenant_id, reference)
        return self.kept[key]

    async def close(self) -> None:
        self.kept.clear()


class SourceRig(WorkingRig, ABC):
    """One vendor's simulator and everything that reads it. A vendor's rig says what the abstract methods ask for."""

    system: ClassVar[str]
    login_secret: ClassVar[str]
    """The name of the secret that the connection logs in with."""
    has_webhook: ClassVar[bool] = True
    """Whether the vendor pushes anything: without it the cases of pushes are left out."""
    signs_bodies: ClassVar[bool] = False
    """Whether a push's proof is of its very body and moment (a signature), or of its sender alone (a token)."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.sent: list[Message] = []
        self.secrets: dict[str, str] = {}
        self.planted: list[str] = []
        """Values that may show up nowhere."""
        self.skew = timedelta(0)
        # To the second: vendors' stamps have no more, and ties are to be made on purpose.
        start = utc_now().replace(microsecond=0) - timedelta(days=1)
        super().__init__(folder, start=start, **settings)
        self.process = MortalProcess()
        self._watch()
        self.webhooks = self._webhooks()
        self.set_vendor_clock(self.now)

    def _watch(self) -> None:
        services = self.services
        bus = cast(MessageBus, WatchedBus(services.bus, self.process, self.sent))
        store = cast(Store, WatchedStore(services.store, self.process))
        self.vault = KeptSecrets(self.secrets)
        self.services = replace(services, bus=bus, store=store, secrets=self.vault)

    def _webhooks(self) -> WebhookPorts:
        services = self.services
        directory = ConnectionDirectory(services.connections, monotonic=self.monotonic)
        return WebhookPorts(services.bus, directory, services.secrets, self.clock, self.monotonic)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.now.timestamp()

    # Time

    def wait(self, seconds: float) -> None:
        """Let time pass, here and at the vendor."""
        super().wait(seconds)
        self.set_vendor_clock(self.now + self.skew)

    def skew_clock(self, by: timedelta) -> None:
        """Let the vendor's clock be ahead of this machine's, or behind."""
        self.skew = by
        self.set_vendor_clock(self.now + by)

    @abstractmethod
    def set_vendor_clock(self, moment: datetime) -> None:
        """Let it be *moment* at the vendor, until told otherwise."""

    # The connection

    def keep(self, name: str, value: str, tenant_id: str = TENANT) -> str:
        """Plant a secret; its reference."""
        self.secrets[environment_variable(tenant_id, name)] = value
        self.planted.append(value)
        return f"secret:{tenant_id}/{name}"

    @abstractmethod
    def new_connection(self, tenant_id: str) -> Connection:
        """A connection to the simulator, its secrets planted in the tenant's space."""

    async def connect(self, tenant_id: str = TENANT, **changes: Any) -> Connection:
        """Register the connection as ``shardline connect`` does, and do what that asks for: the first poll."""
        made = msgspec.structs.replace(self.new_connection(tenant_id), **changes)
        checked = await check(made, self.services.ingestion)
        assert checked.is_usable, checked.findings
        saved = await establish(made, checked, self.services.ingestion)
        await self.work()
        return saved

    async def connection(self, tenant_id: str = TENANT) -> Connection:
        """The connection as it is stored."""
        [one] = [one for one in await self.services.connections.of_tenant(tenant_id) if one.system == self.system]
        return one

    @property
    def schedule(self) -> Schedule:
        """When these tests' connections are read."""
        return Schedule(poll_seconds=int(POLL.total_seconds()), sweep_hours=24)

    @property
    def source(self) -> AnySource:
        """The source as this process has it."""
        return self.services.sources[self.system]

    async def check(self) -> Checked:
        """Test the connection."""
        return await check(await self.connection(), self.services.ingestion)

    async def memory(self, tenant_id: str = TENANT) -> ConnectionMemory:
        """What is remembered of work against the connection."""
        return (await memory_of(await self.connection(tenant_id), self.services.states)).value

    # What happens at the vendor

    @abstractmethod
    async def create(self, text: str) -> Key:
        """Make a record of *text*."""

    @abstractmethod
    async def change(self, key: Key, text: str) -> None:
        """Let the record be of *text*."""

    @abstractmethod
    async def delete(self, key: Key) -> None:
        """Delete it as people do: it may lie in a bin."""

    @abstractmethod
    async def destroy(self, key: Key) -> None:
        """Let it be gone for good, without a word of it."""

    @abstractmethod
    def limit_rate(self, seconds: int) -> timedelta:
        """Refuse every call because there were too many, and name *seconds*; how long nobody may ask by that."""

    @abstractmethod
    def answer_with_html(self) -> None:
        """Answer every call with an error page for browsers, as the vendor's edge does on bad days."""

    @abstractmethod
    def end_faults(self) -> None:
        """Answer as ever."""

    @abstractmethod
    def revoke_credentials(self) -> None:
        """Let nobody in any more who has the connection's credentials."""

    @abstractmethod
    def restore_credentials(self) -> None:
        """Let them in again."""

    async def break_secret(self, tenant_id: str) -> None:
        """Put something that is no credential where the tenant's login is kept."""
        connection = await self.connection(tenant_id)
        self.secrets[environment_variable(tenant_id, self.login_secret)] = "planted-wrong-K2m7"
        self.planted.append("planted-wrong-K2m7")
        self.vault.kept.clear()
        self.source.forget(connection)

    @abstractmethod
    def rotate_credentials(self) -> None:
        """Let in new credentials and not the old ones, and put the new ones where secrets are kept."""

    @abstractmethod
    def withhold(self) -> None:
        """Take a permission away that reading needs, and not the login."""

    @abstractmethod
    def calls(self) -> int:
        """How many calls the vendor has been made, refused ones included."""

    def limited_calls(self) -> int:
        """How many of them were of the kind that was refused because there were too many."""
        return self.calls()

    @abstractmethod
    async def pushes(self) -> list[PushRequest]:
        """What the vendor sends for what happened since it was asked last; empty where it pushes nothing."""

    @abstractmethod
    async def take_push(self, request: PushRequest) -> PushAnswer:
        """What the source's webhook answers."""

    def with_body(self, request: PushRequest, body: bytes) -> PushRequest:
        """*request* with another body, as the vendor itself would send it: signed anew where bodies are signed."""
        return replace(request, body=body)

    async def deliver(self, times: int = 1) -> int:
        """Have the vendor push what happened, each push *times* times; how many pushes that were."""
        requests = await self.pushes()
        for _ in range(times):
            for request in requests:
                answer = await self.take_push(request)
                assert 200 <= answer.status < 300, answer
        return len(requests)

    # The work

    async def normalize(self) -> None:
        """Make shards of the events that wait."""
        await self.drain(*LANES)

    async def read(self) -> None:
        """Let the next poll be due, and do the work against the source that follows from it, but not the chain's."""
        self.wait(POLL.total_seconds() + 1)
        await self.tick()
        for _ in range(5):
            await self.work()
            self.wait(2)

    async def reconcile(self) -> None:
        """Have what is stored compared with what there is, twice."""
        for _ in range(2):
            self.wait(CONFIRM.total_seconds())
            await ask_for_sweep([await self.connection()], self.services.ingestion)
            await self.settle()

    async def load_history(self) -> None:
        """Have the first load done."""
        source, read, pages = self.source, self.source.history, 0

        async def counted(connection: Connection, position: Position | None) -> HistoryPage:
            nonlocal pages
            pages += 1
            if pages > MOST_PAGES:
                raise EndlessHistoryError(f"page {pages} of a history, at {position}")
            return await read(connection, position)

        await ask_for_history([await self.connection()], self.services.ingestion)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(source, "history", counted)
            await self.settle()

    async def history(self, position: Position | None = None) -> HistoryPage:
        """A page of the history."""
        return await self.source.history(await self.connection(), position)

    def another_worker(self) -> LocalServices:
        """The services of a second process over the same files."""
        built = build_local(self.settings, clock=self.clock)
        process = MortalProcess()
        bus = cast(MessageBus, WatchedBus(built.bus, process, self.sent))
        return replace(built, bus=bus, model=self.services.model, secrets=KeptSecrets(self.secrets))

    def die_after_events(self) -> None:
        """Let the process end right after the next events are on the bus, before anything else is written."""
        self.process.dies_after_events = True

    def die_before_write(self, number: int) -> None:
        """Let the process end when it is about to write, to bus or store, for the time of that number (from 0)."""
        self.process.writes_left = number

    async def start_again(self) -> None:
        """A new process in place of the dead one, once the dead one's lease has run out."""
        for source in self.services.sources.values():
            source.close()
        await self.services.close()
        self.process = MortalProcess()
        built = build_local(self.settings, clock=self.clock)
        self.services = replace(built, model=self.services.model)
        self.bus, self.store = self.services.queues, self.services.store
        self._watch()
        self.webhooks = self._webhooks()
        self.wait(AFTER_A_KILL.total_seconds())

    # What came of it

    def shard_id_of(self, key: Key, instance: str, tenant_id: str = TENANT) -> str:
        """The id of the record's shard."""
        return shard_id(tenant_id, self.system, instance, key.object_type, key.external_id)

    async def stored(self, key: Key, tenant_id: str = TENANT) -> Shard | None:
        """The record's shard, a tombstone too."""
        instance = (await self.connection(tenant_id)).instance
        return await self.store.get(tenant_id, self.shard_id_of(key, instance, tenant_id))

    async def texts(self, keys: Iterable[Key], tenant_id: str = TENANT) -> list[str | None]:
        """The texts of the records' live shards, None where there is none."""
        found: list[str | None] = []
        for key in keys:
            shard = await self.stored(key, tenant_id)
            found.append(self.text_of(shard) if shard is not None and shard.is_live else None)
        return found

    @abstractmethod
    def text_of(self, shard: Shard) -> str:
        """The text that its record was made of."""

    async def live(self, tenant_id: str = TENANT) -> list[Shard]:
        """All live shards of the source's records."""
        return await self._all(ShardQuery(tenant_id, system=self.system))

    async def states(self, tenant_id: str = TENANT) -> list[Shard]:
        """All live states of work against connections."""
        return await self._all(ShardQuery(tenant_id, shard_type_ids=(STATE_TYPE,)))

    async def _all(self, query: ShardQuery) -> list[Shard]:
        page = await self.store.query(query, limit=1000)
        assert page.cursor is None
        return page.items

    async def events(self) -> list[IngestionEvent]:
        """All events that were ever sent, oldest first."""
        return [IngestionEvent.from_bytes(message.body) for message in self.sent]

    async def waiting_events(self) -> list[IngestionEvent]:
        """Take the events off the bus that wait there."""
        taken: list[IngestionEvent] = []
        for lane in LANES:
            while messages := await self.receive(lane):
                taken.extend([IngestionEvent.from_bytes(message.body) for message in messages])
                await self.bus.complete(messages)
        return taken

    def everything_written(self) -> Iterable[tuple[str, bytes]]:
        """The name and bytes of every file of the data folder."""
        folder = cast(Path, self.settings.data_dir)
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                yield file.name, file.read_bytes()

    async def close(self) -> None:
        """Give back connections and files, and stop the simulator."""
        for source in self.services.sources.values():
            source.close()
        await super().close()
