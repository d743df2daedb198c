"""A company directory: the exports of one company, read into what the vendor simulators serve.

``DIR/company.json`` (optional) names the tenant and the org; ``DIR/salesforce/*.csv`` are Data Loader exports and their
like. How names are matched:

* The object of a file is the last word of its name, whatever the case, singular or plural: ``npsp_1k_Account.csv``,
  ``accountData.csv``, ``2024_opportunities.csv``. Words end at capitals and at what is neither letter nor digit;
  trailing numbers and the words ``data`` and ``export`` say nothing. A name that ends in ``__c`` is a custom object
  as a whole. ``{"files": {"file name": "Object"}}`` in company.json overrides all that.
* A column is a standard field when the two agree without case and underscores (``stage_name``, ``ISDELETED``);
  ``sf_id`` is Id. A name that ends in ``__c`` is a custom field: its spelling stays, but for a lower-case ``__c``.
  Other names without a capital become PascalCase. Two spellings of one name are one field, spelled as it came first.
  A name with a leading underscore is the export tool's own column and left out.
* An id that is no Salesforce id becomes one, always the same for the same object and text; so does every reference to
  it. A field refers to an object by its standard definition, or, for a column of whole numbers or ids, by the last word
  of its name (``primary_contact__c``). Rows without an id get one from their content. 15 characters become 18.
* A row without SystemModstamp takes LastModifiedDate, else CreatedDate, else a time by its place in the table: the
  first row 2024-01-01T00:00:00Z, each next one a second later.

Two reads of a directory give equal companies.
"""

import hashlib
import io
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingestion.salesforce.csv_export import WORD, csv_rows, object_of_words, words_of_name
from ingestion.salesforce.errors import ObjectError
from local.salesforce import ids
from local.salesforce.schema import (
    STANDARD_OBJECTS,
    Field,
    ObjectTable,
    Record,
    empty_table,
    is_custom_object,
    key_prefix,
    standard_fields,
)
from local.salesforce.values import datetime_text, from_text, infer_type

logger = logging.getLogger(__name__)

DEFAULT_TENANT_ID = "sandbox"
DEFAULT_OBJECTS = ("Account", "Contact", "Opportunity", "User")
"""Objects that every org has, with or without a file of theirs."""

FIRST_STAMP = datetime(2024, 1, 1, tzinfo=UTC)
"""The time of the first row of a table without any times."""

_TENANT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_CUSTOM_NAME = re.compile(r"[A-Za-z]\w*__c")
_WHOLE_NUMBER = re.compile(r"\d{1,14}")
_OBJECTS_BY_WORD = {name.lower(): name for name in STANDARD_OBJECTS}


class CompanyError(Exception):
    """A company directory that can't be read. The message is one line: file, line where there is one, and remedy."""


@dataclass(frozen=True, slots=True)
class Company:
    """What a company directory holds. *org_id* is the Salesforce org's 18-character id."""

    tenant_id: str
    org_id: str
    tables: dict[str, ObjectTable]
    """The org's objects by API name; Account, Contact, Opportunity, User and Organization are always there."""


@dataclass(frozen=True, slots=True)
class _Row:
    file: str
    line: int
    cells: dict[str, str]
    """Texts by field name; a foreign key beside a Salesforce id stands under ``_FOREIGN_ID``."""


_FOREIGN_ID = "(foreign id)"


def load_company(directory: Path) -> Company:
    """The company in *directory*.

    Links in it are not followed; a CSV file that is one is left out, with a warning in the log.

    Raises:
        CompanyError: the directory is missing, has no export, or something in it can't be read.
    """
    if not directory.is_dir():
        raise CompanyError(f"{directory}: no such directory; give the path of a company directory")
    settings = read_company_settings(directory)
    org_id = _org_id(settings)
    object_by_file = _file_map(settings)
    rows: dict[str, list[_Row]] = {}
    spellings: dict[str, dict[str, str]] = {}
    for path in _csv_files(directory, set(object_by_file)):
        object_name = object_by_file.get(path.name) or _object_of_file(path)
        rows.setdefault(object_name, []).extend(_read_csv(path, object_name, spellings.setdefault(object_name, {})))
    if not rows:
        raise CompanyError(
            f"{directory}: no export in it; put CSV files such as Account.csv into {directory / 'salesforce'}"
        )
    aliases = {
        (name, row.cells[_FOREIGN_ID]): _resolve(name, row.cells["Id"], {})
        for name, object_rows in rows.items()
        for row in object_rows
        if row.cells.get(_FOREIGN_ID) and row.cells.get("Id")
    }
    tables = {
        name: _build_table(name, rows.get(name, []), aliases) for name in dict.fromkeys((*DEFAULT_OBJECTS, *rows))
    }
    company = Company(settings["tenantId"], org_id, tables)
    add_organization(company)
    return company


