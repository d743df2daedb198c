"""Salesforce records as shards."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging import codec
from messaging.contracts import EventType
from processors.mapping import MAPPINGS, Mapped, MappingError, map_record
from processors.mapping.salesforce_fields import TABLES
from shards.identity import salesforce_id
from shards.model import Acl
from shards.types import SHARD_TYPES, shard_type, validate
from shards.types.crm import STANDARD_STAGES

DATA = Path(__file__).parents[1] / "samples" / "salesforce" / "data"
ACCOUNT_ID = "001dM00003jU9GyQAK"
OPPORTUNITY_ID = salesforce_id("006dM00000AbCde")
CONTACT_ID = salesforce_id("003dM00000AbCde")
USER_ID = salesforce_id("005dM000003jAbC")
WINNER_ID = salesforce_id("001dM00003jU9Gz")
STAMP = "2026-05-06T11:56:44.000+0000"


def opportunity(**fields: Any) -> dict[str, Any]:
    return {
        "attributes": {"type": "Opportunity", "url": f"/services/data/v59.0/sobjects/Opportunity/{OPPORTUNITY_ID}"},
        "Id": OPPORTUNITY_ID,
        "IsDeleted": False,
        "Name": "Acme renewal",
        **fields,
    }


def mapped(payload: dict[str, Any], event_type: EventType = "update", object_type: str | None = None) -> Mapped:
    return map_record("salesforce", object_type, payload, event_type)


def data(payload: dict[str, Any], object_type: str | None = None) -> dict[str, Any]:
    made = mapped(payload, object_type=object_type)
    validate(made.shard_type_id, made.structured_data)
    return made.structured_data


def failure(payload: dict[str, Any], event_type: EventType = "update", object_type: str | None = None) -> MappingError:
    with pytest.raises(MappingError) as failed:
        mapped(payload, event_type, object_type)
    return failed.value


def test_an_opportunity_in_full() -> None:
    payload = codec.decode(
        json.dumps(
            opportunity(
                AccountId=ACCOUNT_ID[:15],
                Account={"attributes": {"type": "Account"}, "Name": "Acme"},
                StageName="Negotiation/Review",
                Amount=120000.0,
                Probability=90,
                ExpectedRevenue=108000.55,
                CloseDate="2026-12-31",
                Type="Existing Customer - Upgrade",
                ForecastCategory="Forecast",
                IsClosed=False,
                IsWon=False,
                OwnerId=USER_ID,
                LeadSource=None,
                HasOpenActivity=True,
                CreatedDate=STAMP,
                LastModifiedDate="2026-05-07T00:00:00.000+0000",
                LastActivityDate="2026-05-09",
                LastViewedDate=STAMP,
                SystemModstamp="2026-05-08T10:00:00.000+0000",
                Region__c="EMEA",
                Parts__c=None,
            )
        )
    )
    assert mapped(payload) == Mapped(
        shard_type_id="c_opportunity",
        object_type="Opportunity",
        external_id=OPPORTUNITY_ID,
        structured_data={
            "name": "Acme renewal",
            "accountId": ACCOUNT_ID,
            "accountName": "Acme",
            "stage": "negotiation_review",
            "stageName": "Negotiation/Review",
            "status": "open",
            "isClosed": False,
            "isWon": False,
            "amount": 120000,
            "currency": "USD",
            "probability": 90,
            "expectedRevenue": Decimal("108000.55"),
            "closeDate": "2026-12-31",
            "type": "existing_customer_upgrade",
            "forecastCategory": "commit",
            "ownerId": USER_ID,
            "createdDate": "2026-05-06T11:56:44.000Z",
            "customFields": {"Region__c": "EMEA"},
        },
        acl=Acl.of("tenant"),
        last_activity_at="2026-05-09T00:00:00.000Z",
        created_at="2026-05-06T11:56:44.000Z",
        source_version="2026-05-08T10:00:00.000Z",
    )


def test_bookkeeping_does_not_change_the_data() -> None:
    before = opportunity(SystemModstamp=STAMP, LastModifiedDate=STAMP, LastViewedDate=None, HasOverdueTask=False)
    after = opportunity(
        SystemModstamp="2026-06-01T00:00:00.000+0000",
        LastModifiedDate="2026-06-01T00:00:00.000+0000",
        LastModifiedById=USER_ID,
        LastModifiedBy={"Name": "Ann"},
        LastViewedDate=STAMP,
        LastReferencedDate=STAMP,
        LastActivityDate="2026-06-01",
        HasOverdueTask=True,
    )
    assert data(before) == data(after)
    assert mapped(before).source_version < mapped(after).source_version


def test_a_missing_number_is_not_zero() -> None:
    assert "amount" not in data(opportunity(Amount=None))
    assert data(opportunity(Amount=0))["amount"] == 0


@pytest.mark.parametrize(("words", "stage"), STANDARD_STAGES.items())
def test_standard_stages(words: str, stage: str) -> None:
    read = data(opportunity(StageName=words))
    assert (read["stage"], read["stageName"]) == (stage, words)


@pytest.mark.parametrize(
    ("words", "stage"), [("Vor-Ort Termin", "vor_ort_termin"), ("見積もり提出", "見積もり提出"), ("--", "--")]
)
def test_an_orgs_own_stages_keep_its_words(words: str, stage: str) -> None:
    read = data(opportunity(StageName=words))
    assert (read["stage"], read["stageName"]) == (stage, words)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"IsWon": True, "IsClosed": True, "StageName": "Done"}, "won"),
        ({"IsWon": False, "IsClosed": True, "StageName": "Done"}, "lost"),
        ({"IsWon": False, "IsClosed": False, "StageName": "Closed Won"}, "open"),
        ({"StageName": "Closed Won"}, "won"),
        ({"StageName": "Closed Lost"}, "lost"),
        ({"StageName": "Prospecting"}, "open"),
        ({}, None),
    ],
)
def test_the_outcome_of_a_deal(fields: dict[str, Any], status: str | None) -> None:
    assert data(opportunity(**fields)).get("status") == status


def test_currency_is_the_records_else_the_connections() -> None:
    assert data(opportunity(CurrencyIsoCode="EUR"))["currency"] == "EUR"
    swiss = map_record("salesforce", None, opportunity(Amount=5), "update", default_currency="CHF")
    assert swiss.structured_data["currency"] == "CHF"
    unknown = map_record("salesforce", None, opportunity(Amount=5), "update", default_currency=None)
    assert "currency" not in unknown.structured_data
    account = {"Id": ACCOUNT_ID, "Name": "Acme"}
    assert "currency" not in data(account)
    assert data({**account, "AnnualRevenue": 5})["currency"] == "USD"


@pytest.mark.parametrize(
    ("written", "stored", "exact"),
    [
        ("15000.0", 15000, None),
        ("15000", 15000, None),
        ("1E+3", 1000, None),
        ("0.10", Decimal("0.1"), None),
        ("-0.0", 0, None),
        ("123456789012345", 123456789012345, None),
        ("12345678901234567.89", Decimal("12345678901234567.89"), "12345678901234567.89"),
        ("1234567890123456", 1234567890123456, "1234567890123456"),
        ("1000000000000000000", 10**18, None),
        ("1234567890123456789012345678901234567890.5",) * 2 + ("1234567890123456789012345678901234567890.5",),
    ],
)
def test_numbers_are_exact(written: str, stored: Any, exact: str | None) -> None:
    payload = codec.decode(json.dumps(opportunity()).replace('"Acme renewal"', f'"x", "Amount": {written}'))
    read = data(payload)
    assert read["amount"] == (Decimal(stored) if isinstance(stored, str) else stored)
    assert isinstance(read["amount"], int) is (read["amount"] == int(read["amount"]))
    assert read.get("exactNumbers", {}).get("amount") == exact
    custom = codec.decode(json.dumps(opportunity()).replace('"Acme renewal"', f'"x", "Total__c": {written}'))
    assert data(custom)["customFields"]["Total__c"] == read["amount"]
    assert data(custom).get("exactNumbers", {}).get("customFields.Total__c") == exact
    assert codec.decode(codec.encode(read)) == read


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**18), max_value=10**18))
def test_every_amount_keeps_its_value_on_the_way(amount: Decimal) -> None:
    payload = codec.decode(codec.encode(opportunity(Amount=amount, Total__c=amount)))
    read = codec.decode(codec.encode(data(payload)))
    assert read["amount"] == amount
    assert read["customFields"]["Total__c"] == amount
    exact = read.get("exactNumbers", {})
    assert Decimal(exact.get("amount", amount)) == amount
    assert ("amount" in exact) is (len(amount.normalize().as_tuple().digits) > codec.MAX_NUMBER_DIGITS)


@given(st.from_regex(r"[A-Za-z0-9]{15}", fullmatch=True))
def test_both_forms_of_an_id_are_one(short: str) -> None:
    long = salesforce_id(short)
    by_short = mapped(opportunity(Id=short, AccountId=short, Lookup__r={"Id": short}))
    by_long = mapped(opportunity(Id=long, AccountId=long, Lookup__r={"Id": short}))
    assert by_short == by_long
    assert by_short.external_id == long


@pytest.mark.parametrize(
    ("field", "value", "name", "stored"),
    [
        ("CloseDate", "2026-12-31T00:00:00.000Z", "closeDate", "2026-12-31"),
        ("CloseDate", "2018-12-19 00:00:00", "closeDate", "2018-12-19"),
        ("CloseDate", "", "closeDate", None),
        ("CreatedDate", "2026-05-06T11:56:44.000Z", "createdDate", "2026-05-06T11:56:44.000Z"),
        ("CreatedDate", "2026-05-06T13:56:44+02:00", "createdDate", "2026-05-06T11:56:44.000Z"),
        ("CreatedDate", "2026-05-06 11:56:44", "createdDate", "2026-05-06T11:56:44.000Z"),
        ("Amount", " 1200.50 ", "amount", Decimal("1200.5")),
        ("Amount", "", "amount", None),
        ("IsClosed", "TRUE", "isClosed", True),
        ("Description", "a\x00b", "description", "ab"),
        ("Description", " \n", "description", None),
        ("NextStep", 7, "nextStep", "7"),
        ("FiscalYear", 2026.0, "fiscalYear", 2026),
    ],
)
def test_values_in_their_one_form(field: str, value: Any, name: str, stored: Any) -> None:
    assert data(opportunity(**{field: value})).get(name) == stored


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Amount", "a lot"),
        ("Amount", True),
        ("Amount", [1]),
        ("Amount", float("nan")),
        ("Amount", Decimal("1E+9999")),
        ("FiscalYear", Decimal("1.5")),
        ("IsWon", 1),
        ("IsWon", "yes"),
        ("CloseDate", "2015-02-30"),
        ("CloseDate", 20150230),
        ("CreatedDate", "yesterday"),
        ("CreatedDate", "0001-01-01T00:00:00+05:00"),
        ("SystemModstamp", "now"),
        ("LastActivityDate", "soon"),
        ("AccountId", "Acme"),
        ("AccountId", "001dM00003jU9GyQAA"),
        ("Name", {"first": "A"}),
        ("IsDeleted", "maybe"),
        ("Deep__c", json.loads("[" * 40 + "1" + "]" * 40)),
        ("Total__c", Decimal("NaN")),
    ],
)
def test_a_value_that_is_not_what_its_field_holds_names_record_and_field(field: str, value: Any) -> None:
    error = failure(opportunity(**{field: value}))
    assert error.reason == "invalid-record"
    assert OPPORTUNITY_ID in error.detail
    assert field in error.detail


def test_names() -> None:
    contact = {"Id": CONTACT_ID, "FirstName": "Edna", "LastName": "Frank", "Email": "edna@acme.example"}
    assert data({**contact, "Name": "Dr. Edna Frank"})["name"] == "Dr. Edna Frank"
    assert data(contact)["name"] == "Edna Frank"
    assert data({"Id": CONTACT_ID, "Email": "edna@acme.example"})["name"] == "edna@acme.example"
    assert data({"Id": CONTACT_ID})["name"] == "Unnamed contact"
    assert len(data(opportunity(Name="word " * 200))["name"]) <= 500


def test_relationships_fill_what_the_record_leaves_open() -> None:
    read = data(
        opportunity(
            Owner={"attributes": {"type": "User"}, "Name": "Ann", "Email": "ann@acme.example"},
            Account={"Id": ACCOUNT_ID, "Name": "Acme"},
            Contact=None,
            Partner__r={"attributes": {"type": "Account"}, "Name": "Globex", "Rank__c": 2.0},
            Only__r={"attributes": {"type": "Account"}},
            OpportunityLineItems={"totalSize": 1, "done": True, "records": [{"Id": "00k"}]},
        )
    )
    assert (read["ownerName"], read["accountName"], read["accountId"]) == ("Ann", "Acme", ACCOUNT_ID)
    assert read["customFields"] == {"Partner__r": {"Name": "Globex", "Rank__c": 2}}
    assert data(opportunity(Account={"Id": WINNER_ID}, AccountId=ACCOUNT_ID))["accountId"] == ACCOUNT_ID


def test_compound_addresses_fill_the_flat_fields_that_are_missing() -> None:
    read = data(
        {
            "Id": ACCOUNT_ID,
            "Name": "Acme",
            "BillingAddress": {"city": "Antwerp", "country": "Belgium", "latitude": 51.2, "postalCode": None},
            "BillingCity": "Antwerpen",
            "ShippingAddress": None,
        }
    )
    assert read["billingCity"] == "Antwerpen"
    assert (read["billingCountry"], read["billingLatitude"]) == ("Belgium", Decimal("51.2"))
    assert "customFields" not in read


def test_what_is_unknown_is_kept_under_the_vendors_name() -> None:
    read = data({"Id": ACCOUNT_ID, "Name": "Acme", "Jigsaw": "J1", "A__c": [1.0, None, "x\x00"], "B__c": {"c": None}})
    assert read["customFields"] == {"Jigsaw": "J1", "A__c": [1, "x"]}


def test_a_users_switches_and_log_ins_are_left_out() -> None:
    read = data(
        {"Id": USER_ID, "Name": "Ann", "UserPreferencesTaskReminders": True, "LastLoginDate": STAMP, "Latitude": 1.5}
    )
    assert read == {"name": "Ann", "latitude": Decimal("1.5")}


@pytest.mark.parametrize("event_type", ["delete", "update"])
def test_all_reports_of_a_deletion_are_alike(event_type: EventType) -> None:
    whole = {
        "attributes": {"type": "Account"},
        "Id": ACCOUNT_ID,
        "IsDeleted": True,
        "Name": "Acme",
        "NumberOfEmployees": 3,
    }
    assert mapped(whole, event_type).deleted
    assert mapped(whole, event_type) == mapped({"Id": ACCOUNT_ID[:15]}, "delete")
    assert mapped(whole, event_type).structured_data == {}


def test_a_deletion_known_from_the_delete_log_is_versioned_by_its_date() -> None:
    payload = {"id": ACCOUNT_ID, "deletedDate": "2013-05-07T22:07:19.000+0000"}
    assert mapped(payload, "delete").source_version == "2013-05-07T22:07:19.000Z"
    with_stamp = {**payload, "SystemModstamp": STAMP}
    assert mapped(with_stamp, "delete").source_version == "2026-05-06T11:56:44.000Z"


def test_a_deletion_may_name_its_record_in_the_event_alone() -> None:
    assert map_record("salesforce", None, {}, "delete", ACCOUNT_ID).external_id == ACCOUNT_ID


def test_the_loser_of_a_merge_names_the_winner() -> None:
    loser = {"Id": ACCOUNT_ID, "IsDeleted": True, "MasterRecordId": WINNER_ID[:15]}
    assert mapped(loser).merged_into_external_id == WINNER_ID
    assert mapped({**loser, "MasterRecordId": ACCOUNT_ID}).merged_into_external_id is None
    assert mapped({**loser, "IsDeleted": False}).merged_into_external_id is None


@pytest.mark.parametrize(
    ("given_type", "payload", "object_type", "shard_type_id"),
    [
        ("Account", {"Id": OPPORTUNITY_ID}, "Account", "c_account"),
        ("account", {"Id": ACCOUNT_ID}, "Account", "c_account"),
        (None, {"Id": ACCOUNT_ID, "attributes": {"type": "Contact"}}, "Contact", "c_contact"),
        (None, {"Id": ACCOUNT_ID}, "Account", "c_account"),
        (None, {"Id": CONTACT_ID, "Type": "Account"}, "Contact", "c_contact"),
        ("", {"Id": USER_ID, "attributes": None}, "User", "c_user"),
        (None, {"Id": OPPORTUNITY_ID, "attributes": {"type": 7}}, "Opportunity", "c_opportunity"),
        ("Project__c", {"Id": salesforce_id("a01dM0000000001")}, "Project__c", "c_project_record"),
        ("Lead", {"Id": salesforce_id("00QdM0000000001")}, "Lead", "c_lead"),
    ],
)
def test_the_object_is_the_given_one_else_the_payloads_else_the_prefixes(
    given_type: str | None, payload: dict[str, Any], object_type: str, shard_type_id: str
) -> None:
    made = mapped(payload, object_type=given_type)
    assert (made.object_type, made.shard_type_id) == (object_type, shard_type_id)


@pytest.mark.parametrize("name", ["AggregateResult", "AccountChangeEvent", "Order_Event__e", "no object", "x" * 90])
def test_what_has_no_records_is_no_object(name: str) -> None:
    assert failure({"Id": ACCOUNT_ID}, object_type=name).reason == "unknown-object-type"


def test_an_unknown_prefix_alone_names_no_object() -> None:
    error = failure({"Id": salesforce_id("a01dM0000000001")})
    assert error.reason == "unknown-object-type"
    assert "send objectType" in error.detail


@pytest.mark.parametrize("payload", [{}, {"Id": None}, {"Id": 7}, {"Id": "001"}, {"Id": "001dm00003ju9gyqak"}])
def test_a_record_without_an_id_is_invalid(payload: dict[str, Any]) -> None:
    assert failure(payload, object_type="Account").reason == "invalid-record"


def test_an_unknown_source_is_named_with_the_known_ones() -> None:
    with pytest.raises(MappingError) as failed:
        map_record("hubspot", "Deal", {"Id": "1"}, "create")
    assert failed.value.reason == "unknown-source"
    assert all(source in failed.value.detail for source in MAPPINGS)


def test_the_url_needs_a_base() -> None:
    absolute = opportunity(attributes={"url": f"https://acme.my.salesforce.com/services/data/v59.0/{OPPORTUNITY_ID}"})
    assert mapped(absolute).external_url == f"https://acme.my.salesforce.com/{OPPORTUNITY_ID}"
    assert mapped(opportunity()).external_url is None
    assert mapped(opportunity(attributes={"url": "javascript://x/"})).external_url is None
    assert mapped(opportunity(attributes={"url": "https://user@evil.example/x"})).external_url is None


def test_records_of_other_objects() -> None:
    case = {
        "attributes": {"type": "Case"},
        "Id": salesforce_id("500dM0000000001"),
        "CaseNumber": "00001026",
        "Subject": "Pump leaks",
        "Description": "Since Monday.",
        "AccountId": ACCOUNT_ID,
        "ContactId": CONTACT_ID[:15],
        "OwnerId": salesforce_id("00GdM0000000001"),
        "Owner": {"Name": "Support queue"},
        "Priority": "High",
        "IsClosed": False,
        "SystemModstamp": STAMP,
        "CreatedDate": STAMP,
        "Amount": "not a number here",
    }
    read = data(case)
    assert read == {
        "name": "Pump leaks",
        "description": "Since Monday.",
        "accountId": ACCOUNT_ID,
        "contactId": CONTACT_ID,
        "ownerName": "Support queue",
        "createdDate": "2026-05-06T11:56:44.000Z",
        "customFields": {
            "CaseNumber": "00001026",
            "Subject": "Pump leaks",
            "OwnerId": salesforce_id("00GdM0000000001"),
            "Priority": "High",
            "IsClosed": False,
            "Amount": "not a number here",
        },
    }
    links = shard_type("c_case").link_targets("salesforce", read)
    assert [(link.relationship_type, link.external_id) for link in links] == [
        ("references", ACCOUNT_ID),
        ("references", CONTACT_ID),
    ]
    assert data({"Id": salesforce_id("a01dM0000000001")}, "Invoice__c") == {"name": "Unnamed invoice"}


def rows(name: str, encoding: str = "utf-8") -> list[dict[str, str]]:
    with (DATA / name).open(encoding=encoding, newline="") as file:
        return list(csv.DictReader(file))


def test_a_recorded_bulk_row() -> None:
    [row] = rows("onyx_test_account.csv")
    made = map_record("salesforce", "Account", row, "update")
    validate(made.shard_type_id, made.structured_data)
    assert made == Mapped(
        shard_type_id="c_account",
        object_type="Account",
        external_id="001bm00000eu6n5AAA",
        structured_data={
            "name": "Some Company",
            "billingStreet": "123 Nowhere Parkway",
            "billingCity": "Some Town",
            "cleanStatus": "Pending",
            "photoUrl": "/services/images/photo/001bm00000eu6n5AAA",
            "ownerId": "005bm000002bBHtAAM",
            "createdDate": "2024-12-24T18:18:29.000Z",
            "createdBy": "005bm000002bBHtAAM",
        },
        acl=Acl.of("tenant"),
        last_activity_at="2024-12-24T18:18:29.000Z",
        created_at="2024-12-24T18:18:29.000Z",
        source_version="2024-12-24T18:18:29.000Z",
    )


API_NAMES = {source.upper(): source for source in (*TABLES["Account"].rules, "attributes")}


def test_every_row_of_a_recorded_export_is_mapped() -> None:
    ids = set()
    for row in rows("dataloader_accountData.csv", "cp1252"):
        payload = {API_NAMES.get(header, header): value for header, value in row.items()}
        made = map_record("salesforce", "Account", payload, "update")
        validate(made.shard_type_id, made.structured_data)
        assert made.structured_data["name"] == row["NAME"].strip()
        custom_fields = made.structured_data.get("customFields", {})
        assert custom_fields.get("ORACLE_ID__C", "") == row["ORACLE_ID__C"].strip()
        assert made.structured_data.get("annualRevenue") == (
            Decimal(row["ANNUALREVENUE"]) if row["ANNUALREVENUE"] else None
        )
        assert row["SESSION_ID__C"] not in str(shard_type("c_account").text_parts(made.structured_data))
        ids.add(made.external_id)
    assert len(ids) == 423


def test_custom_fields_of_a_recorded_record_link_to_its_contact() -> None:
    household = next(row for row in rows("npsp_trailhead_Account.csv") if row["npe01__one2_one_contact__c"])
    payload = {"Id": household.pop("sf_id"), **household}
    read = data(payload, "Account")
    assert (
        read["customFields"]["npsp__Number_of_Household_Members__c"]
        == household["npsp__Number_of_Household_Members__c"]
    )
    links = shard_type("c_account").link_targets("salesforce", read)
    assert ("references", household["npe01__one2_one_contact__c"], "npe01__one2_one_contact__c") in [
        (link.relationship_type, link.external_id, link.source_field) for link in links
    ]


field_names = sorted(
    {field for table in TABLES.values() for field in (*table.rules, *table.parents, *table.addresses)} - {"Id", "id"}
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals()
    | st.floats()
    | st.text()
    | st.sampled_from([ACCOUNT_ID, ACCOUNT_ID[:15], STAMP, "2026-01-01", "true", "12.5", "", "1e999999", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["Name", "Id", "type", "city", "latitude", "records"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
payloads = st.dictionaries(st.sampled_from(field_names) | st.text(), json_values, max_size=8)
objects = st.sampled_from([None, "Account", "Contact", "Opportunity", "User", "Case", "Invoice__c", "no object"])
events: st.SearchStrategy[EventType] = st.sampled_from(["create", "update", "delete"])


@given(objects, payloads, events, json_values | st.just(ACCOUNT_ID))
def test_any_payload_is_mapped_to_valid_data_or_refused_with_a_reason(
    object_type: str | None, fields: dict[str, Any], event_type: EventType, identifier: Any
) -> None:
    payload = {**fields, "Id": identifier}
    try:
        made = map_record("salesforce", object_type, payload, event_type)
    except MappingError as error:
        assert error.reason in ("unknown-object-type", "invalid-record")
        assert error.detail
        return
    if not made.deleted:
        validate(made.shard_type_id, made.structured_data)
        stored = codec.encode(made.structured_data)
        assert codec.canonical(codec.decode(stored)) == codec.canonical(made.structured_data)
        assert b"\\u0000" not in stored


@given(objects, payloads, st.randoms())
def test_the_order_of_keys_does_not_count(object_type: str | None, fields: dict[str, Any], random: Any) -> None:
    payload = {**fields, "Id": ACCOUNT_ID}
    keys = list(payload)
    random.shuffle(keys)
    try:
        made = map_record("salesforce", object_type, payload, "update")
    except MappingError as error:
        with pytest.raises(MappingError) as again:
            map_record("salesforce", object_type, {key: payload[key] for key in keys}, "update")
        assert again.value.reason == error.reason
        return
    shuffled = map_record("salesforce", object_type, {key: payload[key] for key in keys}, "update")
    assert codec.canonical(shuffled) == codec.canonical(made)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.object_type)
def test_tables_write_only_fields_that_their_type_has(table: Any) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(SHARD_TYPES[table.shard_type_id].data)}
    written = {rule.name for rule in table.fields.values()}
    written |= {name for parent in table.parents.values() for name in (parent.id_field, parent.name_field) if name}
    written |= {name for address in table.addresses.values() for name in address.values()}
    assert written <= names
    assert len({rule.name for rule in table.fields.values()}) == len(table.fields)
