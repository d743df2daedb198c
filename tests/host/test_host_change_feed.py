"""Functions that follow the change feed: in order, at least once, from where they were."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from local.host import change_feed
from local.host.app_index import index_app
from local.host.change_feed import FeedFollower
from local.host.errors import HostError
from local.host.host_json import HostSettings
from local.host.invocation import Invoker
from shards.model import Acl, Shard
from shards.store import ChangePage, StoreUnavailableError


class ListFeed:
    """A feed of shards in a list; a shard's place is its position."""

    def __init__(self, count: int) -> None:
        self.shards = [
            Shard(
                id=f"sh_{number}",
                tenant_id="acme",
                shard_type_id="c_account",
                structured_data={"name": f"Account {number}"},
                acl=Acl.of("tenant"),
                created_at="2026-01-01T00:00:00.000Z",
                updated_at="2026-01-01T00:00:00.000Z",
                etag="e1",
            )
            for number in range(1, count + 1)
        ]
        self.failures = 0

    async def changes(self, *, after: str | None, limit: int = 100) -> ChangePage:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("the store is away")
        first = int(after or 0)
        shards = self.shards[first : first + limit]
        return ChangePage(shards, str(first + len(shards)))


def follower(
    work: Callable[[func.DocumentList], Any], feed: ListFeed, folder: Path, *, from_beginning: bool = True
) -> FeedFollower:
    app = func.FunctionApp()

    @app.cosmos_db_trigger(
        arg_name="documents",
        connection="C",
        database_name="d",
        container_name="shards",
        max_items_per_invocation=4,
        feed_poll_delay=10,
        start_from_beginning=from_beginning,  # type: ignore[arg-type]  # annotated as a time; the extension takes a boolean
    )
    def follow(documents: func.DocumentList) -> None:
        work(documents)

    [function] = index_app(app, HostSettings()).feeds
    return FeedFollower(function, feed, Invoker(None, lambda: None), folder, lambda: None)


async def run_until(one: FeedFollower, holds: Callable[[], bool]) -> None:
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - the function under test knows nothing of events
            await asyncio.sleep(0.01)
    one.stop()
    await running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_feed, "_FIRST_RETRY", 0.01)


async def test_changes_come_as_documents_in_order_and_a_restart_goes_on_behind_them(tmp_path: Path) -> None:
    feed = ListFeed(10)
    batches: list[func.DocumentList] = []
    await run_until(follower(batches.append, feed, tmp_path), lambda: sum(map(len, batches)) >= 10)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [document["id"] for batch in batches for document in batch] == [shard.id for shard in feed.shards]
    first = batches[0][0]
    assert isinstance(batches[0], func.DocumentList)
    assert isinstance(first, func.Document)
    assert (first["tenantId"], first["structuredData"]["name"], first["_etag"]) == ("acme", "Account 1", "e1")

    feed.shards.append(ListFeed(11).shards[-1])
    again: list[func.DocumentList] = []
    await run_until(follower(again.append, feed, tmp_path), lambda: bool(again))
    assert [document["id"] for batch in again for document in batch] == ["sh_11"]


async def test_a_raise_brings_the_same_changes_again_and_skips_none(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def work(documents: func.DocumentList) -> None:
        seen.append([document["id"] for document in documents])
        if len(seen) < 4:
            raise ValueError("not yet")

    await run_until(follower(work, ListFeed(6), tmp_path), lambda: len(seen) == 5)
    first = ["sh_1", "sh_2", "sh_3", "sh_4"]
    assert seen == [first, first, first, first, ["sh_5", "sh_6"]]


async def test_a_new_function_follows_what_comes_after_its_first_start(tmp_path: Path) -> None:
    feed = ListFeed(5)
    seen: list[str] = []
    one = follower(lambda batch: seen.extend(d["id"] for d in batch), feed, tmp_path, from_beginning=False)
    await run_until(one, (tmp_path / "follow.json").exists)
    feed.shards.append(ListFeed(6).shards[-1])
    two = follower(lambda batch: seen.extend(d["id"] for d in batch), feed, tmp_path, from_beginning=False)
    await run_until(two, lambda: bool(seen))
    assert seen == ["sh_6"]


async def test_a_store_that_is_away_is_reported_and_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = ListFeed(2)
    feed.failures = 2
    seen: list[func.DocumentList] = []
    await run_until(follower(seen.append, feed, tmp_path), lambda: bool(seen))
    assert caplog.text.count("the store is away") == 2


def test_a_damaged_position_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "follow.json").write_text('{"position": 7}')
    with pytest.raises(HostError, match=r"follow\.json .*remove it"):
        follower(lambda _: None, ListFeed(0), tmp_path)
