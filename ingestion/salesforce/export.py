"""Data Loader exports as a history: CSV files of whole records, one object a file."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connections.salesforce_connection import SalesforceConnection
from ingestion.salesforce.csv_export import csv_rows, encoding_of, object_of_file
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.events import SYSTEM
from ingestion.salesforce.owners import USER
from ingestion.source import HistoryPage, Position
from messaging import codec
from messaging.contracts import IngestionEvent
from processors.mapping.salesforce import known_fields
from processors.mapping.values import read_moment
from shards.identity import InvalidExternalIdError, salesforce_id

PAGE: Final = 500
NO_VERSION: Final = "1970-01-01T00:00:00.000Z"
"""Of a record that says nothing of its time: whatever the org says of it is newer."""
NEVER_READ: Final = NO_VERSION
"""When an export was read: whatever the org itself has said of a version, by whichever clock, was read later."""
_VERSION_FIELDS: Final = ("SystemModstamp", "LastModifiedDate", "CreatedDate")


@dataclass(slots=True)
class CsvHistory:
    """The pages of some exports. Read in order they are read once; any other position reads its file from the start."""

    connection: SalesforceConnection
    paths: Sequence[Path]
    spelled: Callable[[str], Awaitable[Sequence[str]]]
    """The fields of an object as its org spells them, as far as anybody has asked: exports write them in capitals."""
    _files: list[tuple[str, Path]] | None = None
    _open: "tuple[tuple[int, int], Iterator[dict[str, str]]] | None" = field(default=None)

    async def page(self, position: Position | None) -> HistoryPage:
        """The page at *position*.

        Raises:
            ObjectError: a file is no export of an object that the connection reads; the message names it.
            OSError: a file can't be read.
        """
        if not self.connection.instance:
            raise ObjectError(f"connection {self.connection.connection_id} has not found its org yet: test it first")
        files = self._files = self._files or self._sorted()
        number, row = (position["file"], position["row"]) if position else (0, 0)
        if number >= len(files):
            return HistoryPage([], None)
        object_type, path = files[number]
        records = await self._from(number, row, object_type, path)
        events = []
        for record in records:
            events.append(self._event(object_type, record))
            if len(events) == PAGE:
                break
        here = (number, row + len(events))
        if len(events) == PAGE:
            self._open = here, records
            return HistoryPage(events, {"file": here[0], "row": here[1]})
        end = number + 1 == len(files)
        return HistoryPage(events, None if end else {"file": number + 1, "row": 0})

    def _sorted(self) -> list[tuple[str, Path]]:
        objects = list(dict.fromkeys((USER, *(polled.name for polled in self.connection.objects))))
        found: list[tuple[str, Path]] = []
        for path in self.paths:
            for file in sorted(path.glob("*.csv")) if path.is_dir() else [path]:
                if file.is_symlink():
                    raise ObjectError(f"{file.name} is a link: name the file itself")
                found.append((object_of_file(file, objects), file))
        if not found:
            raise ObjectError("there is no CSV file: name exports such as Account.csv, or the folder that holds them")
        return sorted(found, key=lambda one: objects.index(one[0]))

    async def _from(self, number: int, row: int, object_type: str, path: Path) -> "Iterator[dict[str, str]]":
        if self._open is not None and self._open[0] == (number, row):
            return self._open[1]
        records = _records((*known_fields(object_type), *await self.spelled(object_type)), path)
        for _ in range(row):
            next(records, None)
        return records

    def _event(self, object_type: str, record: dict[str, str]) -> IngestionEvent:
        version = next((text for name in _VERSION_FIELDS if (text := _moment(record.get(name)))), NO_VERSION)
        deleted = record.get("IsDeleted", "").lower() == "true"
        payload: dict[str, Any] = {name: value for name, value in record.items() if value}
        return IngestionEvent(
            tenant_id=self.connection.tenant_id,
            source=SYSTEM,
            source_id=record["Id"],
            event_type="delete" if deleted else "update",
            observed_at=version,
            payload=payload,
            event_id=f"{version}.export.{len(codec.encode(payload))}",
            connection_id=self.connection.connection_id,
            instance=self.connection.instance,
            object_type=object_type,
            source_version=version,
            read_at=NEVER_READ,
        )


def _moment(text: str | None) -> str | None:
    try:
        return read_moment(text) if text else None
    except ValueError:
        return None


def _records(fields: Iterable[str], path: Path) -> Iterator[dict[str, str]]:
    """The records of a file, fields by their API names, ids in their 18 characters where they are ids."""
    with closing(path.open(encoding=encoding_of(path), newline="")) as file:
        rows = csv_rows(file, path.name)
        _, header = next(rows, (0, []))
        names = _api_names(fields, header, path.name)
        first = True
        for line, cells in rows:
            record = {name: cell for name, cell in zip(names, cells, strict=False) if name}
            try:
                record["Id"] = salesforce_id(record.get("Id", "").strip())
            except InvalidExternalIdError as error:
                if first:
                    raise ObjectError(
                        f"{path.name}, line {line}: {error}; export with Salesforce's own ids in a column Id"
                    ) from None
            first = False
            yield record


def _api_names(fields: Iterable[str], header: Sequence[str], file: str) -> list[str | None]:
    """Fields by their columns, which exports write in capitals, in snake_case or as they are; *fields* are known."""
    known = {name.lower(): name for name in (*fields, "Id", "SystemModstamp", "IsDeleted")}
    squeezed = {column.strip().lower() for column in header}
    names: list[str | None] = []
    for cell in header:
        column = cell.strip()
        lower = column.lower()
        if lower == "sf_id":
            names.append("Id")
        elif (lower == "id" and "sf_id" in squeezed) or not column or column.startswith("_"):
            names.append(None)
        elif lower.endswith("__c"):
            names.append(known.get(lower) or column[:-1] + "c")
        else:
            names.append(known.get(lower) or known.get(lower.replace("_", "")) or column)
    if "Id" not in names:
        raise ObjectError(f"{file}: no column Id in its first line; export the record ids too")
    return names
