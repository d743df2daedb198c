"""CSV as Salesforce and its Data Loader write it: read row by row, values in the form that the REST API gives them."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from ingestion.salesforce.errors import ObjectError

LARGEST_CELL: Final = 2**26
_NUMBERS: Final = frozenset({"double", "currency", "percent"})
_WHOLE_NUMBERS: Final = frozenset({"int", "long", "integer"})
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SILENT_WORDS: Final = frozenset({"data", "export"})
_CUSTOM_OBJECT: Final = re.compile(r"[A-Za-z]\w*__c\Z", re.IGNORECASE)
_SYSTEM_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


def csv_rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of *lines* with the numbers of their last lines, the header first.

    Quoted cells may hold commas, quotes and line breaks; NUL bytes, which exports have at times, are left out.

    Raises:
        ObjectError: a quoted cell is not closed, or a row has more cells than the header.
    """
    # A cell may hold a long text area; the limit is for the whole process and only ever raised here.
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    reader = csv.reader((line.replace("\0", "") for line in lines), strict=True)
    width = 0
    try:
        for cells in reader:
            if not width:
                width = len(cells)
            elif len(cells) > width:
                raise ObjectError(f"{name}, line {reader.line_num}: {len(cells)} cells under a header of {width}")
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ObjectError(f"{name}, line {reader.line_num}: {error}") from None


def encoding_of(path: Path) -> str:
    """How a CSV file is encoded: UTF-8 with or without a byte order mark, else cp1252.

    Raises:
        ObjectError: neither.
        OSError: it can't be read.
    """
    for encoding in ("utf-8-sig", "cp1252"):
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with path.open("rb") as file:
                if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                    raise ObjectError(f"{path.name}: the file is UTF-16; save it as UTF-8")
                file.seek(0)
                while chunk := file.read(2**20):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise ObjectError(f"{path.name}: neither UTF-8 nor cp1252; save the file as UTF-8")


def bulk_records(data: bytes, kinds: Mapping[str, str], name: str) -> list[dict[str, Any]]:
    """The records of a page of bulk results, as a query would give them; *kinds* are the fields' types.

    Raises:
        ObjectError: it is no such page.
    """
    try:
        rows = csv_rows(io.StringIO(data.decode("utf-8-sig"), newline=""), name)
    except UnicodeDecodeError:
        raise ObjectError(f"{name}: the results are not UTF-8") from None
    _, header = next(rows, (0, None))
    if header is None:
        return []
    try:
        readers = [(field, kinds[field]) for field in header]
        return [
            {field: rest_value(kind, cell) for (field, kind), cell in zip(readers, cells, strict=True)}
            for _, cells in rows
        ]
    except KeyError as error:
        raise ObjectError(f"{name}: the results have a field {error} that was not asked for") from None
    except (ValueError, InvalidOperation) as error:
        raise ObjectError(f"{name}: the results are not what the fields should hold: {error}") from None


def rest_value(kind: str, cell: str) -> Any:
    """The value of a cell as REST gives it. An empty one is null: Salesforce keeps no empty texts."""
    if kind == "boolean":
        return cell.lower() == "true"
    if not cell:
        return None
    if kind in _NUMBERS:
        return Decimal(cell)
    if kind in _WHOLE_NUMBERS:
        return int(Decimal(cell))
    if kind == "datetime" and _SYSTEM_TIME.match(cell):
        return cell[:-1] + "+0000"
    return cell


def object_of_file(path: Path, objects: Sequence[str]) -> str:
    """The object of an export by the last word of its file's name: ``export_Account.csv``, ``2024 opportunities.csv``.

    Raises:
        ObjectError: it is none of *objects*.
    """
    by_name = {name.lower(): name for name in objects}
    if _CUSTOM_OBJECT.match(path.stem):
        found = next((name for key, name in by_name.items() if path.stem.lower().endswith(key)), None)
        if found is not None:
            return found
    words = [word.lower() for word in _WORD.findall(path.stem)]
    while words and (words[-1] in _SILENT_WORDS or words[-1].isdigit()):
        words.pop()
    for length in range(min(3, len(words)), 0, -1):
        joined = "".join(words[-length:]).removesuffix("data")
        for word in (joined, joined.removesuffix("s"), f"{joined.removesuffix('ies')}y"):
            if word in by_name:
                return by_name[word]
    raise ObjectError(
        f"{path.name}: its name ends in no object that the connection reads ({', '.join(objects)}); rename it so that "
        "it does, as in export_Account.csv"
    )
