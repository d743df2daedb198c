"""The REST resources as simple-salesforce sees them: pages and locators, records, listings, limits, faults."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from simple_salesforce.exceptions import (
    SalesforceError,
    SalesforceGeneralError,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)

from local.salesforce.contacts import contacts_company, numbered_id
from local.salesforce.org import Org
from local.salesforce.schema import Field
from local.salesforce.server import SalesforceSimulator
from local.salesforce.store import Table


def error_of(kind: type[SalesforceError], call: Callable[[], object]) -> tuple[int, Any]:
    """Status and, of a list, the error code of the refusal."""
    with pytest.raises(kind) as caught:
        call()
    content: Any = caught.value.content
    return caught.value.status, content[0]["errorCode"] if isinstance(content, list) else content


@pytest.fixture
def many(org: Org) -> int:
    """4,500 contacts."""
    org.tables["Contact"] = Table(contacts_company(4500).tables["Contact"])
    return 4500


def test_pages_of_two_thousand_by_locator(simulator: SalesforceSimulator, salesforce: Any, many: int) -> None:
    first = salesforce.query("SELECT Id, Score__c FROM Contact")
    assert (first["totalSize"], first["done"], len(first["records"])) == (many, False, 2000)
    assert first["nextRecordsUrl"].startswith("/services/data/v59.0/query/0r8")
    assert first["nextRecordsUrl"].endswith("-2000")
    assert first["records"][0]["attributes"] == {
        "type": "Contact",
        "url": f"/services/data/v59.0/sobjects/Contact/{first['records'][0]['Id']}",
    }
    ids = [record["Id"] for record in salesforce.query_all("SELECT Id FROM Contact")["records"]]
    assert len(ids) == len(set(ids)) == many
    # One call for the first query; three pages for the second.
    assert len(simulator.api.calls_of("Contact")) == 4


def test_batch_size_is_a_wish_between_200_and_2000(salesforce: Any, many: int) -> None:
    def size(wish: int) -> int:
        headers = {"Sforce-Query-Options": f"batchSize={wish}"}
        return len(salesforce.query("SELECT Id FROM Contact", headers=headers)["records"])

    assert [size(wish) for wish in (1, 200, 500, 9999)] == [200, 200, 500, 2000]


def test_pages_may_be_short(simulator: SalesforceSimulator, salesforce: Any, many: int) -> None:
    simulator.api.page_cap = 700
    page = salesforce.query("SELECT Id FROM Contact LIMIT 2000")
    assert (page["totalSize"], page["done"], len(page["records"])) == (2000, False, 700)
    assert len(salesforce.query_all("SELECT Id FROM Contact LIMIT 2000")["records"]) == 2000


def test_locators_die_by_age_by_number_and_on_demand(
    simulator: SalesforceSimulator, salesforce: Any, many: int
) -> None:
    def opened() -> str:
        return str(salesforce.query("SELECT Id FROM Contact")["nextRecordsUrl"])

    def more(url: str) -> Any:
        return salesforce.query_more(url, identifier_is_url=True)

    dead = (400, "INVALID_QUERY_LOCATOR")
    first = opened()
    assert len(more(first)["records"]) == 2000
    for _ in range(10):
        opened()
    assert error_of(SalesforceMalformedRequest, lambda: more(first)) == dead
    dropped = opened()
    simulator.api.drop_cursors()
    assert error_of(SalesforceMalformedRequest, lambda: more(dropped)) == dead
    old = opened()
    simulator.org.clock.advance(timedelta(days=2))
    assert error_of(SalesforceMalformedRequest, lambda: more(old)) == dead
    simulator.api.faults.add("dead-locator")
    assert error_of(SalesforceMalformedRequest, lambda: more(opened())) == dead


def test_the_last_page_can_be_asked_for_again(salesforce: Any, many: int) -> None:
    url = salesforce.query("SELECT Id FROM Contact LIMIT 2500")["nextRecordsUrl"]
    pages = [salesforce.query_more(url, identifier_is_url=True) for _ in range(2)]
    assert pages[0] == pages[1]
    assert (pages[0]["done"], len(pages[0]["records"])) == (True, 500)


def test_a_walk_sees_the_rows_of_its_beginning(org: Org, salesforce: Any, many: int) -> None:
    first = salesforce.query("SELECT Id FROM Contact")
    org.hard_delete("Contact", numbered_id("003", 4000))
    org.create("Contact", {"LastName": "late"})
    rest = salesforce.query_more(first["nextRecordsUrl"], identifier_is_url=True)
    last = salesforce.query_more(rest["nextRecordsUrl"], identifier_is_url=True)
    assert sum(len(page["records"]) for page in (first, rest, last)) == many


def test_values_go_over_the_wire_as_they_are(org: Org, salesforce: Any) -> None:
    org.add_field("Account", Field("Share__c", "double"))
    made = org.create(
        "Account",
        {
            "Name": 'Müller "& Sons"\n',
            "AnnualRevenue": Decimal("1234567890123.45"),
            "Share__c": Decimal("0.10"),
            "BillingCity": "Ulm",
        },
        stamp=datetime(2026, 5, 6, 11, 56, 44, 999_000, tzinfo=UTC),
    )
    answer = requests.get(
        _base(salesforce) + "query",
        params={"q": "SELECT AnnualRevenue, Share__c FROM Account"},
        headers=salesforce.headers,
        timeout=10,
    )
    assert '"AnnualRevenue":1234567890123.45' in answer.text
    assert '"Share__c":0.10' in answer.text
    record = salesforce.query("SELECT Name, SystemModstamp, IsDeleted, Phone, BillingAddress FROM Account")["records"][
        0
    ]
    assert record["Name"] == 'Müller "& Sons"\n'
    assert record["SystemModstamp"] == "2026-05-06T11:56:44.000+0000"
    assert (record["IsDeleted"], record["Phone"]) == (False, None)
    assert record["BillingAddress"]["city"] == "Ulm"
    assert salesforce.Account.get(made[:15])["Id"] == made


def _base(salesforce: Any) -> str:
    """Where the session really leads, for what the library does not show."""
    return f"http://{salesforce.session.adapters['https://']._netloc}/services/data/v59.0/"


def test_counting(salesforce: Any, org: Org, accounts: list[str]) -> None:
    org.delete("Account", accounts[0])
    count = salesforce.query("SELECT COUNT() FROM Account")
    assert (count["totalSize"], count["done"], count["records"]) == (4, True, [])
    assert salesforce.query("SELECT COUNT() FROM Account", include_deleted=True)["totalSize"] == 5


def test_describes(salesforce: Any, org: Org) -> None:
    describe: Any = salesforce.Account.describe()
    fields = {field["name"]: field for field in describe["fields"]}
    assert describe["keyPrefix"] == "001"
    assert fields["AnnualRevenue"]["type"] == "currency"
    assert fields["OwnerId"]["referenceTo"] == ["User"]
    assert fields["Region__c"]["custom"]
    assert fields["BillingCity"]["compoundFieldName"] == "BillingAddress"
    assert not fields["Description"]["filterable"]
    org.hide("Account", ["AnnualRevenue"])
    hidden: Any = salesforce.Account.describe()
    assert "AnnualRevenue" not in {field["name"] for field in hidden["fields"]}
    every: Any = salesforce.describe()
    assert {"Account", "Contact", "Opportunity", "User"} <= {entry["name"] for entry in every["sobjects"]}
    user: Any = salesforce.User.describe()
    assert "IsDeleted" not in {field["name"] for field in user["fields"]}


def test_versions_limits_and_usage(simulator: SalesforceSimulator, salesforce: Any) -> None:
    assert "59.0" in [entry["version"] for entry in requests.get(_base(salesforce) + "..", timeout=10).json()]
    simulator.api.daily_limit = 1000
    simulator.api.use_calls(890)
    assert salesforce.limits()["DailyApiRequests"] == {"Max": 1000, "Remaining": 109}
    salesforce.query("SELECT Id FROM Account")
    usage: Any = salesforce.api_usage["api-usage"]
    assert (usage.used, usage.total) == (892, 1000)


def test_the_daily_limit_refuses_and_rolls_on(simulator: SalesforceSimulator, salesforce: Any) -> None:
    simulator.api.daily_limit = 3
    for _ in range(3):
        salesforce.query("SELECT Id FROM Account")
    refused = error_of(SalesforceRefusedRequest, lambda: salesforce.query("SELECT Id FROM Account"))
    assert refused == (403, "REQUEST_LIMIT_EXCEEDED")
    simulator.org.clock.advance(timedelta(hours=24))
    assert salesforce.query("SELECT Id FROM Account")["done"]


def test_records_by_id(salesforce: Any, org: Org, accounts: list[str]) -> None:
    assert salesforce.Account.get(accounts[0])["Name"] == "A"
    some: Any = salesforce.restful(f"sobjects/Account/{accounts[0]}", params={"fields": "Name,region__c"})
    assert some.keys() == {"attributes", "Name", "Region__c"}
    org.delete("Account", accounts[0])
    org.hard_delete("Account", accounts[1])
    get = salesforce.Account.get
    assert error_of(SalesforceResourceNotFound, lambda: get(accounts[0])) == (404, "ENTITY_IS_DELETED")
    assert error_of(SalesforceResourceNotFound, lambda: get(accounts[1])) == (404, "NOT_FOUND")
    assert error_of(SalesforceResourceNotFound, lambda: salesforce.Nothing.get("x")) == (404, "NOT_FOUND")


def test_collections_are_read_by_get_and_post(salesforce: Any, org: Org, accounts: list[str]) -> None:
    org.delete("Account", accounts[1])
    asked = [accounts[0], accounts[1], numbered_id("001", 99), accounts[2]]
    path = "composite/sobjects/Account"
    by_get: Any = salesforce.restful(path, params={"ids": ",".join(asked), "fields": "Id,Name"})
    by_post: Any = salesforce.restful(path, method="POST", json={"ids": asked, "fields": ["Id", "Name"]})
    assert by_get == by_post
    assert [record and record["Name"] for record in by_get] == ["A", None, None, "C"]
    too_many = {"ids": [accounts[0]] * 2001, "fields": ["Id"]}
    code = error_of(SalesforceMalformedRequest, lambda: salesforce.restful(path, method="POST", json=too_many))
    assert code == (400, "EXCEEDED_ID_LIMIT")
    bad = error_of(SalesforceMalformedRequest, lambda: salesforce.restful(path, method="POST", json={"ids": asked}))
    assert bad == (400, "JSON_PARSER_ERROR")


def test_deleted_and_updated_listings(salesforce: Any, org: Org) -> None:
    now = datetime(2026, 5, 6, 12, 0, 30, tzinfo=UTC)
    org.clock.freeze(now)
    kept, gone = (org.create("Account", {"Name": name}, stamp=now - timedelta(minutes=9)) for name in "AB")
    org.delete("Account", gone, stamp=now - timedelta(minutes=5))
    start, end = now - timedelta(minutes=10), now
    deleted: Any = salesforce.Account.deleted(start, end)
    assert deleted["deletedRecords"] == [{"id": gone, "deletedDate": "2026-05-06T11:55:30.000+0000"}]
    assert deleted["latestDateCovered"] == "2026-05-06T12:00:00.000+0000"
    assert deleted["earliestDateAvailable"] == "2026-04-21T12:00:00.000+0000"
    updated: Any = salesforce.Account.updated(start, end)
    assert updated == {"ids": [kept], "latestDateCovered": "2026-05-06T12:00:00.000+0000"}
    # Seconds do not count: a window that ends in the minute of the deletion does not hold it yet.
    early: Any = salesforce.Account.deleted(start, now - timedelta(minutes=5) + timedelta(seconds=20))
    assert early["deletedRecords"] == []


def test_what_is_covered_ends_where_a_transaction_is_under_way(salesforce: Any, org: Org) -> None:
    org.clock.freeze(datetime(2026, 5, 6, 12, 0, tzinfo=UTC))
    transaction = org.begin()
    org.clock.advance(timedelta(minutes=7))
    now = org.clock()
    covered: Any = salesforce.Account.updated(now - timedelta(hours=1), now)
    assert covered["latestDateCovered"] == "2026-05-06T12:00:00.000+0000"
    transaction.roll_back()
    covered = salesforce.Account.updated(now - timedelta(hours=1), now)
    assert covered["latestDateCovered"] == "2026-05-06T12:07:00.000+0000"


def test_bad_windows(salesforce: Any, org: Org, accounts: list[str]) -> None:
    now = org.clock()

    def code(call: Any, start: datetime, end: datetime) -> tuple[int, Any]:
        return error_of(SalesforceMalformedRequest, lambda: call(start, end))

    bad = (400, "INVALID_REPLICATION_DATE")
    assert code(salesforce.Account.deleted, now, now) == bad
    assert code(salesforce.Account.deleted, now - timedelta(days=16), now) == bad
    assert code(salesforce.Account.updated, now - timedelta(days=31), now) == bad
    assert salesforce.Account.updated(now - timedelta(days=16), now)
    org.replication_id_limit = 4
    too_many = code(salesforce.Account.updated, now - timedelta(hours=1), now + timedelta(minutes=1))
    assert too_many == (400, "EXCEEDED_ID_LIMIT")


def test_a_long_query_is_too_long_for_a_uri(salesforce: Any) -> None:
    ids = ", ".join(f"'{numbered_id('001', number)}'" for number in range(800))
    with pytest.raises(SalesforceGeneralError) as caught:
        salesforce.query(f"SELECT Id FROM Account WHERE Id IN ({ids})")
    assert caught.value.status == 414


def test_other_methods_and_paths_are_refused(salesforce: Any) -> None:
    assert error_of(SalesforceGeneralError, lambda: salesforce.Account.create({"Name": "x"})) == (
        405,
        "METHOD_NOT_ALLOWED",
    )
    assert error_of(SalesforceResourceNotFound, lambda: salesforce.restful("nowhere")) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("request-limit", 403, "TotalRequests Limit exceeded."),
        ("concurrent-limit", 403, "ConcurrentRequests"),
        ("insufficient-access", 403, "INSUFFICIENT_ACCESS"),
        ("unavailable", 503, "SERVER_UNAVAILABLE"),
        ("unavailable-html", 503, "<html>"),
        ("server-error", 500, "UNKNOWN_EXCEPTION"),
        ("too-many-requests", 429, ""),
        ("query-timeout", 400, "QUERY_TIMEOUT"),
        ("row-lock", 400, "UNABLE_TO_LOCK_ROW"),
    ],
)
def test_faults_of_the_vendor(
    simulator: SalesforceSimulator, salesforce: Any, kind: str, status: int, said: str
) -> None:
    simulator.api.faults.add(kind, skip=1, times=2)
    answers = []
    for _ in range(4):
        try:
            salesforce.query("SELECT Id FROM Account")
            answers.append(200)
        except SalesforceError as error:
            answers.append(error.status)
            assert said in str(error.content)
    assert answers == [200, status, status, 200]


def test_too_many_requests_says_when_to_come_again(simulator: SalesforceSimulator, salesforce: Any) -> None:
    simulator.api.faults.add("too-many-requests", headers={"Retry-After": "7"})
    answer = requests.get(_base(salesforce) + "limits", headers=salesforce.headers, timeout=10)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_every_answer_carries_the_time_of_the_org(simulator: SalesforceSimulator, salesforce: Any) -> None:
    simulator.org.clock.freeze(datetime(2025, 1, 1, 12, tzinfo=UTC))
    simulator.api.faults.add("unavailable-html", skip=1)
    for _ in range(2):
        answer = requests.get(_base(salesforce) + "limits", headers=salesforce.headers, timeout=10)
        assert answer.headers["Date"] == "Wed, 01 Jan 2025 12:00:00 GMT"


def test_a_slow_answer_comes_late_and_whole(
    simulator: SalesforceSimulator, salesforce: Any, accounts: list[str]
) -> None:
    simulator.api.faults.add("slow", delay=0.3)
    began = time.monotonic()
    assert salesforce.query("SELECT Id FROM Account")["totalSize"] == 5
    assert time.monotonic() - began >= 0.3


def test_a_poll_with_nothing_new_can_be_counted(
    simulator: SalesforceSimulator, salesforce: Any, accounts: list[str]
) -> None:
    simulator.api.calls.clear()
    salesforce.query("SELECT Id FROM Account WHERE SystemModstamp > 2100-01-01T00:00:00Z", include_deleted=True)
    (call,) = simulator.api.calls_of("Account")
    assert (call.method, call.path, call.status) == ("GET", "/services/data/v59.0/queryAll/", 200)
    assert "SystemModstamp >" in (call.soql or "")
