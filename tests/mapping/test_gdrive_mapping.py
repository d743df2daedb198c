"""Google Drive's files and folders as shards."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from messaging import codec
from messaging.contracts import EventType
from processors.mapping import Mapped, MappingError, map_record
from shards.model import Acl, UnstructuredData
from shards.types import SHARD_TYPES, shard_type, validate

SAMPLES = Path(__file__).parents[1] / "samples" / "gdrive"
ID = "1Rk5s8WvBn2xJcE7tYq4MzAaD0uLpHg3F"
TARGET = "1c7Qm0h4Yb3dK2nT9sXw5ePzL6vUaRf8G"
FOLDER = "application/vnd.google-apps.folder"
REFERENCE = "payloads/acme/" + "a" * 64


def file(**fields: Any) -> dict[str, Any]:
    return {"id": ID, "name": "Term sheet.pdf", "mimeType": "application/pdf", "version": "17", **fields}


def mapped(payload: dict[str, Any], event_type: EventType = "update", object_type: str | None = "file") -> Mapped:
    return map_record("gdrive", object_type, payload, event_type, ID)


def data(**fields: Any) -> dict[str, Any]:
    made = mapped(file(**fields))
    validate(made.shard_type_id, made.structured_data)
    return made.structured_data


def failure(payload: dict[str, Any], object_type: str | None = "file") -> MappingError:
    with pytest.raises(MappingError) as failed:
        mapped(payload, object_type=object_type)
    return failed.value


def test_a_file_in_full() -> None:
    payload = file(
        kind="drive#file",
        description="The one that counts.",
        trashed=False,
        parents=[TARGET],
        createdTime="2026-03-01T09:00:00.000Z",
        modifiedTime="2026-03-12T07:29:10.356Z",
        version="2017",
        size="48213",
        md5Checksum="9e107d9d372bb6826bd81d3542a419d6",
        headRevisionId="0B5wM",
        webViewLink=f"https://drive.google.com/file/d/{ID}/view",
        webContentLink=f"https://drive.google.com/uc?id={ID}",
        driveId="0AOpenRootUk9PVA",
        owners=[{"displayName": "Noor", "emailAddress": "Noor.Haddad@acme.example"}],
        permissions=[
            {"id": "2", "type": "user", "role": "writer", "emailAddress": "ann@acme.example", "photoLink": "https://x"},
            {"id": "1", "type": "anyone", "role": "reader", "allowFileDiscovery": False},
        ],
        starred=True,
        capabilities={"canEdit": True},
        thumbnailLink="https://lh3.example/short-lived",
        properties={"case": "4711"},
        shardline={
            "path": "/Sales/Accounts/Term sheet.pdf",
            "acl": ["user:Ann@acme.example", "group:sales@acme.example", "domain:acme.example", "anyone"],
            "content": {
                "ref": REFERENCE,
                "version": "0B5wM",
                "status": "extracted",
                "problem": None,
                "truncated": True,
            },
        },
    )
    assert mapped(payload) == Mapped(
        shard_type_id="c_file",
        object_type="file",
        external_id=ID,
        structured_data={
            "name": "Term sheet.pdf",
            "provider": "gdrive",
            "externalId": ID,
            "path": "/Sales/Accounts/Term sheet.pdf",
            "parentFolderExternalId": TARGET,
            "owner": "noor.haddad@acme.example",
            "description": "The one that counts.",
            "driveId": "0AOpenRootUk9PVA",
            "webUrl": f"https://drive.google.com/file/d/{ID}/view",
            "downloadUrl": f"https://drive.google.com/uc?id={ID}",
            "createdDate": "2026-03-01T09:00:00.000Z",
            "lastModified": "2026-03-12T07:29:10.356Z",
            "permissions": [
                {"id": "1", "type": "anyone", "role": "reader"},
                {"id": "2", "type": "user", "role": "writer", "emailAddress": "ann@acme.example"},
            ],
            "mimeType": "application/pdf",
            "size": 48213,
            "checksum": "9e107d9d372bb6826bd81d3542a419d6",
            "contentStatus": "extracted",
            "contentVersion": "0B5wM",
            "contentTruncated": True,
            "customFields": {"properties": {"case": "4711"}},
        },
        unstructured_data=UnstructuredData(content_ref=REFERENCE),
        acl=Acl.of("user:ann@acme.example", "group:sales@acme.example", "domain:acme.example", "anyone"),
        external_url=f"https://drive.google.com/file/d/{ID}/view",
        last_activity_at="2026-03-12T07:29:10.356Z",
        created_at="2026-03-01T09:00:00.000Z",
        source_version="2017",
    )
    validate("c_file", mapped(payload).structured_data)


def test_a_folder_is_one_by_its_media_type() -> None:
    made = mapped(
        file(mimeType=FOLDER, name="Deals", parents=[TARGET], shardline={"path": "/Deals", "acl": ["anyone"]})
    )
    assert made.shard_type_id == "c_folder"
    assert made.object_type == "file"
    assert made.structured_data["parentExternalId"] == TARGET
    validate("c_folder", made.structured_data)


@pytest.mark.parametrize(("target", "link"), [("application/pdf", "c_file"), (FOLDER, "c_folder"), (None, "c_file")])
def test_a_shortcut_is_a_file_with_a_link_to_what_it_stands_for(target: str | None, link: str) -> None:
    details = {"targetId": TARGET, "targetMimeType": target}
    read = data(mimeType="application/vnd.google-apps.shortcut", shortcutDetails=details)
    [told] = shard_type("c_file").link_targets("gdrive", read)
    assert (told.relationship_type, told.target_shard_type_id, told.external_id) == ("references", link, TARGET)
    assert "size" not in read


def test_who_may_read_is_nobody_until_it_is_known() -> None:
    assert mapped(file()).acl == mapped(file(shardline={"acl": None})).acl == Acl.of()
    assert mapped(file(shardline={"acl": []})).acl == Acl.of()


@pytest.mark.parametrize("principal", ["tenant", "user:", "ann@acme.example", "user:a b", "role:x", 7, None, "*"])
def test_a_principal_of_no_known_kind_is_refused(principal: Any) -> None:
    refused = failure(file(shardline={"acl": ["anyone", principal]}))
    assert refused.reason == "invalid-record"
    assert "shardline.acl" in refused.detail


def test_every_report_of_a_deletion_is_the_same() -> None:
    whole = file(name="x", permissions=[{"id": "1"}], shardline={"acl": ["anyone"], "content": {"ref": REFERENCE}})
    by_trash, by_event, by_id = mapped({**whole, "trashed": True}), mapped(whole, "delete"), mapped({}, "delete")
    assert by_trash == by_event
    for made in (by_trash, by_id):
        assert made.deleted
        assert (made.structured_data, made.unstructured_data, made.acl) == ({}, None, Acl.of())
    assert (by_trash.source_version, by_id.source_version) == ("17", "")


def test_what_moves_without_a_change_of_meaning_does_not_change_the_data() -> None:
    permissions = [{"id": str(number), "type": "user", "role": "reader"} for number in range(3)]
    before = data(permissions=permissions, viewedByMeTime="2026-01-01T00:00:00Z", thumbnailLink="https://a/1")
    after = data(permissions=permissions[::-1], starred=True, thumbnailLink="https://a/2", quotaBytesUsed="7")
    assert before == after


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Q1/Q2 plan", "Q1/Q2 plan"),
        ("  \u00a0 ", "Unnamed file"),
        (None, "Unnamed file"),
        ("Café", "Café"),
        ("word " * 200, ("word " * 99).strip() + "…"),
    ],
)
def test_any_name_is_one(name: str | None, kept: str) -> None:
    assert data(name=name)["name"] == kept


@pytest.mark.parametrize(("version", "kept"), [("17", "17"), (17, "17"), ("0017", "17"), (None, "")])
def test_the_version_is_an_integer_as_text(version: Any, kept: str) -> None:
    assert mapped(file(version=version)).source_version == kept


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (file(version="newest"), "version"),
        (file(version="1.5"), "version"),
        (file(size="many"), "size"),
        (file(size="1.5"), "size"),
        (file(trashed="perhaps"), "trashed"),
        (file(modifiedTime="yesterday"), "modifiedTime"),
        (file(parents=TARGET), "parents"),
        (file(permissions=[{"read": 1}, "x"]), "permissions"),
        (file(shortcutDetails="x"), "shortcutDetails"),
        (file(shardline=[1]), "shardline"),
        (file(shardline={"acl": "anyone"}), "shardline.acl"),
        (file(shardline={"content": {"status": "perhaps"}}), "shardline.content.status"),
        (file(shardline={"content": {"ref": "messages/acme/" + "a" * 64}}), "must be under payloads/"),
        (file(id="../../etc"), "no id"),
        (file(id=7), "no id"),
        ({"kind": "drive#change", "fileId": ID, "removed": True}, "not a file"),
        ({"kind": "drive#drive", "id": "0AOpenRootUk9PVA", "name": "Sales"}, "not a file"),
    ],
)
def test_what_is_no_file_is_refused_by_name(payload: dict[str, Any], said: str) -> None:
    refused = failure(payload)
    assert refused.reason == "invalid-record"
    assert said in refused.detail


def test_drive_has_one_object_type() -> None:
    assert mapped(file(), object_type=None).object_type == "file"
    assert failure(file(), object_type="folder").reason == "unknown-object-type"


def recorded() -> list[Any]:
    """Every File resource in the samples, as Drive gave it."""
    found = []
    for path in sorted((SAMPLES / "files").glob("*.json")):
        kept = json.loads(path.read_text())
        metadata = kept["metadata"]
        resource = {
            **kept["additional_metadata"],
            "version": metadata["version"],
            "name": kept["source_identifiers"]["filename"],
        }
        if "permissionIds" not in resource or "id" in metadata["permissions_data"][0]:
            resource["permissions"] = metadata["permissions_data"]
        found.append(pytest.param(resource, "update", id=path.stem[-8:]))
    for path in sorted((SAMPLES / "rest").glob("*.json")):
        for number, call in enumerate(json.loads(path.read_text())):
            body = call["body"]
            files = body.get("files", [body]) if isinstance(body, dict) else []
            found += [pytest.param(one, "update", id=f"{path.stem[-20:]} {number}") for one in files]
    for path in sorted((SAMPLES / "changes").glob("*.json")):
        for change in json.loads(path.read_text())["changes"]:
            kind = "delete" if change["removed"] else "update"
            found.append(pytest.param(change.get("file", {"id": change["fileId"]}), kind, id=change["fileId"]))
    return found


@pytest.mark.parametrize(("resource", "event_type"), recorded())
def test_every_recorded_file_becomes_a_valid_shard(resource: dict[str, Any], event_type: EventType) -> None:
    payload = codec.decode(json.dumps(resource))
    made = map_record("gdrive", "file", payload, event_type, resource["id"])
    assert made.external_id == resource["id"]
    assert made.source_version == resource.get("version", ""), "what has none is parked by normalization"
    assert made.deleted == (event_type == "delete" or resource.get("trashed", False))
    if not made.deleted:
        validate(made.shard_type_id, made.structured_data)
        assert made.structured_data["name"] == resource["name"]
        assert (made.shard_type_id == "c_folder") == (resource.get("mimeType") == FOLDER)
        assert "photoLink" not in json.dumps(made.structured_data, default=str)
        assert made.acl == Acl.of()


def test_the_samples_hold_what_the_protocol_has() -> None:
    """Or the test above would pass on nothing."""
    assert len(recorded()) == 11


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from([ID, "17", "2026-03-12T07:29:10.356Z", FOLDER, "anyone", "user:a@b", REFERENCE, "\x00", "1e99"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["id", "targetId", "acl", "content", "ref", "status", "emailAddress", "path"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)
NAMES = [
    "id", "name", "mimeType", "description", "trashed", "parents", "createdTime", "modifiedTime", "version", "size",
    "webViewLink", "owners", "driveId", "shortcutDetails", "permissions", "shardline", "properties", "kind", "odd",
]  # fmt: skip
payloads = st.dictionaries(st.sampled_from(NAMES) | st.text(), json_values, max_size=8)
events: st.SearchStrategy[EventType] = st.sampled_from(["create", "update", "delete"])


@given(payloads, events, st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_payload_is_mapped_to_valid_data_or_refused_with_a_reason(
    fields: dict[str, Any], event_type: EventType, named: bool
) -> None:
    payload = {**fields, "id": ID} if named else fields
    try:
        made = map_record("gdrive", "file", payload, event_type, ID)
    except MappingError as error:
        assert error.reason == "invalid-record"
        assert error.detail
        return
    again = map_record("gdrive", "file", dict(reversed(payload.items())), event_type, ID)
    assert codec.canonical(again) == codec.canonical(made)
    if not made.deleted:
        validate(made.shard_type_id, made.structured_data)
        stored = codec.encode(made.structured_data)
        assert codec.canonical(codec.decode(stored)) == codec.canonical(made.structured_data)
        assert b"\\u0000" not in stored


def test_only_fields_that_the_types_have_are_written() -> None:
    for kind, payload in (("c_file", file()), ("c_folder", file(mimeType=FOLDER))):
        names = {field.encode_name for field in msgspec.structs.fields(SHARD_TYPES[kind].data)}
        assert mapped(payload).structured_data.keys() <= names
