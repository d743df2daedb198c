"""What a company directory may hold, and what the loader says about what it may not."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.company import CompanyError, load_company
from local.salesforce import ids

SAMPLES = Path(__file__).parents[2] / "samples" / "salesforce" / "data"


def write(directory: Path, name: str, text: str | bytes) -> Path:
    (directory / "salesforce").mkdir(parents=True, exist_ok=True)
    path = directory / "salesforce" / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def only(directory: Path, object_name: str = "Account") -> dict[str, object]:
    (record,) = load_company(directory).tables[object_name].records
    return dict(record)


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        (["npsp_1k_Account.csv", "npsp_1k_Opportunity.csv"], {"Account": 1223, "Opportunity": 1517}),
        (["dataloader_accountData.csv"], {"Account": 423}),
        (["npsp_trailhead_Account.csv"], {"Account": 115}),
        (["fivetran_sf_opportunity_data.csv"], {"Opportunity": 10}),
        (["onyx_test_account.csv"], {"Account": 1}),
    ],
)
def test_sample_exports_are_read_as_they_are(tmp_path: Path, files: list[str], counts: dict[str, int]) -> None:
    (tmp_path / "salesforce").mkdir()
    for file in files:
        shutil.copy(SAMPLES / file, tmp_path / "salesforce")
    company = load_company(tmp_path)
    found = {name: len(table.records) for name, table in company.tables.items() if table.records}
    assert found == {**counts, "Organization": 1}
    for name in counts:
        table = company.tables[name]
        for record in table.records:
            assert ids.to_18(str(record["Id"])) == record["Id"]
            assert str(record["Id"]).startswith(table.key_prefix)
            assert isinstance(record["SystemModstamp"], str)
    assert load_company(tmp_path) == company


def test_the_opportunities_of_the_sample_refer_to_its_accounts(tmp_path: Path) -> None:
    (tmp_path / "salesforce").mkdir()
    for file in ("npsp_1k_Account.csv", "npsp_1k_Opportunity.csv"):
        shutil.copy(SAMPLES / file, tmp_path / "salesforce")
    tables = load_company(tmp_path).tables
    accounts = {record["Id"] for record in tables["Account"].records}
    linked = [record["AccountId"] for record in tables["Opportunity"].records]
    assert None not in linked
    assert set(linked) <= accounts


def test_rows_of_the_fivetran_sample_are_all_deleted(tmp_path: Path) -> None:
    (tmp_path / "salesforce").mkdir()
    shutil.copy(SAMPLES / "fivetran_sf_opportunity_data.csv", tmp_path / "salesforce")
    records = load_company(tmp_path).tables["Opportunity"].records
    assert all(record["IsDeleted"] for record in records)
    first = next(record for record in records if record["Id"] == "006q000000HddohAAB")
    assert first["Amount"] == Decimal("24120000")
    assert first["CloseDate"] == "2018-12-19"
    assert first["CreatedDate"] == "2018-12-19T19:51:13.000+0000"
    assert str(first["AccountId"]).startswith("001")


@pytest.mark.parametrize(
    ("file", "object_name"),
    [
        ("npsp_1k_Account.csv", "Account"),
        ("accountData.csv", "Account"),
        ("export_2024-01-31_opportunities.csv", "Opportunity"),
        ("CONTACTS.CSV", "Contact"),
        ("accountdata.csv", "Account"),
        ("Contact (2).csv", "Contact"),
        ("users_export.csv", "User"),
        ("my_opportunity_line_items.csv", "OpportunityLineItem"),
        ("Invoice_Line__c.csv", "Invoice_Line__c"),
        ("Invoice_Line__C.csv", "Invoice_Line__c"),
    ],
)
def test_the_last_word_of_the_file_name_is_the_object(tmp_path: Path, file: str, object_name: str) -> None:
    write(tmp_path, file, "Id,Name\n1,One\n")
    assert only(tmp_path, object_name)["Name"] == "One"


def test_a_files_map_in_company_json_names_the_object(tmp_path: Path) -> None:
    write(tmp_path, "crm.csv", "Id,Name\n1,One\n")
    (tmp_path / "company.json").write_text('{"tenantId": "acme", "files": {"crm.csv": "Contact"}}')
    assert load_company(tmp_path).tenant_id == "acme"
    assert only(tmp_path, "Contact")["Name"] == "One"


def test_headers_match_without_case_and_from_snake_case(tmp_path: Path) -> None:
    write(
        tmp_path,
        "Account.csv",
        "ID,ISDELETED,annual_revenue,ORACLE_ID__C,npsp__Level__c,_synced,dont_pay\n1,TRUE,12.50,4-2,a,x,false\n",
    )
    record = only(tmp_path)
    assert record["IsDeleted"] is True
    assert record["AnnualRevenue"] == Decimal("12.50")
    assert record["ORACLE_ID__c"] == "4-2"
    assert record["npsp__Level__c"] == "a"
    assert record["DontPay"] is False
    assert "_synced" not in record


def test_values_are_typed(tmp_path: Path) -> None:
    write(
        tmp_path,
        "Opportunity.csv",
        "Id,Name,Amount,CloseDate,IsPrivate,CreatedDate,FiscalYear,Description,Rank__c,Code__c,Since__c\n"
        '1,x,"1,234.10",2026-05-06,1,2026-05-06 11:56:44+02:00,2026,"two\nlines, ""quoted""",7.50,007,2020-02-02\n'
        "2,y,,,,,,,,8,\n",
    )
    table = load_company(tmp_path).tables["Opportunity"]
    first, second = table.records
    assert first["Amount"] == Decimal("1234.10")
    assert first["CloseDate"] == "2026-05-06"
    assert first["IsPrivate"] is True
    assert first["CreatedDate"] == "2026-05-06T09:56:44.000+0000"
    assert first["FiscalYear"] == 2026
    assert first["Description"] == 'two\nlines, "quoted"'
    assert first["Rank__c"] == Decimal("7.50")
    assert (first["Code__c"], second["Code__c"]) == ("007", "8")
    assert table.fields["Since__c"].type == "date"
    assert (second["Amount"], second["CloseDate"], second["IsPrivate"]) == (None, None, False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_utf8_with_or_without_bom_and_cp1252(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, "Account.csv", "Id,Name\n1,Müller – Söhne\n".encode(encoding))
    assert only(tmp_path)["Name"] == "Müller – Söhne"


def test_nul_bytes_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", b"Id,Name\n1,A\0cme\n")
    assert only(tmp_path)["Name"] == "Acme"


def test_fifteen_characters_become_eighteen_and_foreign_ids_get_one(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "Id,Name,ParentId,OwnerId\n001dM00003jU9Gy,A,17,hash+/=\n")
    record = only(tmp_path)
    assert record["Id"] == "001dM00003jU9GyQAK"
    assert record["ParentId"] == ids.made_id("001", "Account", "17")
    assert str(record["OwnerId"]).startswith("005")


def test_a_foreign_id_beside_a_salesforce_id_is_followed_by_references(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "id,sf_id,Name\n1,001dM00003jU9Gy,A\n")
    write(tmp_path, "Contact.csv", "id,LastName,account_id\n9,B,1\n")
    assert only(tmp_path, "Contact")["AccountId"] == "001dM00003jU9GyQAK"


def test_a_custom_column_of_ids_refers_to_the_object_it_is_named_after(tmp_path: Path) -> None:
    write(tmp_path, "Opportunity.csv", "Id,Name,primary_contact__c,contact_name__c\n1,x,894,Ann\n")
    write(tmp_path, "Contact.csv", "Id,LastName\n894,Ann\n")
    tables = load_company(tmp_path).tables
    assert tables["Opportunity"].records[0]["primary_contact__c"] == tables["Contact"].records[0]["Id"]
    assert tables["Opportunity"].records[0]["contact_name__c"] == "Ann"


def test_rows_without_ids_get_the_same_ones_at_each_reading_whatever_their_order(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "Name,Industry\nA,x\nB,y\nA,x\n")
    first = [record["Id"] for record in load_company(tmp_path).tables["Account"].records]
    assert len(set(first)) == 3
    write(tmp_path, "Account.csv", "Name,Industry\nB,y\nA,x\nA,x\n")
    assert {record["Id"] for record in load_company(tmp_path).tables["Account"].records} == set(first)


def test_the_later_row_of_an_id_wins(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "Id,Name\n1,old\n2,other\n1,new\n")
    names = [record["Name"] for record in load_company(tmp_path).tables["Account"].records]
    assert names == ["other", "new"]


def test_missing_stamps_come_from_the_other_times_else_from_the_place(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "Id,Name,CreatedDate\n1,a,2020-01-01T00:00:00Z\n2,b,\n")
    first, second = load_company(tmp_path).tables["Account"].records
    assert first["SystemModstamp"] == "2020-01-01T00:00:00.000+0000"
    assert second["SystemModstamp"] == second["CreatedDate"] == "2024-01-01T00:00:01.000+0000"


def test_an_appended_row_is_stamped_behind_all_others(tmp_path: Path) -> None:
    path = write(tmp_path, "Account.csv", "Id,Name\n1,a\n2,b\n")
    before = load_company(tmp_path).tables["Account"].records
    path.write_text(path.read_text() + "3,c\n")
    after = load_company(tmp_path).tables["Account"].records
    assert after[:2] == before
    assert str(after[2]["SystemModstamp"]) > max(str(record["SystemModstamp"]) for record in before)


def test_what_the_vendor_derives_is_filled_in(tmp_path: Path) -> None:
    write(tmp_path, "Contact.csv", "Id,FirstName,LastName\n1,Ann,Lee\n")
    write(tmp_path, "Opportunity.csv", "Id,Name,StageName\n1,x,Closed Won\n2,y,Closed Lost\n3,z,Prospecting\n")
    write(tmp_path, "User.csv", "Id,Email,LastName\n1,ann@acme.example,Lee\n")
    tables = load_company(tmp_path).tables
    assert tables["Contact"].records[0]["Name"] == "Ann Lee"
    states = [(record["IsClosed"], record["IsWon"]) for record in tables["Opportunity"].records]
    assert states == [(True, True), (True, False), (False, False)]
    assert tables["User"].records[0]["IsActive"] is True
    assert tables["User"].records[0]["Username"] == "ann@acme.example"


@pytest.mark.parametrize("folder", ["slack", "salesforce"])
def test_a_directory_without_an_export_is_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "notes.txt").write_text("Id,Name\n1,One\n")
    with pytest.raises(CompanyError) as caught:
        load_company(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no export in it; put CSV files such as Account.csv into {tmp_path / 'salesforce'}"
    )


