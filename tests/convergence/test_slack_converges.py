"""Random lives of a Slack workspace."""

from pathlib import Path

import pytest
from random_life import live, lives
from slack_life import SlackLife
from slack_source_rig import SlackSourceRig
from source_rig import OTHER_TENANT, TENANT


@pytest.mark.parametrize("number", lives())
async def test_what_is_stored_is_what_slack_holds(number: int, tmp_path: Path) -> None:
    rig = SlackSourceRig(tmp_path / "data")
    try:
        life = SlackLife(
            rig,
            joins=number % 2 == 0,
            loses=(0.0, 0.3, 0.7)[number % 3],
            restricted=number % 5 == 1,
            tenants=(TENANT, OTHER_TENANT) if number % 7 == 0 else (TENANT,),
        )
        await life.begin()
        await live(life, number)
    finally:
        await rig.close()
