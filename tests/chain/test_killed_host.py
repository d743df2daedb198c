"""A host that is killed with ``kill -9`` while it works, and started again, loses and doubles nothing."""

from pathlib import Path

import pytest
from kill_campaign import campaign, differences

KILLS = 4


@pytest.mark.timeout(170)
async def test_a_host_killed_at_random_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    """Each shard, link, chunk and vector is compared, and no page was read twice but the one a kill fell into."""
    undisturbed, killed = await campaign(tmp_path, kills=KILLS, rows=700, seed=20261122, busy_seconds=0.8)
    assert differences(undisturbed, undisturbed) == []
    shards, deleted, chunks, vectors, links, pending = undisturbed.counts
    assert {name: count for name, count in shards.items() if name.startswith("c_")} == {
        "c_user": 10,
        "c_account": 700,
        "c_contact": 700,
        "c_opportunity": 682,
    }
    assert deleted == 18
    assert chunks == vectors > 2_000
    assert links["contact_for"] == 700
    assert pending == 0
    assert sum(undisturbed.pages.values()) == len(undisturbed.pages), "nobody killed it, so no page was read twice"
    assert killed.kills, "on a slow machine it may be done before the last one"
    assert differences(undisturbed, killed) == []
