"""The sample company is sound: its ids, references, dates and texts, and nothing in it reaches a real person."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

import local
from local.company import load_company

COMPANY = Path(local.__file__).parent / "sample_company"
ROW_COUNTS = {"Account": 63, "Contact": 92, "Opportunity": 154, "User": 12}
KEY_PREFIXES = {"Account": "001", "Contact": "003", "User": "005", "Opportunity": "006"}
REFERENCES = {
    "Account": {"ParentId": "Account", "MasterRecordId": "Account"},
    "Contact": {"AccountId": "Account", "ReportsToId": "Contact"},
    "Opportunity": {"AccountId": "Account", "ContactId": "Contact"},
    "User": {"ManagerId": "User"},
}
RECORD_USERS = ("OwnerId", "CreatedById", "LastModifiedById")
STAGES = {
    "Prospecting",
    "Qualification",
    "Needs Analysis",
    "Value Proposition",
    "Id. Decision Makers",
    "Perception Analysis",
    "Proposal/Price Quote",
    "Negotiation/Review",
    "Closed Won",
    "Closed Lost",
}
# North American 555-01xx and the ranges that Ofcom, ComReg, BNetzA, ARCEP, PTS and ACMA keep free for drama.
FICTIONAL_PHONE = re.compile(
    r"555-01\d\d( x\d+)?"
    r"|\+1 \d{3}-555-01\d\d"
    r"|\+44 (1632 960\d{3}|113 496 0\d{3}|28 9649 6\d{3})"
    r"|\+353 20 91\d \d{4}"
    r"|\+49 (69 90009|221 4710) \d{3}"
    r"|\+33 1 99 00 \d\d \d\d"
    r"|\+46 8 465 004 \d\d"
    r"|\+61 2 5550 \d{4}"
)
RESERVED_HOST = re.compile(r"([a-z0-9-]+\.)+example|example\.(com|org|net)")
VENDOR_HOSTS = {
    "larkmoor.lightning.force.com",
    "larkmoor.slack.com",
    "files.slack.com",
    "docs.google.com",
    "drive.google.com",
}
"""Where the links of messages lead, as real ones do: the ids behind them are this company's alone."""
TODAY = date(2026, 11, 20)
NO_TEXT = {".docx", ".pdf", ".png", ".pptx", ".xlsx"}

Row = dict[str, str]