def default_org_id(tenant_id: str) -> str:
    """The org id of a company that names none."""
    return ids.made_id("00D", "Organization", tenant_id)


def add_organization(company: Company) -> None:
    """Give *company* the one Organization record that every org has, unless an export brought it."""
    table = company.tables.setdefault("Organization", empty_table("Organization"))
    if table.records:
        return
    record = blank_record(table)
    stamp = datetime_text(FIRST_STAMP)
    record.update(Id=company.org_id, Name=company.tenant_id, InstanceName="SIM1", OrganizationType="Developer Edition")
    record.update(CreatedDate=stamp, LastModifiedDate=stamp, SystemModstamp=stamp)
    table.records.append(record)


def blank_record(table: ObjectTable) -> Record:
    """A record of *table* with every field at its default: null, and false for a checkbox."""
    return {
        name: False if field.type == "boolean" else None for name, field in table.fields.items() if not field.compound
    }


def read_company_settings(directory: Path) -> dict[str, Any]:
    """What company.json of *directory* says, with its defaults: ``tenantId`` and ``salesforce``.

    Raises:
        CompanyError: it can't be read.
    """
    path = directory / "company.json"
    settings: Any = {}
    if path.is_symlink():
        logger.warning("%s is a link and was left out", path)
    elif path.exists():
        try:
            settings = json.loads(path.read_text("utf-8-sig"))
        except (OSError, ValueError) as error:
            raise CompanyError(f"company.json: {error}; write one JSON object in UTF-8") from error
    if not isinstance(settings, dict):
        raise CompanyError("company.json: not a JSON object; write {} where there is nothing to say")
    tenant_id = settings.setdefault("tenantId", DEFAULT_TENANT_ID)
    if not isinstance(tenant_id, str) or _TENANT_ID.fullmatch(tenant_id) is None:
        raise CompanyError(
            f"company.json: tenantId {tenant_id!r}; write 1 to 63 letters, digits, dots, dashes, underscores"
        )
    if not isinstance(settings.setdefault("salesforce", {}), dict):
        raise CompanyError('company.json: "salesforce" is no JSON object; write {"orgId": "00D…"} or leave it out')
    return settings


def _org_id(settings: dict[str, Any]) -> str:
    given = settings["salesforce"].get("orgId")
    if given is None:
        return default_org_id(settings["tenantId"])
    org_id = ids.to_18(given) if isinstance(given, str) else None
    if org_id is None or not org_id.startswith("00D"):
        raise CompanyError(
            f"company.json: salesforce.orgId {given!r} is no org id; write its 15 or 18 characters, 00D…"
        )
    return org_id


def _file_map(settings: dict[str, Any]) -> dict[str, str]:
    given = settings.get("files", settings["salesforce"].get("files", {}))
    if not isinstance(given, dict):
        raise CompanyError('company.json: "files" is no JSON object; write {"export.csv": "Account"}')
    for file_name, object_name in given.items():
        if not isinstance(object_name, str) or not (
            object_name in STANDARD_OBJECTS or _CUSTOM_NAME.fullmatch(object_name)
        ):
            raise CompanyError(
                f"company.json: files: {file_name!r} is said to be {object_name!r}, which is no Salesforce object; "
                "write its API name, such as Account or Invoice__c"
            )
    return {name.removeprefix("salesforce/"): object_name for name, object_name in given.items()}