def test_objects_without_an_export_are_there_and_empty(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "Id,Name\n1,One\n")
    tables = load_company(tmp_path).tables
    assert {"Account", "Contact", "Opportunity", "User"} <= tables.keys()
    assert not tables["User"].records


def test_the_org_id_is_the_given_one_else_made_from_the_tenant(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", "Id,Name\n1,One\n")
    assert load_company(tmp_path).org_id == load_company(tmp_path).org_id
    (tmp_path / "company.json").write_text(json.dumps({"salesforce": {"orgId": "00DD0000000muCU"}}))
    company = load_company(tmp_path)
    assert company.org_id == "00DD0000000muCUMAY"
    assert company.tables["Organization"].records[0]["Id"] == "00DD0000000muCUMAY"


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("Id,Name\n1,secret\n")
    company = tmp_path / "company"
    write(company, "Contact.csv", "Id,LastName\n1,Own\n")
    (company / "salesforce" / "Account.csv").symlink_to(outside)
    assert load_company(company).tables["Account"].records == []
    other = tmp_path / "other"
    other.mkdir()
    (other / "salesforce").symlink_to(company / "salesforce")
    with pytest.raises(CompanyError, match="no export in it"):
        load_company(other)
    (tmp_path / "settings.json").write_text('{"tenantId": "secret"}')
    (company / "company.json").symlink_to(tmp_path / "settings.json")
    assert load_company(company).tenant_id == "sandbox"


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("widgets.csv", b"Id,Name\n1,a\n", "'widgets' is no Salesforce object"),
        ("Account.csv", b"", "the file is empty"),
        ("Account.csv", b"1,Acme,Main St\n2,Bolt,High St\n", "line 1: no header"),
        ("Account.csv", b"Id;Name\n1;a\n", "separate the columns with commas"),
        ("Account.csv", b"Id,Name\n1,a\n2,b,c\n", "line 3: 3 cells under a header of 2"),
        ("Account.csv", b'Id,Name\n1,"a\n\n', "line 2: unexpected end of data"),
        ("Account.csv", b"Id,Name,name\n1,a,b\n", "two columns are the field Name"),
        ("Account.csv", b"Id,Name\n1,\x81\n", "line 2: neither UTF-8 nor cp1252"),
        ("Account.csv", "Id,Name\n".encode("utf-16"), "save it as UTF-8"),
        ("Account.csv", b"Id,AnnualRevenue\n1,2\n2,lots\n", "line 3: AnnualRevenue: 'lots' is no number"),
        ("Opportunity.csv", b"Id,CloseDate\n1,31/12/2026\n", "line 2: CloseDate: '31/12/2026' is no date-time"),
        ("Account.csv", b"Id,IsDeleted\n1,perhaps\n", "line 2: IsDeleted: 'perhaps' is neither true nor false"),
    ],
)
def test_what_can_not_be_read_is_one_line_with_its_place(tmp_path: Path, file: str, data: bytes, said: str) -> None:
    write(tmp_path, file, data)
    with pytest.raises(CompanyError) as caught:
        load_company(tmp_path)
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"salesforce/{file}")
    assert "\n" not in message
    assert ";" in message or "save" in message  # what to do about it


