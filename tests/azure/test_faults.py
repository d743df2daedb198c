"""240 records through the home on Azure while what it stands on fails: they end complete, and each once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from azure_home import AzureHome, azure_home
from fault_story import (
    StoryEnd,
    broker_busy,
    broker_silent,
    connections_dropped,
    instance_lost,
    links_detached,
    store_away,
    store_throttling,
    story_events,
    tell,
    undisturbed,
)
from home_picture import HomePicture

pytestmark = pytest.mark.timeout(300)

EVENTS = story_events(240)
LARGEST_BATCH = 32
"""What comes a second time is tried one by one, so small batches keep the stories short."""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[AzureHome]:
    """A home of the story's own."""
    async with azure_home(tmp_path, largest_batch=LARGEST_BATCH) as running:
        yield running


@pytest.fixture
async def right(tmp_path: Path) -> HomePicture:
    """What the records make where nothing fails."""
    return await undisturbed(tmp_path / "right", EVENTS)


async def check(home: AzureHome, end: StoryEnd, right: HomePicture) -> None:
    """All of the records are there, each once, and nothing was given up on or is left to do."""
    assert end.problems == []
    assert end.picture.incomplete == []
    assert end.picture.counts == right.counts
    assert sum(right.counts.shards.values()) == len(EVENTS)
    assert not any((await home.services.store.stages_behind()).values())


async def test_nothing_is_lost_or_doubled_whatever_fails_on_the_way(home: AzureHome, right: HomePicture) -> None:
    failures = [connections_dropped, broker_busy, links_detached, store_away, broker_silent, instance_lost]
    end = await tell(home, EVENTS, failures, right)
    await check(home, end, right)
    assert home.bus.faults.waiting() == 0, "each failure has struck"


async def test_nothing_is_lost_or_doubled_in_a_store_that_refuses_and_throttles(
    home: AzureHome, right: HomePicture
) -> None:
    await store_throttling(home)
    end = await tell(home, EVENTS, [instance_lost], right)
    await check(home, end, right)
    statuses = home.cosmos.counts().statuses()
    assert statuses[429] > sum(statuses.values()) / 4
    assert statuses[412] >= len(EVENTS)
