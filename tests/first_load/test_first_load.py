"""A first load goes on where it stopped, never outruns the chain, and says what it waits for."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connections.slack_connection import SlackAuth, SlackConnection
from connections.state import StateMovedError, StateStore
from ingestion.errors import BudgetExhaustedError, CredentialError, TransientError
from ingestion.first_load import FirstLoadPorts, LoadBusyError, LoadStep, load_pages, note_asked
from ingestion.history_memory import HistoryNotes, load_memory, remaining_seconds
from ingestion.source import HistoryPage, Position
from messaging.contracts import IngestionEvent, ShardEmission, SourceWork
from messaging.queues import INGESTION_EVENTS_BULK, SHARD_EMISSION, SOURCE_WORK
from messaging.sqlite_bus import SqliteMessageBus
from messaging.times import to_text, utc_now
from processors.backpressure import MOST_UNFINISHED, unfinished_events
from shards.sqlite_store import SqliteShardStore

CONNECTION = SlackConnection(
    connection_id="slack",
    tenant_id="acme",
    name="Slack",
    auth=SlackAuth(bot_token="secret:acme/bot", signing_secret="secret:acme/signing"),
)


def history_event(number: int) -> IngestionEvent:
    """The event of one record of a history."""
    return IngestionEvent(
        tenant_id="acme",
        source="slack",
        source_id=f"C1:{number}",
        event_type="create",
        observed_at="2026-03-02T09:00:00.000Z",
        payload={"ts": str(number)},
        source_version=str(number),
    )


@dataclass
class History:
    """A history of so many records, in pages of a size, that fails where it is told to."""

    records: int
    size: int
    fails: dict[int, Exception] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    async def __call__(self, position: Position | None) -> HistoryPage:
        at = int(position["at"]) if position else 0
        self.asked.append(at)
        if at in self.fails:
            raise self.fails.pop(at)
        end = min(at + self.size, self.records)
        return HistoryPage(
            [history_event(number) for number in range(at, end)],
            {"at": end} if end < self.records else None,
            total=self.records,
        )


@dataclass
class Loading:
    """The bus and the store of a first load."""

    folder: Path
    seen: list[HistoryNotes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bus = SqliteMessageBus(self.folder / "bus.db")
        self.store = SqliteShardStore(self.folder / "store.db")
        self.ports = FirstLoadPorts(self.bus, StateStore(self.store))

    async def load(self, history: History, seconds: float = 60) -> LoadStep:
        """Drive the load once."""
        deadline = utc_now() + timedelta(seconds=seconds)
        return await load_pages(CONNECTION, history, self.ports, deadline=deadline, seen=self.seen.append)

    async def digest(self, most: int = 10_000) -> list[str]:
        """Take up to *most* events off the bulk lane: their records."""
        taken: list[str] = []
        while len(taken) < most:
            messages = await self.bus.receive(INGESTION_EVENTS_BULK, max_messages=min(500, most - len(taken)))
            if not messages:
                break
            taken += [IngestionEvent.from_bytes(message.body).source_id for message in messages]
            await self.bus.complete(messages)
        return taken

    async def close(self) -> None:
        """Close the files."""
        await self.bus.close()
        await self.store.close()


@pytest.fixture
async def loading(tmp_path: Path) -> AsyncIterator[Loading]:
    made = Loading(tmp_path)
    yield made
    await made.close()


async def test_fewer_than_two_thousand_events_are_ever_unfinished(loading: Loading) -> None:
    history = History(records=4500, size=700)
    taken: list[str] = []
    most = 0
    while (step := await loading.load(history)).again_in is not None:
        unfinished = unfinished_events(await loading.bus.depths())
        most = max(most, unfinished)
        assert unfinished < MOST_UNFINISHED
        assert "to digest" in str(step.notes.waiting_for)
        taken += await loading.digest(900)
    taken += await loading.digest()

    assert sorted(taken) == sorted(f"C1:{number}" for number in range(4500))
    assert most > MOST_UNFINISHED - 700
    assert step.notes.records == step.notes.total == 4500
    assert step.notes.waiting_for is None
    assert (await loading.load(history)).again_in is None
    assert await loading.digest() == []


async def test_a_page_larger_than_the_room_there_ever_is_comes_to_its_end(loading: Loading) -> None:
    history = History(records=4500, size=4500)
    taken: list[str] = []
    for _ in range(4):
        step = await loading.load(history)
        taken += await loading.digest()
        if step.again_in is None:
            break
    assert step.again_in is None
    assert sorted(taken) == sorted(f"C1:{number}" for number in range(4500))
    assert history.asked == [0, 0, 0]
    assert step.notes.sent == ()


async def test_what_a_page_makes_necessary_is_asked_for_when_it_is_due(loading: Loading) -> None:
    soon, past = (to_text(utc_now() + timedelta(hours=hours)) for hours in (1, -1))
    asked = [
        SourceWork(tenant_id="acme", connection_id="slack", work="read", due_at=due_at, event_id=due_at)
        for due_at in (soon, past)
    ]

    async def history(_: Position | None) -> HistoryPage:
        return HistoryPage([], None, later=asked)

    await load_pages(CONNECTION, history, loading.ports, deadline=utc_now() + timedelta(minutes=1))
    depth = (await loading.bus.depths())[SOURCE_WORK]
    assert (depth.active, depth.scheduled) == (1, 1)


async def test_a_load_that_is_asked_for_anew_overtakes_the_one_under_way(loading: Loading) -> None:
    class Overtaken(History):
        async def __call__(self, position: Position | None) -> HistoryPage:
            if position is not None:
                await note_asked(CONNECTION, loading.ports, anew=True)
            return await super().__call__(position)

    with pytest.raises(StateMovedError):
        await loading.load(Overtaken(20, 10))
    notes = (await load_memory(CONNECTION, loading.ports.states)).metadata
    assert (notes.records, notes.position, notes.began_at) == (0, None, None)
    assert notes.asked_at is not None


async def test_later_stages_count_as_unfinished_too(loading: Loading) -> None:
    emission = ShardEmission(
        tenant_id="other", shard_id="sh_x", shard_type_id="c_message", revision=1, change_type="create"
    )
    messages = [emission.to_message(SHARD_EMISSION, generation=number) for number in range(MOST_UNFINISHED)]
    await loading.bus.send(SHARD_EMISSION, messages)

    step = await loading.load(history := History(records=5, size=5))

    assert step.again_in is not None
    assert history.asked == []
    assert "the chain" in str((await load_memory(CONNECTION, loading.ports.states)).metadata.waiting_for)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.sets(st.integers(0, 59), max_size=4))
async def test_a_load_that_breaks_off_goes_on_with_the_page_it_was_in(
    tmp_path_factory: pytest.TempPathFactory, records: int, size: int, broken: set[int]
) -> None:
    loading = Loading(tmp_path_factory.mktemp("load"))
    try:
        starts = [at for at in sorted(broken) if at % size == 0 and at < records]
        history = History(records, size, fails={at: RuntimeError("killed") for at in starts})
        for _ in starts:
            with pytest.raises(RuntimeError, match="killed"):
                await loading.load(history)
        assert (await loading.load(history)).again_in is None
        assert sorted(await loading.digest()) == sorted(f"C1:{number}" for number in range(records))
        assert sorted(history.asked) == sorted([*range(0, records, size), *starts])
    finally:
        await loading.close()


async def test_what_the_source_makes_it_wait_for_is_told(loading: Loading) -> None:
    history = History(30, 10, fails={10: TransientError("Slack asks for 42 s of rest", timedelta(seconds=42))})
    step = await loading.load(history)
    assert step.again_in == timedelta(seconds=42)
    assert step.notes.waiting_for == "Slack asks for 42 s of rest"

    until = utc_now() + timedelta(minutes=20)
    history.fails = {10: BudgetExhaustedError("the day's calls are used up", until)}
    step = await loading.load(history)
    assert step.again_in is not None
    assert timedelta(minutes=19) < step.again_in <= timedelta(minutes=20)
    assert "calls left" in str(step.notes.waiting_for)

    assert (await loading.load(history)).again_in is None
    assert [notes.records for notes in loading.seen if notes.waiting_for is None][-3:] == [10, 20, 30]


async def test_without_credentials_it_stops_where_it_is(loading: Loading) -> None:
    with pytest.raises(CredentialError):
        await loading.load(History(30, 10, fails={10: CredentialError("token revoked: install the app again")}))
    assert (await load_memory(CONNECTION, loading.ports.states)).metadata.records == 10


async def test_two_workers_never_drive_one_load(loading: Loading) -> None:
    inner: list[str] = []

    class Meddled(History):
        async def __call__(self, position: Position | None) -> HistoryPage:
            with pytest.raises(LoadBusyError):
                await loading.load(History(5, 5))
            inner.append("busy")
            return await super().__call__(position)

    assert (await loading.load(Meddled(5, 5))).again_in is None
    assert inner == ["busy"]


async def test_a_restart_begins_at_the_beginning_and_the_rest_is_estimated(loading: Loading) -> None:
    history = History(20, 10)
    await loading.load(history)
    await note_asked(CONNECTION, loading.ports, anew=True)
    await loading.load(history)
    assert history.asked == [0, 10, 0, 10]
    assert remaining_seconds(HistoryNotes(began_at="x", records=10, total=30, seconds=5)) == 10
    assert remaining_seconds(HistoryNotes(began_at="x", records=10, seconds=5)) is None
