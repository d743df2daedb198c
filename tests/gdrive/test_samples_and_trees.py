"""Recorded and documented answers of Drive, and a folder tree on disk read as a Drive."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from drive_rig import ADMIN, DriveRig

from connections.gdrive_connection import DriveConnection, GoogleAuth
from ingestion.first_load import FirstLoadPorts, load_pages
from ingestion.gdrive import fields
from ingestion.gdrive.content import content_version
from ingestion.gdrive.events import closed_event, file_event, stored_record
from ingestion.gdrive.history import TreeError
from ingestion.gdrive.permissions import principals_of
from local.gdrive.masks import parse_mask
from local.simulator_faults import Fault
from messaging import codec
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text, utc_now
from processors.mapping import map_record
from shards.model import ExternalRelationship, Shard

SAMPLES = Path(__file__).parents[1] / "samples" / "gdrive"

MASKS = {
    "File": (fields.FILE, fields.FOLDER),
    "ChangeList": (fields.CHANGES,),
    "StartPageToken": (fields.START_TOKEN,),
    "FileList": (fields.LISTED, fields.FILES, fields.CHILDREN),
    "PermissionList": (fields.PERMISSIONS,),
    "DriveList": (fields.DRIVES,),
    "About": (fields.ABOUT,),
}


@pytest.mark.parametrize("schema", MASKS)
def test_every_mask_names_fields_of_the_discovery_document(schema: str) -> None:
    for mask in MASKS[schema]:
        parse_mask(mask, schema)


async def test_the_documented_pages_of_changes_are_read_to_their_new_token(rig: DriveRig) -> None:
    await rig.begin()
    pages = [(SAMPLES / "changes" / f"derived_changes_page{number}.json").read_text() for number in (1, 2)]
    for place, page in enumerate(pages):
        rig.simulator.api.faults.add(Fault(status=200, body=page, path="/drive/v3/changes", skip=place))
    await rig.poll()
    asked: dict[str, bool] = {}
    for message in await rig.receive(SOURCE_WORK):
        work = SourceWork.from_bytes(message.body)
        assert work.push is not None
        asked |= dict.fromkeys(work.ids["file"], bool(work.push["below"]))
    assert list(asked) == [
        "1OpenDoc0000000000000000000000001AAA",
        "1OpenPdf000000000000000000001",
        "1OpenTrash0000000000000000001",
        "1OpenFolder000000000000000001",
        "1OpenGone00000000000000000001",
    ]
    assert (await rig.states())[f"changes of {ADMIN}"]["metadata"]["token"] == "680"


def sample_files() -> list[dict[str, Any]]:
    """What the recorded answers of files.get hold of the files."""
    found = []
    for path in sorted((SAMPLES / "files").glob("*.json")):
        recorded = codec.decode(path.read_bytes())
        file = {"version": recorded["metadata"]["version"], **recorded["additional_metadata"]}
        file.setdefault("name", recorded["display_name"] or recorded["source_identifiers"]["filename"])
        found.append(file)
    assert len(found) == 3
    return found


CONNECTION = DriveConnection(
    connection_id="drive",
    tenant_id="acme",
    name="Drive",
    instance="C0customer",
    auth=GoogleAuth(service_account="secret:acme/key", subjects=(ADMIN,)),
)


def event_of(file: dict[str, Any]) -> IngestionEvent:
    permissions = file.get("permissions", [])
    now = utc_now()
    return file_event(
        CONNECTION,
        file,
        path=f"/{file['name']}",
        acl=principals_of(permissions, now),
        content=None,
        read_at=to_text(now),
        is_new=True,
    )


def shard_of_event(event: IngestionEvent, version: str) -> Shard:
    mapped = map_record("gdrive", "file", event.record, "update", event.source_id)
    return Shard(
        id="sh_1",
        tenant_id="acme",
        shard_type_id=mapped.shard_type_id,
        structured_data=codec.decode(codec.encode(mapped.structured_data)),
        unstructured_data=mapped.unstructured_data,
        external_relationships=[
            ExternalRelationship("gdrive", "C0customer", "storage", "file", event.source_id, source_version=version)
        ],
        acl=mapped.acl,
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z",
        last_activity_at=mapped.last_activity_at,
    )


@pytest.mark.parametrize("number", range(3))
def test_a_recorded_file_is_an_event_and_closed_it_is_the_same_but_for_its_readers(number: int) -> None:
    file = sample_files()[number]
    event = event_of(file)
    shard = shard_of_event(event, file["version"])
    again = map_record("gdrive", "file", stored_record(shard, shard.external_relationships[0]), "update", file["id"])
    assert again.structured_data == shard.structured_data
    assert again.acl.principals == ()
    shard = msgspec.structs.replace(shard, acl=msgspec.structs.replace(shard.acl, principals=(f"user:{ADMIN}",)))
    closed = closed_event(CONNECTION, shard, read_at="2026-01-02T00:00:00.000Z")
    assert closed is not None
    assert (closed.source_version, closed.record["shardline"]["acl"]) == (file["version"], None)


@pytest.mark.parametrize(
    "more",
    [
        {"mimeType": "application/vnd.google-apps.folder", "parents": ["0Aparent"], "description": "Deals"},
        {"mimeType": "application/vnd.google-apps.shortcut", "shortcutDetails": {"targetId": "1targetOfShortcut"}},
        {"mimeType": "text/plain", "size": "12", "md5Checksum": "0" * 32, "properties": {"stage": "draft"}},
        {
            "mimeType": "text/plain",
            "driveId": "0Adrive",
            "permissions": [{"id": "1", "type": "anyone", "role": "reader"}],
        },
    ],
)
def test_whatever_is_stored_is_told_again_as_it_stands(more: dict[str, Any]) -> None:
    file = {
        "id": "1abcdefghijklmno",
        "name": "A name",
        "version": "7",
        "createdTime": "2026-01-01T00:00:00.000Z",
        "modifiedTime": "2026-02-01T00:00:00.000Z",
        "webViewLink": "https://drive.google.com/file/d/1abcdefghijklmno/view",
        "owners": [{"emailAddress": ADMIN}],
        **more,
    }
    shard = shard_of_event(event_of(file), "7")
    again = map_record("gdrive", "file", stored_record(shard, shard.external_relationships[0]), "update", file["id"])
    assert again.structured_data == shard.structured_data
    assert again.unstructured_data == shard.unstructured_data
    assert again.shard_type_id == shard.shard_type_id
    assert again.last_activity_at == shard.last_activity_at


def test_the_version_of_a_content_moves_with_it_alone() -> None:
    [binary, *_] = [file for file in sample_files() if "md5Checksum" in file]
    assert content_version({**binary, "version": "99", "name": "x", "modifiedTime": "x"}) == content_version(binary)
    assert content_version({**binary, "md5Checksum": "f" * 32}) != content_version(binary)


async def test_a_folder_tree_loads_as_the_drive_does(rig: DriveRig, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "Sales" / "Deals").mkdir(parents=True)
    (tree / "Sales" / "Deals" / "plan.txt").write_text("Renew Northwind before May.")
    (tree / "Sales" / "notes.md").write_text("# Pumps\n\nA heading above.")
    await rig.services.connections.save(rig.made)
    connection = await rig.connection()
    ports = FirstLoadPorts(rig.services.bus, rig.services.states, rig.clock)
    pages = rig.source.history_of_export(connection, [tree])
    step = await load_pages(connection, pages, ports, deadline=utc_now(), key="tree")
    while step.again_in is not None:
        step = await load_pages(connection, pages, ports, deadline=utc_now(), key="tree")
    await rig.drain()
    assert (step.notes.records, step.notes.total) == (4, 4)
    assert await rig.paths() == ["/Sales", "/Sales/Deals", "/Sales/Deals/plan.txt", "/Sales/notes.md"]
    page = await pages(None)
    [plan] = [event for event in page.events if event.record["name"] == "plan.txt"]
    assert plan.record["shardline"]["acl"] == [f"user:{ADMIN}"]
    assert "Renew Northwind" in await rig.text(plan.source_id)
    with pytest.raises(TreeError, match="no such folder"):
        await rig.source.history_of_export(connection, [tmp_path / "none"])(None)
