"""What is wrong with an event is told by its own word; what is wrong elsewhere is not put down to the event."""

from typing import Any

import pytest
from chain_rig import ORG, Rig, event, record_id

from messaging.queues import INGESTION_EVENTS

BEYOND_THE_YEARS = "0001-01-01T00:00:00+05:00"

CHANGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no time of observing": ({"observed_at": "yesterday"}, "invalid-message", "a time of the event can't be read"),
    "no time of reading": ({"read_at": "2026-13-01T00:00:00Z"}, "invalid-message", "a time of the event"),
    "no version": ({"source_version": "new"}, "invalid-message", "a time of the event can't be read"),
    "a version beyond the years": ({"source_version": BEYOND_THE_YEARS}, "invalid-message", "a time of the event"),
    "no source that is known": ({"source": "abacus"}, "unknown-source", "abacus"),
    "no object": ({"object_type": "no object"}, "unknown-object-type", "no object"),
    "no id of the source": ({"source_id": "17"}, "invalid-record", "'17' is no Salesforce id"),
    "no instance of the source": ({"instance": "Berlin"}, "invalid-record", "'Berlin' is no Salesforce id"),
    "another record's id": ({"source_id": record_id("Account", 2)}, "invalid-record", record_id("Account", 1)),
    "no number": (
        {"payload": {"Id": record_id("Account", 1), "NumberOfEmployees": "many"}},
        "invalid-record",
        "NumberOfEmployees: 'many' is no number",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_what_is_wrong_with_an_event_parks_it_by_name(rig: Rig, name: str) -> None:
    change, reason, told = CHANGES[name]
    await rig.run(event("Account", 1, 1, Name="Acme", instance=ORG).model_copy(update=change))
    [parked] = await rig.parked()
    assert parked.reason == reason
    assert told in parked.detail


async def test_an_error_of_a_port_is_no_fault_of_the_event(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("the connection's document is broken")

    with monkeypatch.context() as patch:
        patch.setattr(rig.services.connections, "facts", broken)
        await rig.run(event("Account", 1, 1, Name="Acme"))
    assert await rig.parked() == []
    assert (await rig.depth(INGESTION_EVENTS)).scheduled == 1
    rig.wait(60)
    await rig.drain()
    assert (await rig.shard("Account", 1)).structured_data["name"] == "Acme"
