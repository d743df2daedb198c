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
WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
"""A word of a name: words end at capitals, and at what is neither letter nor digit."""
_SILENT_WORDS: Final = frozenset({"data", "export"})
_MOST_WORDS_OF_AN_OBJECT: Final = 3
_CUSTOM_OBJECT: Final = re.compile(r"[A-Za-z]\w*__c\Z", re.IGNORECASE)
_SYSTEM_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


def csv_rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of *lines* with the numbers of their first lines, the header first; empty lines are passed over.

    Quoted cells may hold commas, quotes and line breaks; NUL bytes, which exports have at times, are left out.

    Raises:
        ObjectError: a quoted cell is not closed, or a row has more cells than the header.
    """
    # A cell may hold a long text area; the limit is for the whole process and only ever raised here.
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    reader = csv.reader((line.replace("\0", "") for line in lines), strict=True)
    width, line = 0, 1
    try:
        for cells in reader:
            if not width:
                width = len(cells)
            elif len(cells) > width:
                raise ObjectError(
                    f"{name}, line {line}: {len(cells)} cells under a header of {width}; "
                    "quote the cells that hold commas or line breaks"
                )
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise ObjectError(
            f"{name}, line {line}: {error}; close every quoted field and double the quotes inside it"
        ) from None


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
    found = object_of_words(words_of_name(path.stem), by_name)
    if found is not None:
        return found
    raise ObjectError(
        f"{path.name}: its name ends in no object that the connection reads ({', '.join(objects)}); rename it so that "
        "it does, as in export_Account.csv"
    )


def words_of_name(stem: str) -> list[str]:
    """The words of a file's name, as they are written, without those at its end that say nothing."""
    words = WORD.findall(stem)
    while words and (words[-1].lower() in _SILENT_WORDS or words[-1].isdigit()):
        words.pop()
    return words


def object_of_words(words: Sequence[str], by_name: Mapping[str, str]) -> str | None:
    """The object that the last words name, singular or plural; *by_name* has the objects by their lower-case names."""
    for length in range(min(_MOST_WORDS_OF_AN_OBJECT, len(words)), 0, -1):
        joined = "".join(words[-length:]).lower()
        for word in (joined, joined.removesuffix("data")):
            singulars = (word, word.removesuffix("s"), f"{word[:-3]}y" if word.endswith("ies") else word)
            found = next((by_name[one] for one in singulars if one in by_name), None)
            if found is not None:
                return found
    return None
