"""500 records through the home on Azure while what it stands on fails: they end complete, and each once."""

from pathlib import Path

import pytest
from azure_home import AzureHome
from chain_rig import TENANT
from fault_story import (
    broker_busy,
    broker_silent,
    connections_dropped,
    instance_lost,
    links_detached,
    store_away,
    story_events,
    tell,
    undisturbed,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("azure faults")]

RECORDS = 500


async def test_records_end_complete_and_single_whatever_fails_on_their_way(home: AzureHome, tmp_path: Path) -> None:
    events = story_events(RECORDS)
    right = await undisturbed(tmp_path / "right", events)
    failures = [connections_dropped, broker_busy, links_detached, store_away, broker_silent, instance_lost]
    end = await tell(home, events, failures, right)
    assert end.problems == []
    assert home.bus.faults.waiting() == 0, "each fault has struck"
    assert len(end.picture.shards) == RECORDS
    assert end.picture.incomplete == []
    assert end.picture.counts == right.counts
    assert not any((await home.services.store.stages_behind()).values())
    assert await home.services.store.tenants() == [TENANT]
