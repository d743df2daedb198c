"""SOQL: what is parsed, what is refused and how, and that the answer is that of a plain filter over all rows."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.company import Company, blank_record, default_org_id
from local.salesforce import ids
from local.salesforce.contacts import numbered_id
from local.salesforce.errors import ApiError
from local.salesforce.org import Org
from local.salesforce.schema import Field, Record, empty_table
from local.salesforce.soql import And, Comparison, Not, Or, parse
from local.salesforce.values import datetime_text

START = datetime(2026, 1, 1, tzinfo=UTC)


def stamp(seconds: int) -> str:
    return datetime_text(START + timedelta(seconds=seconds))


def org_of(records: Sequence[Record]) -> Org:
    table = empty_table("Account", [Field("Region__c", "string")])
    blank = blank_record(table)
    table.records = [{**blank, "SystemModstamp": stamp(0), **record} for record in records]
    return Org(Company("acme", default_org_id("acme"), {"Account": table}))


def answer(org: Org, soql: str, *, include_deleted: bool = False) -> list[Record]:
    return org.plan(parse(soql)).run(include_deleted=include_deleted)


def names(org: Org, soql: str) -> list[Any]:
    return [record["Name"] for record in answer(org, soql)]


def refusal(soql: str, org: Org | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        (org or org_of([])).plan(parse(soql))
    return caught.value


def test_a_query_is_parsed_whole() -> None:
    query = parse(
        "select Id, Name from Account where (Name like 'A%' or not Industry in ('x', null)) "
        "and AnnualRevenue >= 1.5 order by Name desc nulls last, Id limit 10 offset 5"
    )
    assert [name.text for name in query.select] == ["Id", "Name"]
    assert query.object.text == "Account"
    assert isinstance(query.where, And)
    either, comparison = query.where.terms
    assert isinstance(either, Or)
    assert isinstance(either.terms[1], Not)
    assert isinstance(comparison, Comparison)
    assert comparison.values[0].value == Decimal("1.5")
    assert [(key.field.text, key.descending, key.nulls_last) for key in query.order_by] == [
        ("Name", True, True),
        ("Id", False, False),
    ]
    assert (query.limit, query.offset) == (10, 5)


@pytest.mark.parametrize(
    ("soql", "code", "said"),
    [
        ("", "MALFORMED_QUERY", "A query string has to be specified"),
        ("SELECT Id FORM Account", "MALFORMED_QUERY", "unexpected token: 'FORM'"),
        ("SELECT Id FROM Account WHERE Name = 'a", "MALFORMED_QUERY", "expecting '''"),
        ("SELECT Id FROM Account WHERE Name = 'a' AND Type = 'b' OR Site = 'c'", "MALFORMED_QUERY", "token: 'OR'"),
        ("SELECT Id FROM Account WHERE CreatedDate > 2026-01-01T00:00:00", "MALFORMED_QUERY", "no viable alternative"),
        ("SELECT Id FROM Account GROUP BY Id", "MALFORMED_QUERY", "unexpected token: 'GROUP'"),
        ("SELECT Id FROM Account LIMIT x", "MALFORMED_QUERY", "unexpected token: 'x'"),
        ("SELECT FIELDS(ALL) FROM Account", "MALFORMED_QUERY", "must have a LIMIT of at most 200"),
        ("SELECT FIELDS(CUSTOM) FROM Account LIMIT 201", "MALFORMED_QUERY", "must have a LIMIT of at most 200"),
        ("SELECT Id FROM Account OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "offset allowed is 2000"),
        ("SELECT Id FROM Acount", "INVALID_TYPE", "sObject type 'Acount' is not supported."),
        ("SELECT Id, Foo FROM Account", "INVALID_FIELD", "ERROR at Row:1:Column:12\nNo such column 'Foo' on entity"),
        ("SELECT Id FROM Account WHERE Foo = 1", "INVALID_FIELD", "No such column 'Foo' on entity 'Account'"),
        ("SELECT Id FROM Account ORDER BY Foo", "INVALID_FIELD", "No such column 'Foo' on entity 'Account'"),
        ("SELECT Owner.Name FROM Account", "INVALID_FIELD", "Didn't understand relationship 'Owner' in field path."),
        ("SELECT Id, id FROM Account", "INVALID_FIELD", "duplicate field selected: Id"),
        ("SELECT Id FROM Account WHERE Name = 5", "INVALID_FIELD", "must be of type string and should be enclosed"),
        ("SELECT Id FROM Account WHERE NumberOfEmployees = '5'", "INVALID_FIELD", "must be of type int and should not"),
        ("SELECT Id FROM Account WHERE CreatedDate > 2026-01-01", "INVALID_FIELD", "must be of type dateTime"),
        ("SELECT Id FROM Account WHERE Description = 'x'", "INVALID_FIELD", "can not be filtered in a query call"),
        ("SELECT Id FROM Account ORDER BY BillingAddress", "INVALID_FIELD", "can not be sorted in a query call"),
        ("SELECT Id FROM Account WHERE Id = 'x'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: x"),
        ("SELECT Id FROM Account WHERE Id LIKE '001%'", "INVALID_QUERY_FILTER_OPERATOR", "invalid operator"),
        ("SELECT Id FROM Account WHERE IsDeleted > true", "INVALID_QUERY_FILTER_OPERATOR", "invalid operator"),
        ("SELECT Id FROM Account WHERE Name > null", "INVALID_QUERY_FILTER_OPERATOR", "invalid operator"),
    ],
)
def test_what_is_wrong_is_refused_as_the_vendor_does(soql: str, code: str, said: str) -> None:
    error = refusal(soql)
    assert (error.status, error.error_code) == (400, code)
    assert said in error.message


def test_field_groups() -> None:
    org = org_of([])
    every = org.plan(parse("SELECT FIELDS(ALL) FROM Account LIMIT 200")).names
    standard = org.plan(parse("SELECT FIELDS(STANDARD) FROM Account")).names
    custom = org.plan(parse("SELECT FIELDS(CUSTOM) FROM Account LIMIT 1")).names
    assert custom == ("Region__c",)
    assert set(every) == {*standard, *custom}
    org.hide("Account", ["Region__c", "Phone"])
    assert "Phone" not in org.plan(parse("SELECT FIELDS(STANDARD) FROM Account")).names
    assert refusal("SELECT Phone FROM Account", org).error_code == "INVALID_FIELD"
    org.hide("Account")
    assert refusal("SELECT Id FROM Account", org).error_code == "INVALID_TYPE"


def test_texts_compare_without_case_and_ids_with() -> None:
    first, second = ids.made_id("001", "Account", "a"), ids.made_id("001", "Account", "b")
    org = org_of([{"Id": first, "Name": "Ärger AG"}, {"Id": second, "Name": "Zoo"}])
    assert names(org, "SELECT Id FROM account WHERE name = 'ÄRGER ag'") == ["Ärger AG"]
    assert names(org, f"SELECT Id FROM Account WHERE Id = '{first[:15]}'") == ["Ärger AG"]
    assert names(org, f"SELECT Id FROM Account WHERE Id IN ('{second}', '{first[:15]}') ORDER BY Name DESC") == [
        "Ärger AG",
        "Zoo",
    ]


def test_milliseconds_of_a_date_time_do_not_count() -> None:
    org = org_of([{"Id": numbered_id("001", 1), "Name": "x", "SystemModstamp": stamp(5)}])
    assert names(org, "SELECT Id FROM Account WHERE SystemModstamp = 2026-01-01T00:00:05.999Z") == ["x"]
    assert names(org, "SELECT Id FROM Account WHERE SystemModstamp > 2026-01-01T00:00:05Z") == []
    assert names(org, "SELECT Id FROM Account WHERE SystemModstamp >= 2026-01-01T01:00:05+01:00") == ["x"]


def test_null_and_empty_text_are_one_and_unequal_to_everything() -> None:
    org = org_of([{"Id": numbered_id("001", 1), "Name": "x", "Site": "s"}, {"Id": numbered_id("001", 2), "Name": "y"}])
    assert names(org, "SELECT Id FROM Account WHERE Site = null") == ["y"]
    assert names(org, "SELECT Id FROM Account WHERE Site = ''") == ["y"]
    assert names(org, "SELECT Id FROM Account WHERE Site != 's'") == ["y"]
    assert names(org, "SELECT Id FROM Account WHERE Site NOT IN ('t') ORDER BY Id") == ["x", "y"]


def test_like_takes_wildcards_and_their_escapes() -> None:
    org = org_of([{"Id": numbered_id("001", n), "Name": name} for n, name in enumerate(["100%", "100x", "it's"])])
    assert names(org, "SELECT Id FROM Account WHERE Name LIKE '100_'") == ["100%", "100x"]
    assert names(org, r"SELECT Id FROM Account WHERE Name LIKE '100\%'") == ["100%"]
    assert names(org, r"SELECT Id FROM Account WHERE Name LIKE 'IT\'%'") == ["it's"]


def test_nulls_sort_first_unless_asked() -> None:
    rows: list[Record] = [
        {"Id": numbered_id("001", n), "Name": name, "Site": site}
        for n, (name, site) in enumerate([("a", "2"), ("b", None), ("c", "1")])
    ]
    org = org_of(rows)
    assert names(org, "SELECT Id FROM Account ORDER BY Site") == ["b", "c", "a"]
    assert names(org, "SELECT Id FROM Account ORDER BY Site DESC NULLS LAST") == ["a", "c", "b"]


# The evaluator against a plain filter over all rows

Test = Callable[[Record], bool]
RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "SystemModstamp": st.integers(0, 6).map(stamp),
            "Name": st.sampled_from(["a", "B", "b", None, "ab%"]),
            "AnnualRevenue": st.sampled_from([None, Decimal("1.5"), Decimal(2), Decimal("-3")]),
            "IsDeleted": st.booleans(),
        }
    ),
    max_size=25,
).map(lambda rows: [{"Id": numbered_id("001", number * 7 % 25), **row} for number, row in enumerate(rows)])

ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda value, other: value == other,
    "!=": lambda value, other: value != other,
    "<": lambda value, other: value is not None and value < other,
    "<=": lambda value, other: value is not None and value <= other,
    ">": lambda value, other: value is not None and value > other,
    ">=": lambda value, other: value is not None and value >= other,
}


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, Test]:
    field = draw(st.sampled_from(["SystemModstamp", "Id", "AnnualRevenue", "Name"]))
    operator = draw(st.sampled_from([*ORDERINGS, "IN", "NOT IN"]))
    makers: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], str]]] = {
        "SystemModstamp": (st.integers(0, 6).map(stamp), lambda value: str(value).replace("+0000", "Z")),
        "Id": (st.integers(0, 24).map(lambda number: numbered_id("001", number)), lambda value: f"'{value}'"),
        "AnnualRevenue": (st.sampled_from([Decimal("1.5"), Decimal(2)]), str),
        "Name": (st.sampled_from(["a", "b"]), lambda value: f"'{value}'"),
    }
    values, written = makers[field]

    def of(record: Record) -> Any:
        value = record[field]
        return value.lower() if field == "Name" and isinstance(value, str) else value

    if operator in {"IN", "NOT IN"}:
        chosen = draw(st.lists(values, min_size=1, max_size=3))
        inside = operator == "IN"
        return (
            f"{field} {operator} ({', '.join(map(written, chosen))})",
            lambda record: (of(record) in chosen) == inside,
        )
    value = draw(values)
    return f"{field} {operator} {written(value)}", lambda record: ORDERINGS[operator](of(record), value)


def _joined(parts: list[tuple[str, Test]], word: str) -> tuple[str, Test]:
    quantifier = all if word == "AND" else any
    return (
        "(" + f" {word} ".join(text for text, _ in parts) + ")",
        lambda record: quantifier(test(record) for _, test in parts),
    )


CONDITIONS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: _joined(parts, "AND")),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: _joined(parts, "OR")),
        inner.map(lambda part: (f"NOT {part[0]}", lambda record: not part[1](record))),
    ),
    max_leaves=6,
)
ORDERS: dict[str, Callable[[Record], Any] | None] = {
    "": None,
    " ORDER BY SystemModstamp, Id": lambda record: (record["SystemModstamp"], record["Id"]),
    " ORDER BY Id": lambda record: record["Id"],
    " ORDER BY Name, Id": lambda record: (
        record["Name"] is not None,
        str(record["Name"] or "").lower(),
        record["Id"],
    ),
}


@given(
    RECORDS,
    CONDITIONS,
    st.tuples(st.sampled_from(sorted(ORDERS)), st.booleans()),
    st.none() | st.integers(0, 8),
    st.booleans(),
)
def test_the_answer_is_that_of_a_plain_filter(
    rows: list[Record],
    condition: tuple[str, Test],
    ordering: tuple[str, bool],
    limit: int | None,
    include_deleted: bool,
) -> None:
    text, test = condition
    order, backwards = ordering
    key = ORDERS[order]
    # SystemModstamp DESC, Id DESC is one walk backwards; of Name it would also turn the nulls round.
    descending = backwards and key is not None and "Name" not in order
    written = order.replace(",", " DESC,") + " DESC" if descending else order
    soql = f"SELECT Id FROM Account WHERE {text}{written}" + ("" if limit is None else f" LIMIT {limit}")
    found = [record["Id"] for record in answer(org_of(rows), soql, include_deleted=include_deleted)]
    latest = {row["Id"]: row for row in rows}.values()
    expected = [row for row in latest if test(row) and (include_deleted or not row["IsDeleted"])]
    if key is None:
        assert set(found) <= {row["Id"] for row in expected}
        assert len(found) == len(set(found)) == len(expected[:limit])
    else:
        expected.sort(key=key, reverse=descending)
        assert found == [row["Id"] for row in expected[:limit]]


@given(RECORDS, st.integers(1, 7))
def test_a_keyset_walk_gives_every_row_once_whatever_the_ties(rows: list[Record], page: int) -> None:
    org = org_of(rows)
    seen: list[Any] = []
    where = ""
    while True:
        found = answer(
            org, f"SELECT Id FROM Account{where} ORDER BY SystemModstamp, Id LIMIT {page}", include_deleted=True
        )
        if not found:
            break
        seen += [record["Id"] for record in found]
        time, last = str(found[-1]["SystemModstamp"]).replace("+0000", "Z"), found[-1]["Id"]
        where = f" WHERE (SystemModstamp > {time} OR (SystemModstamp = {time} AND Id > '{last}'))"
    assert len(seen) == len(set(seen))
    assert set(seen) == {row["Id"] for row in rows}


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except ApiError as error:
        assert error.status == 400


@given(st.text(max_size=20))
def test_a_quoted_text_finds_itself(text: str) -> None:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    org = org_of([{"Id": numbered_id("001", 1), "Name": text or None}])
    assert len(answer(org, f"SELECT Id FROM Account WHERE Name = '{escaped}'")) == 1


@given(st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", min_size=15, max_size=15))
def test_ids_take_their_checksum_and_keep_it(id15: str) -> None:
    id18 = ids.to_18(id15)
    assert id18 is not None
    assert ids.to_18(id18) == id18
    assert ids.to_18(id18[:17] + ("A" if id18[17] != "A" else "B")) is None
    # Two ids that differ in case alone differ in their checksum too: that is what it is for.
    assert (id18.lower() == (ids.to_18(id15.swapcase()) or "").lower()) == (id15 == id15.swapcase())


@pytest.mark.parametrize("id18", ["001dM00003jU9GyQAK", "0016g000007WEfsAAG", "00DD0000000muCUMAY"])
def test_checksums_of_real_ids(id18: str) -> None:
    assert ids.to_18(id18[:15]) == id18