def test_the_line_of_a_row_is_that_of_its_first_character(tmp_path: Path) -> None:
    write(tmp_path, "Account.csv", 'Id,Name\n1,"two\nlines"\n2,b,c\n')
    with pytest.raises(CompanyError, match="line 4: 3 cells"):
        load_company(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{", "company.json: "),
        ("[]", "not a JSON object"),
        ('{"tenantId": "a/b"}', "tenantId 'a/b'"),
        ('{"salesforce": {"orgId": "1"}}', "salesforce.orgId '1'"),
        ('{"files": {"a.csv": "Nothing"}}', "no Salesforce object"),
        ('{"files": {"../a.csv": "Account"}}', "there is no salesforce/../a.csv"),
    ],
)
def test_a_bad_company_json_is_one_line(tmp_path: Path, settings: str, said: str) -> None:
    (tmp_path / "company.json").write_text(settings)
    with pytest.raises(CompanyError) as caught:
        load_company(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CompanyError, match="no such directory; give the path"):
        load_company(tmp_path / "nowhere")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


@given(st.lists(st.tuples(st.integers(0, 50), TEXTS), max_size=20))
def test_any_table_that_a_csv_writer_wrote_is_read_back(rows: list[tuple[int, str]]) -> None:
    import csv
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        (directory / "salesforce").mkdir()
        with (directory / "salesforce" / "Account.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["Id", "Name"])
            writer.writerows(rows)
        records = load_company(directory).tables["Account"].records
    expected = {ids.made_id("001", "Account", str(number)): name or None for number, name in rows}
    assert {record["Id"]: record["Name"] for record in records} == expected
