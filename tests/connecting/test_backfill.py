"""``shardline backfill``: a history, or an export of one, loaded from the command line."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from commands_of_rig import CommandsOfRig, complaint
from source_rig import SourceRig

from connections.lease import new_lease
from ingestion.first_load import LEASE_FOR
from ingestion.history_memory import HistoryMemory, HistoryNotes, history_key, load_memory, new_history_memory
from messaging.times import to_text

ONE_SOURCE = pytest.mark.parametrize("rig", ["salesforce"], indirect=True)
ONLY_SLACK = pytest.mark.parametrize("rig", ["slack"], indirect=True)


async def names(rig: SourceRig) -> str:
    return " ".join(str(shard.structured_data) for shard in await rig.live())


def export_of(rig: SourceRig, folder: Path) -> Path:
    """An export of the rig's source in which a record says "exported"."""
    folder.mkdir(parents=True, exist_ok=True)
    if rig.system == "salesforce":
        file = folder / "Account.csv"
        file.write_text("Id,Name,SystemModstamp\n001000000000001AAA,exported,2026-01-05T10:00:00.000Z\n")
        return file
    if rig.system == "slack":
        (folder / "deals").mkdir()
        (folder / "users.json").write_text('[{"id": "U0ANN", "name": "ann", "team_id": "T0ACME0001"}]')
        channel = {"id": "C0DEALS001", "name": "deals", "created": 1700000000, "members": ["U0ANN"]}
        (folder / "channels.json").write_text(json.dumps([channel]))
        message = {"type": "message", "user": "U0ANN", "ts": "1700000100.000100", "text": "exported"}
        (folder / "deals" / "2023-11-14.json").write_text(json.dumps([message]))
        return folder
    (folder / "exported").write_text("some text")
    return folder


async def test_a_history_is_loaded_and_told_of(rig: SourceRig, shardline: CommandsOfRig) -> None:
    await rig.create("one")
    rig.wait(1)
    connection = await rig.connect()
    await rig.create("two")
    rig.wait(1)
    answer = await shardline("backfill", connection.connection_id, "--json")
    assert answer.code == 0, answer.error
    assert answer.json["finishedAt"]
    assert f"{connection.connection_id}: " in answer.error
    assert "records" in answer.error
    await rig.settle()
    assert {"one", "two"} <= {word for word in ("one", "two") if word in await names(rig)}
    row = (await shardline.status())[connection.connection_id]
    assert row["firstLoad"]["records"] == answer.json["records"]
    assert "finished" in (await shardline("status")).out
    assert "Nothing was left to load" in (await shardline("backfill", connection.connection_id)).out
    pages = answer.json["pages"]
    assert (await shardline("backfill", connection.connection_id, "--json")).json["pages"] == pages
    rig.wait(1)
    assert (await shardline("backfill", connection.connection_id, "--restart")).code == 0


async def test_an_export_is_loaded_like_a_history(rig: SourceRig, shardline: CommandsOfRig, tmp_path: Path) -> None:
    connection = await rig.connect()
    file = export_of(rig, tmp_path / "export")
    answer = await shardline("backfill", connection.connection_id, "--from", file, "--json")
    assert answer.code == 0, answer.error
    await rig.settle()
    assert "exported" in await names(rig)
    assert (await shardline.status())[connection.connection_id]["firstLoad"]["records"] == answer.json["records"]


async def test_a_path_that_is_no_export_is_one_line(rig: SourceRig, shardline: CommandsOfRig, tmp_path: Path) -> None:
    connection = await rig.connect()
    of = connection.connection_id
    assert "there is no" in complaint(await shardline("backfill", of, "--from", tmp_path / "none"), 2)
    zip_file = tmp_path / "broken.zip"
    zip_file.write_bytes(b"PK\x03\x04 no zip at all")
    link = tmp_path / "link"
    link.symlink_to("/etc")
    for path in (zip_file, link):
        said = complaint(await shardline("backfill", of, "--from", path), 1)
        assert path.name in said or "CSV" in said
    empty = tmp_path / "empty"
    empty.mkdir()
    said = complaint(await shardline("backfill", of, "--from", empty), 1)
    assert "empty" in said or "CSV" in said
    if rig.system == "salesforce":
        nobody = tmp_path / "Nothing.csv"
        nobody.write_bytes(b"\xff\xfe\x00")
        assert "Nothing.csv" in complaint(await shardline("backfill", of, "--from", nobody), 1)
    await rig.settle()
    assert await rig.parked() == []


@ONE_SOURCE
async def test_a_load_that_another_drives_is_followed_to_its_end(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await rig.connect()
    states = rig.services.states
    key, empty = history_key(connection), new_history_memory(connection)

    async def write(memory: HistoryMemory) -> None:
        saved = await states.load(connection.tenant_id, key, empty)
        await states.save(connection.tenant_id, key, saved, memory)

    at_it = HistoryMemory(
        name=empty.name,
        integration_id=empty.integration_id,
        integration_type=empty.integration_type,
        last_sync_status="partial",
        lease=new_lease(rig.now, LEASE_FOR),
        metadata=HistoryNotes(
            asked_at="2026-01-01T00:00:00.000Z",
            began_at="2026-01-01T00:00:00.000Z",
            records=500,
            total=2000,
            seconds=50,
            waiting_for="the chain",
        ),
    )
    await write(at_it)
    finished = HistoryNotes(asked_at="2026-01-01T00:00:00.000Z", finished_at=to_text(rig.now), records=2000)

    async def look(*args: Any, **options: Any) -> HistoryMemory:
        """What stands now; the other driver then comes to its end."""
        seen = await load_memory(*args, **options)
        await write(msgspec.structs.replace(at_it, lease=None, metadata=finished))
        return seen

    monkeypatch.setattr("cli.backfilling.load_memory", look)
    monkeypatch.setattr("cli.backfilling.LOOK_SECONDS", 0.0)
    answer = await shardline("backfill", connection.connection_id)
    assert answer.code == 0, answer.error
    assert "500 records of 2,000 (25 %), 10 a second, some 2 min left; waiting for the chain" in answer.error
    assert "Loaded 2,000 records" in answer.out