def read_table(name: str) -> list[Row]:
    with (COMPANY / "salesforce" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.fixture(scope="module")
def tables() -> dict[str, list[Row]]:
    return {name: read_table(name) for name in ROW_COUNTS}


def text_files() -> list[Path]:
    """All but empty files, and those of the Drive that are no text."""
    files = (path for path in COMPANY.rglob("*.*") if path.is_file() and path.suffix not in NO_TEXT)
    return [path for path in files if path.stat().st_size]


def described(tables: dict[str, list[Row]]) -> Iterator[tuple[str, str]]:
    for rows in tables.values():
        for row in rows:
            if text := row.get("Description"):
                yield row["Name"], text


def case_checksum(id15: str) -> str:
    blocks = (id15[start : start + 5] for start in (0, 5, 10))
    bits = (sum(1 << place for place, char in enumerate(block) if "A" <= char <= "Z") for block in blocks)
    return "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[value] for value in bits)


def test_each_table_has_the_rows_its_readme_tells(tables: dict[str, list[Row]]) -> None:
    readme = (COMPANY / "README.md").read_text("utf-8")
    assert {name: len(rows) for name, rows in tables.items()} == ROW_COUNTS
    for name, count in ROW_COUNTS.items():
        assert f"| `salesforce/{name}.csv` | {count} |" in readme
    for user in tables["User"]:
        assert user["Name"] in readme


def test_ids_are_unique_and_carry_prefix_and_checksum(tables: dict[str, list[Row]]) -> None:
    for name, rows in tables.items():
        for record_id in (row["Id"] for row in rows):
            assert re.fullmatch(KEY_PREFIXES[name] + r"[0-9A-Za-z]{15}", record_id)
            assert case_checksum(record_id[:15]) == record_id[15:]
        assert len({row["Id"] for row in rows}) == len(rows)
    org_id = json.loads((COMPANY / "company.json").read_text("utf-8"))["salesforce"]["orgId"]
    assert org_id.startswith("00D") and case_checksum(org_id[:15]) == org_id[15:] and len(org_id) == 18


def test_one_pair_of_accounts_differs_only_in_case(tables: dict[str, list[Row]]) -> None:
    folded = Counter(row["Id"][:15].lower() for row in tables["Account"])
    alike = {row["Name"] for row in tables["Account"] if folded[row["Id"][:15].lower()] > 1}
    assert alike == {"Cafezal Serra Alta Ltda", "Coonara Wine Estates"}


def test_every_reference_has_a_target(tables: dict[str, list[Row]]) -> None:
    known = {name: {row["Id"] for row in rows} for name, rows in tables.items()}
    for name, rows in tables.items():
        targets = REFERENCES[name] | {field: "User" for field in RECORD_USERS if field in rows[0]}
        for row in rows:
            for field, target in targets.items():
                assert not row[field] or row[field] in known[target], (name, row["Name"], field)
            assert row["Id"] not in {row[field] for field in REFERENCES[name]}, (name, row["Name"])


def test_what_is_deleted_or_loose_is_so_on_purpose(tables: dict[str, list[Row]]) -> None:
    accounts = {row["Id"]: row for row in tables["Account"]}
    gone = {
        row["Name"]: accounts[row["MasterRecordId"]]["Name"] for row in accounts.values() if row["IsDeleted"] == "true"
    }
    assert gone == {
        "Brackwater Foods Ltd": "Brackwater Foods plc",
        "Hollis and Wray": "Hollis & Wray Logistics",
    }
    assert all(row["IsDeleted"] == "true" for row in accounts.values() if row["MasterRecordId"])
    opportunities = tables["Opportunity"]
    assert {row["Name"] for row in opportunities if row["IsDeleted"] == "true"} == {
        "Hollis and Wray web enquiry",
        "Great Lakes test record do not use",
    }
    on_deleted = {
        row["Name"]
        for row in opportunities
        if row["IsDeleted"] == "false" and accounts[row["AccountId"]]["IsDeleted"] == "true"
    }
    assert on_deleted == {"Brackwater temperature monitoring (FoodEx list)"}
    contacts = tables["Contact"]
    assert {row["Name"] for row in contacts if row["IsDeleted"] == "true"} == {"Chloé Dupont"}
    assert {row["Name"] for row in contacts if not row["AccountId"]} == {"Ottoline Castellan"}
    assert {row["Name"] for row in tables["User"] if row["IsActive"] == "false"} == {"Dale Whitcomb"}


def test_all_dates_parse_and_follow_each_other(tables: dict[str, list[Row]]) -> None:
    for name, rows in tables.items():
        for row in rows:
            created, modified, modstamp = (
                datetime.strptime(row[field], "%Y-%m-%dT%H:%M:%S.000Z")
                for field in ("CreatedDate", "LastModifiedDate", "SystemModstamp")
            )
            assert datetime(2024, 1, 1) <= created <= modified <= modstamp, (name, row["Name"])
            assert modstamp.date() <= TODAY, (name, row["Name"])
            if "LastActivityDate" in row:
                date.fromisoformat(row["LastActivityDate"])
    shared = Counter(row["SystemModstamp"] for row in tables["Account"])
    assert max(shared.values()) > 10
    assert any(row["SystemModstamp"] > row["LastModifiedDate"] for row in tables["Account"])


def test_opportunities_are_consistent(tables: dict[str, list[Row]]) -> None:
    rows = tables["Opportunity"]
    assert {row["StageName"] for row in rows} == STAGES
    overdue = set()
    for row in rows:
        close = date.fromisoformat(row["CloseDate"])
        closed = row["StageName"].startswith("Closed")
        assert (row["IsClosed"] == "true") == closed
        assert (row["IsWon"] == "true") == (row["StageName"] == "Closed Won")
        assert (row["FiscalYear"], row["FiscalQuarter"]) == (str(close.year), str((close.month + 2) // 3))
        assert 0 <= int(row["Probability"]) <= 100
        expected = Decimal(row["Amount"]) * int(row["Probability"]) / 100
        assert abs(expected - Decimal(row["ExpectedRevenue"])) <= Decimal("0.01"), row["Name"]
        assert len(row["Name"]) <= 120 and len(row["NextStep"]) <= 255
        if not closed and close < TODAY:
            overdue.add(row["Name"])
        if closed:
            assert close <= TODAY, row["Name"]
    assert overdue == {"Yokohama lane, proof of cold"}
    assert any(Decimal(row["Amount"]) % 1 for row in rows)


def test_contacts_of_an_opportunity_work_for_its_group(tables: dict[str, list[Row]]) -> None:
    employer = {row["Id"]: row["AccountId"] for row in tables["Contact"]}
    for row in tables["Opportunity"]:
        if row["ContactId"]:
            assert employer[row["ContactId"]] == row["AccountId"], row["Name"]


def test_every_account_opportunity_and_most_contacts_have_a_text_of_their_own(tables: dict[str, list[Row]]) -> None:
    texts = list(described(tables))
    assert len({text for _, text in texts}) == len(texts)
    for name in ("Account", "Opportunity"):
        assert all(row["Description"] for row in tables[name])
    assert sum(bool(row["Description"]) for row in tables["Contact"]) > len(tables["Contact"]) / 2
    assert any("\n" in text for _, text in texts)
    assert any('"' in text for _, text in texts)


def test_no_two_texts_share_a_phrase_as_filled_in_templates_do(tables: dict[str, list[Row]]) -> None:
    phrase_length = 7
    seen: dict[tuple[str, ...], str] = {}
    for name, text in described(tables):
        words = re.findall(r"\w+", text.lower())
        phrases = {tuple(words[at : at + phrase_length]) for at in range(len(words) - phrase_length + 1)}
        for phrase in phrases:
            assert seen.setdefault(phrase, name) == name, f"{name} and {seen[phrase]}: {' '.join(phrase)}"


def test_addresses_and_numbers_reach_nobody(tables: dict[str, list[Row]]) -> None:
    for rows in tables.values():
        for row in rows:
            if email := row.get("Email"):
                address, _, host = email.partition("@")
                assert re.fullmatch(r"[a-z0-9.-]+", address) and RESERVED_HOST.fullmatch(host), email
            if website := row.get("Website"):
                assert RESERVED_HOST.fullmatch(website.removeprefix("https://")), website
            if phone := row.get("Phone"):
                assert FICTIONAL_PHONE.fullmatch(phone), phone
    for path in text_files():
        for host in re.findall(r"(?:@|https?://)([\w.-]+\.[a-z]+)", path.read_text("utf-8")):
            assert RESERVED_HOST.fullmatch(host) or host in VENDOR_HOSTS, (path.name, host)
    for name in ("Contact", "User"):
        addresses = [row["Email"] for row in tables[name]]
        assert len(set(addresses)) == len(addresses)
    numbers = [row["Phone"] for name in ("Account", "Contact") for row in tables[name] if row["Phone"]]
    assert len(set(numbers)) == len(numbers)


def test_files_are_utf8_with_lf(tables: dict[str, list[Row]]) -> None:
    for path in text_files():
        data = path.read_bytes()
        data.decode("utf-8")
        assert b"\r" not in data and not data.startswith(b"\xef\xbb\xbf") and data.endswith(b"\n"), path.name


def test_the_simulators_load_it_unchanged(tables: dict[str, list[Row]]) -> None:
    company = load_company(COMPANY)
    assert company.tenant_id == "larkmoor"
    for name, rows in tables.items():
        records = company.tables[name].records
        assert {str(record["Id"]) for record in records} == {row["Id"] for row in rows}
        stamps = {str(record["Id"]): datetime.fromisoformat(str(record["SystemModstamp"])) for record in records}
        for row in rows:
            assert stamps[row["Id"]] == datetime.fromisoformat(row["SystemModstamp"])
