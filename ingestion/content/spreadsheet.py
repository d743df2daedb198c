"""Excel workbooks."""

from datetime import date, datetime, time
from typing import Any, BinaryIO

from openpyxl import load_workbook

from ingestion.content.kept_text import KeptText


def read_spreadsheet(file: BinaryIO, kept: KeptText) -> None:
    """A workbook: a part a sheet, a line a row of what its cells showed last. Rows are read one by one."""
    book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
    try:
        for number, sheet in enumerate(book.worksheets, 1):
            # What a sheet says of its size is not to be believed: it may claim all cells that there can be.
            sheet.reset_dimensions()
            lines: list[str] = []
            length = 0
            for row in sheet.iter_rows(values_only=True):
                line = " | ".join(filter(None, map(_shown, row)))
                if line:
                    lines.append(line)
                    length += len(line) + 1
                    if length > kept.left:
                        break
            kept.add("\n".join(lines), heading=sheet.title, page=number)
    finally:
        book.close()


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return f"{value:.15g}"
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime() | date() | time():
            return value.isoformat()
    return str(value).replace("\n", " ").strip()