def _csv_files(directory: Path, mapped: set[str]) -> Iterator[Path]:
    folder = directory / "salesforce"
    found: list[Path] = []
    if folder.is_symlink():
        logger.warning("%s is a link and was left out", folder)
    elif folder.is_dir():
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            raise CompanyError(f"salesforce: {error.strerror}; make the folder readable") from error
    missing = mapped - {path.name for path in found}
    if missing:
        raise CompanyError(f"company.json: files: there is no salesforce/{min(missing)}; correct or drop the entry")
    for path in found:
        if path.suffix.lower() != ".csv":
            continue
        if path.is_symlink() or not path.is_file():
            logger.warning("%s is no plain file and was left out", path)
        else:
            yield path


def _object_of_file(path: Path) -> str:
    if _CUSTOM_NAME.fullmatch(path.stem[:-1] + path.stem[-1:].lower()):
        return path.stem[:-1] + "c"
    words = words_of_name(path.stem)
    found = object_of_words(words, _OBJECTS_BY_WORD)
    if found is not None:
        return found
    said = f"{words[-1]!r} is" if words else "its name says"
    raise CompanyError(
        f"salesforce/{path.name}: {said} no Salesforce object; rename the file so that it ends in the object's name "
        f'(export_Account.csv), or write {{"files": {{"{path.name}": "Account"}}}} into company.json'
    )


def _read_csv(path: Path, object_name: str, spellings: dict[str, str]) -> Iterator[_Row]:
    name = f"salesforce/{path.name}"
    rows = csv_rows(io.StringIO(_read_text(path, name), newline=""), name)
    try:
        line, cells = next(rows, (0, []))
        if not cells:
            raise CompanyError(f"{name}: the file is empty; its first line must name the columns")
        header = [
            field and spellings.setdefault(field.lower(), field)
            for field in _match_header(cells, object_name, name, line)
        ]
        for line, cells in rows:
            named = zip(header, cells, strict=False)
            yield _Row(name, line, {field: cell for field, cell in named if field is not None})
    except ObjectError as error:
        raise CompanyError(str(error)) from error


def _read_text(path: Path, name: str) -> str:
    try:
        # O_NOFOLLOW: the file can't become a link between the check of its kind and here.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            data = file.read()
    except OSError as error:
        raise CompanyError(f"{name}: {error.strerror}; make the file readable") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CompanyError(f"{name}: the file is UTF-16; save it as UTF-8")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding).replace("\0", "")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
    raise CompanyError(f"{name}, line {line}: neither UTF-8 nor cp1252; save the file as UTF-8")


def _match_header(cells: list[str], object_name: str, file: str, line: int) -> list[str | None]:
    """The field of each column; ``None`` for columns to leave out."""
    standard = {name.lower(): name for name in standard_fields(object_name)}
    spelled = [cell.strip().lower() for cell in cells]
    both_ids = "sf_id" in spelled and "id" in spelled
    header: list[str | None] = []
    for cell in cells:
        column = cell.strip()
        squeezed = column.replace("_", "").lower()
        if both_ids and column.lower() == "id":
            header.append(_FOREIGN_ID)
        elif column.lower() == "sf_id":
            header.append("Id")
        elif not column or column.startswith("_"):
            header.append(None)
        elif column.lower().endswith("__c"):
            header.append(column[:-1] + "c")
        elif squeezed in standard:
            header.append(standard[squeezed])
        else:
            header.append(column if column != column.lower() else "".join(map(str.capitalize, column.split("_"))))
    named = [field for field in header if field is not None]
    if not any(field in standard.values() or field.endswith("__c") for field in named):
        hint = "separate the columns with commas" if len(cells) == 1 and re.search("[;\t]", cells[0]) else ""
        raise CompanyError(
            f"{file}, line {line}: no header, for none of its columns is a field of {object_name}; "
            f"{hint or 'write the field names into the first line'}"
        )
    for field in named:
        if [other.lower() for other in named].count(field.lower()) > 1:
            raise CompanyError(f"{file}, line {line}: two columns are the field {field}; drop one of them")
    return header


