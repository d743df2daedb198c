"""A time that only looks like one must not rank as the newest reading for ever."""

import pytest
from chain_rig import TENANT, Rig, event, id_of


@pytest.mark.parametrize("field", ["observed_at", "read_at", "source_version"])
@pytest.mark.parametrize("text", ["zzzz-zz-zzTzz:zz:zz.zzzZ", "2026-13-01T00:00:00.000Z", "2026-01-01T25:00:00.000Z"])
async def test_what_only_looks_like_a_time_is_parked(rig: Rig, field: str, text: str) -> None:
    await rig.send(event("Account", 1, 1, Name="Acme").model_copy(update={field: text}))
    await rig.drain()
    [parked] = (await rig.store.parked(TENANT)).items
    assert parked.reason == "invalid-message"
    assert "a time of the event" in parked.detail
    assert await rig.store.get(TENANT, id_of("Account", 1)) is None
