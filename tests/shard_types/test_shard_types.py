"""What shard types accept, link to and give to search."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.identity import salesforce_id
from shards.model import Acl, Shard
from shards.types import (
    NAME_MAX_CHARACTERS,
    SHARD_TYPES,
    InvalidStructuredDataError,
    LinkTarget,
    TextPart,
    UnknownShardTypeError,
    fitting_name,
    open_type_id,
    shard_type,
    structured_data_of,
    typed,
    validate,
)
from shards.types.crm import OpportunityData
from shards.types.integration import IntegrationStateData

ACCOUNT_ID = salesforce_id("001dM00003jU9Gy")
USER_ID = salesforce_id("005dM000003jAbC")
CONTACT_ID = salesforce_id("003dM000003jAbC")


def shard(shard_type_id: str, structured_data: dict[str, Any]) -> Shard:
    return Shard(
        id="sh_x",
        tenant_id="acme",
        shard_type_id=shard_type_id,
        structured_data=structured_data,
        acl=Acl.of("tenant"),
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z",
    )


@pytest.mark.parametrize(
    ("shard_type_id", "data", "field"),
    [
        ("c_account", {}, "name"),
        ("c_account", {"name": ""}, "name"),
        ("c_account", {"name": "x" * (NAME_MAX_CHARACTERS + 1)}, "name"),
        ("c_account", {"name": "Acme", "revenue": 1}, "revenue"),
        ("c_account", {"name": "Acme", "numberOfEmployees": Decimal("1.5")}, "numberOfEmployees"),
        ("c_account", {"name": "Acme", "parentId": None, "annualRevenue": "much"}, "annualRevenue"),
        ("c_opportunity", {"name": "Deal", "closeDate": "soon"}, "closeDate"),
        ("c_opportunity", {"name": "Deal", "createdDate": "2026-01-01T00:00:00"}, "createdDate"),
        ("c_opportunity", {"name": "Deal", "status": "maybe"}, "status"),
        ("c_file", {"name": "a.txt", "provider": "gdrive"}, "externalId"),
        (
            "c_message",
            {
                "name": "Hi",
                "content": "Hi",
                "channelId": "C1",
                "sentAt": "2026-01-01T00:00:00Z",
                "author": {"id": "U1"},
            },
            "author.name",
        ),
        ("c_invoice", {"total": 3}, "name"),
    ],
)
def test_what_does_not_fit_is_refused_by_type_and_field(shard_type_id: str, data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidStructuredDataError) as refused:
        validate(shard_type_id, data)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{shard_type_id}.{field}: ")


def test_open_types_ask_only_for_a_name() -> None:
    validate("c_invoice", {"name": "INV-7", "anything": [1, {"else": True}]})


@pytest.mark.parametrize("unknown", ["invoice", "c_", "c_Invoice", "integration.secret", "c_a__b", "c_" + "x" * 200])
def test_ids_of_no_type_are_refused(unknown: str) -> None:
    with pytest.raises(UnknownShardTypeError):
        shard_type(unknown)


def test_types_with_bookkeeping_stay_out_of_the_chain() -> None:
    outside = {kind.id for kind in SHARD_TYPES.values() if not kind.searchable}
    assert outside == {"integration.state", "integration.connection"}
    assert shard_type("c_message").chunking == "thread"


def test_typed_reads_a_shard_and_structured_data_writes_it_back() -> None:
    data = {
        "name": "Acme renewal",
        "amount": Decimal("120000.50"),
        "closeDate": "2026-12-31",
        "createdDate": "2026-05-06T11:56:44.000Z",
        "customFields": {"Region__c": "EMEA"},
    }
    read = typed(shard("c_opportunity", data))
    assert isinstance(read, OpportunityData)
    assert read.amount == Decimal("120000.50")
    assert read.close_date is not None
    assert read.close_date.year == 2026
    assert structured_data_of(read) == data


def test_nested_moments_are_written_with_milliseconds() -> None:
    data = {
        "name": "State of Acme",
        "integrationId": "con",
        "integrationType": "salesforce",
        "lastSyncStatus": "pending",
        "lease": {"owner": "worker", "expiresAt": "2026-05-06T11:56:44.120Z"},
    }
    read = typed(shard("integration.state", data))
    assert isinstance(read, IntegrationStateData)
    assert structured_data_of(read) == data


def test_a_tombstone_has_no_typed_data() -> None:
    with pytest.raises(InvalidStructuredDataError):
        typed(shard("c_account", {}))


@pytest.mark.parametrize(
    ("object_name", "expected"),
    [
        ("Invoice__c", "c_invoice"),
        ("Lead", "c_lead"),
        ("OpportunityLineItem", "c_opportunity_line_item"),
        ("npsp__Allocation__c", "c_npsp_allocation"),
        ("HTTPRequest__c", "c_http_request"),
        ("Project__c", "c_project_record"),
        ("Account__c", "c_account_record"),
    ],
)
def test_objects_without_a_type_get_one_by_their_name(object_name: str, expected: str) -> None:
    assert open_type_id(object_name) == expected
    assert shard_type(expected).open


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,79}", fullmatch=True))
def test_every_object_name_gives_an_open_type(object_name: str) -> None:
    assert shard_type(open_type_id(object_name)).open


def test_links_of_an_opportunity() -> None:
    data = {"name": "Deal", "accountId": ACCOUNT_ID, "ownerId": USER_ID, "customFields": {"Champion__c": CONTACT_ID}}
    assert shard_type("c_opportunity").link_targets("salesforce", data) == [
        LinkTarget("opportunity_for", "c_account", "Account", ACCOUNT_ID, None, "AccountId"),
        LinkTarget("has_owner", "c_user", "User", USER_ID, None, "OwnerId"),
        LinkTarget("references", "c_contact", "Contact", CONTACT_ID, None, "Champion__c"),
    ]


def test_a_system_that_does_not_fill_a_field_links_nothing_by_it() -> None:
    data = {"name": "Deal", "accountId": ACCOUNT_ID, "customFields": {"Champion__c": CONTACT_ID}}
    assert shard_type("c_opportunity").link_targets("hubspot", data) == []


def test_links_by_shard_id_and_out_of_an_object() -> None:
    assert shard_type("c_project").link_targets("shardline", {"name": "P", "companyId": "sh_1"}) == [
        LinkTarget("references", "c_account", None, None, "sh_1", "companyId")
    ]
    message = {"channelId": "C1", "parentMessageId": "C1:1.0", "author": {"id": "U1", "name": "Ann"}}
    assert [
        (link.relationship_type, link.external_id) for link in shard_type("c_message").link_targets("slack", message)
    ] == [
        ("message_in_channel", "C1"),
        ("replies_to", "C1:1.0"),
        ("has_owner", "U1"),
    ]
    assert shard_type("c_message").link_targets("slack", {"author": "nobody"}) == []


@pytest.mark.parametrize("kind", SHARD_TYPES.values(), ids=lambda kind: kind.id)
def test_links_start_at_fields_that_exist_and_end_at_types_that_exist(kind: Any) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(kind.data)}
    for link in kind.links:
        assert link.field.split(".")[0] in names
        assert link.target_shard_type_id in SHARD_TYPES
        assert link.source_fields.keys() == link.target_object_types.keys()
        assert bool(link.target_object_types) is not link.holds_shard_id
    for fact in kind.text.facts:
        assert fact.field is None or fact.field in names
    for text in kind.text.texts:
        assert text.field in names


def test_text_of_an_opportunity() -> None:
    data = {
        "name": "Acme renewal",
        "stage": "negotiation_review",
        "stageName": "Negotiation/Review",
        "amount": Decimal("1234567.5"),
        "currency": "EUR",
        "closeDate": "2026-12-31",
        "accountName": "Acme",
        "accountId": ACCOUNT_ID,
        "isWon": False,
        "nextStep": "Send the paper",
        "description": "Three years.\nWith the warehouse module.",
        "customFields": {
            "Region__c": "EMEA",
            "npsp__Funding_Focus__c": "Schools",
            "Wiki__c": "https://wiki.example/acme",
            "Champion__c": CONTACT_ID,
            "Score__c": 7,
            "Session__c": "N.YuELnZvcvK2ZqdmXh.tyrIDcDTHbv0gsRb8D3J5.5GD",
            "Notes__c": "Prefers calls. " * 20,
            "Level__r": {"Name": "Gold"},
        },
    }
    facts, description, notes = shard_type("c_opportunity").text_parts(data)
    assert facts == TextPart(
        None,
        "Stage: Negotiation/Review\nAmount: 1,234,567.5 EUR\nClose date: 2026-12-31\nAccount: Acme\n"
        "Next step: Send the paper\nLevel: Gold\nRegion: EMEA\nFunding Focus: Schools",
    )
    assert description == TextPart("Description", "Three years.\nWith the warehouse module.")
    assert notes == TextPart("Notes", "Prefers calls. " * 20)


def test_words_that_look_like_ids_stay_in_the_text() -> None:
    data = {"name": "Acme", "customFields": {"A__c": "recommendations", "B__c": "telecommunications"}}
    assert shard_type("c_account").text_parts(data) == [TextPart(None, "A: recommendations\nB: telecommunications")]


def test_custom_texts_are_labelled_in_words_and_ids_of_slack_say_nothing() -> None:
    custom = {"originalFilename": "Deck v10.pdf", "creator": "U060QUROIC9", "team": "UNIVERSITIES", "room": "E4.12"}
    [part] = shard_type("c_file").text_parts({"name": "Deck", "customFields": custom})
    assert part.text.splitlines() == ["Original filename: Deck v10.pdf", "Room: E4.12", "Team: UNIVERSITIES"]


def test_stage_without_the_orgs_words_is_told_in_ours() -> None:
    assert shard_type("c_opportunity").text_parts({"name": "x", "stage": "closed_won"}) == [
        TextPart(None, "Stage: closed won")
    ]


def test_text_of_a_message_names_who_says_it() -> None:
    data = {"name": "Hi", "content": "Hi all", "author": {"name": "Ann"}}
    assert shard_type("c_message").text_parts(data) == [TextPart(None, "Ann: Hi all")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
field_names = sorted({fact.field for kind in SHARD_TYPES.values() for fact in kind.text.facts if fact.field})


@given(st.sampled_from(sorted(SHARD_TYPES)), st.data())
def test_text_and_links_never_fail_on_data_of_any_form(shard_type_id: str, data: st.DataObject) -> None:
    names = st.sampled_from([*field_names, "customFields", "description", "content", "author", "accountId"])
    drawn = data.draw(
        st.dictionaries(names.filter(lambda name: name != "customFields"), json_values)
        | st.builds(lambda custom: {"customFields": custom}, st.dictionaries(st.text(), json_values))
    )
    kind = shard_type(shard_type_id)
    assert all(part.text for part in kind.text_parts(drawn))
    assert all(target.external_id or target.shard_id for target in kind.link_targets("salesforce", drawn))


@given(st.text(max_size=1200))
def test_a_fitting_name_fits_and_keeps_what_fits(text: str) -> None:
    name = fitting_name(text)
    assert len(name) <= NAME_MAX_CHARACTERS
    assert name == name.strip()
    stripped = text.strip()
    assert name == stripped if len(stripped) <= NAME_MAX_CHARACTERS else stripped.startswith(name[:-1])


def test_a_long_name_is_cut_after_a_word() -> None:
    name = fitting_name("word " * 200)
    assert name.endswith("word…")
    assert NAME_MAX_CHARACTERS - 60 < len(name) <= NAME_MAX_CHARACTERS