def _build_table(object_name: str, rows: list[_Row], aliases: dict[tuple[str, str], str]) -> ObjectTable:
    table = empty_table(object_name)
    for column in dict.fromkeys(name for row in rows for name in row.cells if name != _FOREIGN_ID):
        if column not in table.fields:
            table.fields[column] = _infer_field(column, [row.cells.get(column, "") for row in rows])
    blank = blank_record(table)
    occurrences: dict[str, int] = {}
    records: dict[str, Record] = {}
    for place, row in enumerate(rows):
        record = dict(blank)
        for name, text in row.cells.items():
            if name != _FOREIGN_ID:
                record[name] = _read_cell(table.fields[name], text, row, aliases)
        record["Id"] = record_id = _row_id(object_name, row, aliases, occurrences)
        _complete(object_name, record, row.cells)
        _stamp(record, FIRST_STAMP + timedelta(seconds=place))
        records.pop(record_id, None)
        records[record_id] = record
    table.records = list(records.values())
    return table


def _infer_field(name: str, texts: list[str]) -> Field:
    filled = {text for text in texts if text}
    if filled and all(_WHOLE_NUMBER.fullmatch(text) or ids.to_18(text) for text in filled):
        target = _OBJECTS_BY_WORD.get(_last_word(name))
        if target is not None:
            return Field(name, "reference", target)
    kind = infer_type(filled)
    return Field(name, kind, filterable=kind != "textarea")


def _last_word(field_name: str) -> str:
    words = WORD.findall(field_name.removesuffix("__c"))
    if len(words) > 1 and words[-1].lower() == "id":
        words.pop()
    return words[-1].lower() if words else ""


def _read_cell(field: Field, text: str, row: _Row, aliases: dict[tuple[str, str], str]) -> Any:
    if field.compound:
        return None
    if field.type == "reference":
        return _resolve(field.refers_to, text.strip(), aliases) if text.strip() else None
    try:
        return from_text(field, text)
    except ValueError as error:
        example = {"boolean": "true or false", "date": "2026-12-31", "datetime": "2026-12-31T09:30:00Z", "int": "250"}
        raise CompanyError(
            f"{row.file}, line {row.line}: {field.name}: {error}; write it like {example.get(field.type, '1234.50')}"
        ) from error


def _resolve(object_name: str | None, text: str, aliases: dict[tuple[str, str], str]) -> str:
    """The 18-character id that *text* means among the records of *object_name* (``None``: of any object)."""
    if object_name is None:
        return ids.to_18(text) or ids.made_id("000", "", text)
    if (object_name, text) in aliases:
        return aliases[object_name, text]
    prefix = key_prefix(object_name)
    id18 = ids.to_18(text)
    # Fifteen letters or digits have no checksum: without the object's key prefix they are some other system's id.
    if id18 is not None and (len(text) == 18 or is_custom_object(object_name) or text.startswith(prefix)):
        return id18
    return ids.made_id(prefix, object_name, text)


def _row_id(object_name: str, row: _Row, aliases: dict[tuple[str, str], str], occurrences: dict[str, int]) -> str:
    text = row.cells.get("Id", "").strip()
    if text:
        return _resolve(object_name, text, aliases)
    content = json.dumps(sorted((name, cell) for name, cell in row.cells.items() if cell), ensure_ascii=False)
    digest = hashlib.sha256(content.encode()).hexdigest()
    occurrences[digest] = occurrence = occurrences.get(digest, 0) + 1
    return _resolve(object_name, row.cells.get(_FOREIGN_ID) or f"{digest}#{occurrence}", aliases)


def _complete(object_name: str, record: Record, given: dict[str, str]) -> None:
    """Fill in what the vendor derives from other fields, where the export left the column out."""
    if object_name in {"Contact", "Lead", "User"} and not record["Name"]:
        record["Name"] = " ".join(str(part) for part in (record["FirstName"], record["LastName"]) if part) or None
    if object_name == "Opportunity":
        stage = str(record["StageName"] or "").lower()
        if "IsClosed" not in given:
            record["IsClosed"] = stage.startswith("closed")
        if "IsWon" not in given:
            record["IsWon"] = stage == "closed won"
    if object_name == "User":
        if "IsActive" not in given:
            record["IsActive"] = True
        record["Username"] = record["Username"] or record["Email"]


def _stamp(record: Record, otherwise: datetime) -> None:
    created, modified, stamp = record["CreatedDate"], record["LastModifiedDate"], record["SystemModstamp"]
    record["SystemModstamp"] = stamp = stamp or modified or created or datetime_text(otherwise)
    record["LastModifiedDate"] = modified = modified or stamp
    record["CreatedDate"] = created or modified
