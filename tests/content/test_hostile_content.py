"""Files that mean harm: each ends with its reason, and whoever asked goes on."""

import os
import signal
import subprocess
import sys
from asyncio import CancelledError, create_task, sleep
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import pytest_asyncio
from office_files import (
    DOCX,
    PDF,
    PPTX,
    SHEET_NAMESPACE,
    XLSX,
    pdf_file,
    presentation_file,
    with_declared_size,
    with_members,
    word_file,
    workbook_file,
)
from pypdf import PdfReader, PdfWriter

from ingestion.content.content_error import ContentError, Reason
from ingestion.content.extractor import ContentExtractor, ExtractionFailedError
from ingestion.content.limits import Limits

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
DOCUMENT, SHEET = "word/document.xml", "xl/worksheets/sheet1.xml"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
LAUGHS = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
LAUGHING = f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]><a>&l9;</a>'


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def extractor():  # type: ignore[no-untyped-def]  # a module's fixture of the plugin
    made = ContentExtractor(Limits(), children=1)
    yield made
    await made.close()


def sheet(rows: str) -> bytes:
    """A workbook whose one sheet has these rows."""
    data = f'<dimension ref="A1:XFD1048576"/><sheetData>{rows}</sheetData>'
    return with_members(workbook_file(), {SHEET: f'<worksheet xmlns="{SHEET_NAMESPACE}">{data}</worksheet>'})


def wide_rows(count: int) -> bytes:
    """A workbook of *count* rows, each with one cell in the last of all columns: far more to look at than to read."""
    cell = '<c r="XFD{0}" t="inlineStr"><is><t>x</t></is></c>'
    return sheet("".join(f'<row r="{row}">{cell.format(row)}</row>' for row in range(1, count + 1)))


def encrypted_pdf() -> bytes:
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf_file("secret"))))
    writer.encrypt("a password", algorithm="AES-256")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def branching_pdf() -> bytes:
    """A page tree whose every node has ten times the same child: ten thousand million pages in a kilobyte."""
    nodes = {
        number: f"<</Type/Pages/Count 1000000000/Kids[{f'{number + 1} 0 R ' * 10}]>>" for number in (2, *range(10, 20))
    }
    nodes[2] = nodes[2].replace("3 0 R", "10 0 R")
    nodes[20] = "<</Type/Page/Parent 19 0 R/MediaBox[0 0 612 792]>>"
    return pdf_file("x", objects=nodes)


async def refused(extractor: ContentExtractor, content: bytes | Path, mime_type: str, name: str = "") -> ContentError:
    with pytest.raises(ContentError) as raised:
        await extractor.extract(content, mime_type, name)
    return raised.value


async def still_reads(extractor: ContentExtractor) -> bool:
    return bool((await extractor.extract(b"still there", "text/plain", "")).parts)


HOSTILE: dict[str, tuple[Callable[[], bytes], str, Reason]] = {
    "a document that says it unpacks to 1 GB": (lambda: with_declared_size(word_file(), DOCUMENT, 2**30), DOCX, "bomb"),
    "a document that unpacks to 2,000 times its size": (
        lambda: with_members(word_file(), {DOCUMENT: f'<w:document xmlns:w="{W}">{" " * 40_000_000}</w:document>'}),
        DOCX,
        "bomb",
    ),
    "a document that says it is smaller than it is": (
        lambda: with_declared_size(with_members(word_file(), {DOCUMENT: "<a>" + " " * 10_000_000}), DOCUMENT, 100),
        DOCX,
        "damaged",
    ),
    "an archive of 20,000 members": (
        lambda: with_members(word_file(), {f"word/{number}.xml": "" for number in range(20_000)}),
        DOCX,
        "bomb",
    ),
    "a document that declares entities": (lambda: with_members(word_file(), {DOCUMENT: LAUGHING}), DOCX, "bomb"),
    "a presentation that declares entities": (
        lambda: with_members(presentation_file(), {"ppt/slides/slide1.xml": LAUGHING}),
        PPTX,
        "bomb",
    ),
    "a workbook that declares entities": (lambda: with_members(workbook_file(), {SHEET: LAUGHING}), XLSX, "bomb"),
    "XML that declares entities": (LAUGHING.encode, "text/xml", "bomb"),
    "XML that asks for a file": (
        lambda: b'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>',
        "text/xml",
        "bomb",
    ),
    "XML 100,000 elements deep": (lambda: b"<a>" * 100_000 + b"</a>" * 100_000, "text/xml", "bomb"),
    "a document 100,000 elements deep": (
        lambda: with_members(
            word_file(), {DOCUMENT: f'<w:document xmlns:w="{W}">{"<w:p>" * 100_000}{"</w:p>" * 100_000}</w:document>'}
        ),
        DOCX,
        "bomb",
    ),
    "a document with one word of 12 MB": (
        lambda: with_members(word_file(), {DOCUMENT: f'<w:document xmlns:w="{W}">{"x" * 12_000_000}</w:document>'}),
        DOCX,
        "bomb",
    ),
    "a PDF of ten thousand million pages": (branching_pdf, PDF, "bomb"),
    "a PDF with a password": (encrypted_pdf, PDF, "encrypted"),
    "a document with a password": (
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 2000 + "EncryptedPackage".encode("utf-16-le"),
        DOCX,
        "encrypted",
    ),
    "half a document": (lambda: word_file()[: len(word_file()) // 2], DOCX, "damaged"),
    "half a workbook": (lambda: workbook_file()[:-200], XLSX, "damaged"),
    "half a presentation": (lambda: presentation_file()[: len(presentation_file()) // 2], PPTX, "damaged"),
    "the beginning of a PDF": (lambda: pdf_file("x")[:40], PDF, "damaged"),
    "a PDF without pages": (lambda: pdf_file("x", objects={2: "<</Type/Pages/Count 0/Kids[]>>"}), PDF, "damaged"),
    "a PDF whose pages are themselves": (
        lambda: pdf_file("x", objects={2: "<</Type/Pages/Count 1/Kids[2 0 R]>>"}),
        PDF,
        "damaged",
    ),
    "an archive of archives": (lambda: with_members(word_file(), {})[:4] + b"\x00" * 100, "application/zip", "damaged"),
    "a file above the size": (lambda: b"x" * (50 * 1024**2 + 1), "text/plain", "too-large"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_each_is_refused_for_its_reason_and_the_next_is_read(extractor: ContentExtractor, what: str) -> None:
    content, mime_type, reason = HOSTILE[what]
    error = await refused(extractor, content(), mime_type)
    assert error.reason == reason, error
    assert len(error.detail) <= 240
    assert "\n" not in error.detail
    assert await still_reads(extractor)


async def test_a_sheet_that_claims_all_cells_is_read_by_what_it_has(extractor: ContentExtractor) -> None:
    rows = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="A1048576"><v>2</v></c></row>'
    [part, _] = (await extractor.extract(sheet(rows), XLSX, "")).parts
    assert part.text == "1\n2"


async def test_html_as_deep_as_can_be_is_only_text(extractor: ContentExtractor) -> None:
    [part] = (await extractor.extract(b"<div>" * 50_000 + b"words", "text/html", "")).parts
    assert part.text == "words"


def endless_pdf() -> bytes:
    """A page that is drawn letter by letter, a million times."""
    drawn = f"BT /F1 12 Tf {'(x) Tj ' * 400_000} ET"
    return pdf_file("x", objects={5: f"<</Length {len(drawn)}>>\nstream\n{drawn}\nendstream"})


@pytest.mark.parametrize("what", ["rows", "letters"])
async def test_what_takes_for_ever_ends_with_its_time(what: str) -> None:
    content, mime_type = (wide_rows(20_000), XLSX) if what == "rows" else (endless_pdf(), PDF)
    extractor = ContentExtractor(Limits(seconds=1), children=1)
    assert (await refused(extractor, content, mime_type)).reason == "timeout"
    await extractor.close()


async def test_what_takes_too_much_memory_ends_alone() -> None:
    paragraphs = f'<w:document xmlns:w="{W}"><w:body>{"<w:p/>" * 1_500_000}</w:body></w:document>'
    extractor = ContentExtractor(Limits(memory=200 * 1024**2, unzip_ratio=10**6), children=1)
    assert (await refused(extractor, with_members(word_file(), {DOCUMENT: paragraphs}), DOCX)).reason == "memory"
    assert await still_reads(extractor)
    await extractor.close()


def at_work(extractor: ContentExtractor) -> int:
    """The id of the one process that reads."""
    [child] = extractor._busy
    return child._process.pid


async def started(extractor: ContentExtractor, *, other_than: int = 0) -> int:
    """The id of the one process that reads, once there is one."""
    while not extractor._busy or at_work(extractor) == other_than:  # noqa: ASYNC110
        await sleep(0.01)  # nobody is told of it
    return at_work(extractor)


async def test_a_process_killed_in_the_middle_is_replaced_and_the_file_read() -> None:
    extractor = ContentExtractor(children=1)
    reading = create_task(extractor.extract(wide_rows(400), XLSX, ""))
    os.kill(await started(extractor), signal.SIGKILL)
    found = await reading
    assert found.parts[0].text.count("x") == 400
    await extractor.close()


async def test_a_file_whose_process_is_killed_twice_is_given_up() -> None:
    extractor = ContentExtractor(children=1)
    reading = create_task(refused(extractor, wide_rows(20_000), XLSX))
    first = await started(extractor)
    os.kill(first, signal.SIGKILL)
    os.kill(await started(extractor, other_than=first), signal.SIGKILL)
    assert (await reading).reason == "memory"
    assert await still_reads(extractor)
    await extractor.close()


async def test_a_process_killed_while_idle_is_replaced(extractor: ContentExtractor) -> None:
    assert await still_reads(extractor)
    [idle] = extractor._idle
    os.kill(idle._process.pid, signal.SIGKILL)
    assert await still_reads(extractor)


async def test_whoever_stops_asking_takes_the_process_along() -> None:
    extractor = ContentExtractor(children=1)
    reading = create_task(extractor.extract(wide_rows(20_000), XLSX, ""))
    await started(extractor)
    [child] = extractor._busy
    reading.cancel()
    with pytest.raises(CancelledError):
        await reading
    assert not child.lives
    assert await still_reads(extractor)
    await extractor.close()


async def test_closing_ends_every_process_and_what_they_read() -> None:
    extractor = ContentExtractor(children=2)
    reading = create_task(extractor.extract(wide_rows(20_000), XLSX, ""))
    await started(extractor)
    [busy] = extractor._busy
    assert await still_reads(extractor)
    [idle] = extractor._idle
    await extractor.close()
    with pytest.raises(ExtractionFailedError, match="closed"):
        await reading
    assert not busy.lives
    assert not idle.lives


async def test_one_process_serves_many_files_and_a_few_at_most_run(extractor: ContentExtractor) -> None:
    assert await still_reads(extractor)
    [child] = extractor._idle
    for _ in range(5):
        assert await still_reads(extractor)
    assert extractor._idle == [child]
    assert child.served >= 6


async def test_a_process_gets_none_of_our_secrets(extractor: ContentExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ServiceBusConnection", "Endpoint=sb://x;SharedAccessKey=secret")
    fresh = ContentExtractor(children=1)
    assert await still_reads(fresh)
    environment = Path(f"/proc/{fresh._idle[0]._process.pid}/environ").read_bytes()  # noqa: ASYNC240
    assert b"PYTHONPATH" in environment
    assert b"secret" not in environment
    await fresh.close()


async def test_a_file_that_cant_be_opened_is_no_fault_of_its_content(
    extractor: ContentExtractor, tmp_path: Path
) -> None:
    with pytest.raises(ExtractionFailedError, match="can't be read"):
        await extractor.extract(tmp_path, "text/plain", "")
    assert await still_reads(extractor)


CONFINED = """
import socket, subprocess, sys
from ingestion.content import child
from ingestion.content.limits import Limits
child._confine(Limits())
{}
"""


@pytest.mark.parametrize(
    "act",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "subprocess.run(['true'])",
        "__import__('os').system('true')",
        "__import__('os').fork()",
        "open(sys.argv[1], 'w').write('x' * 100_000)",
        "bytearray(2 * 1024 ** 3)",
    ],
)
async def test_reading_files_needs_no_more_than_reading(act: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONFINED.format(act), str(tmp_path / "written")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)  # noqa: ASYNC221
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1].startswith(("PermissionError", "OSError", "MemoryError")), done.stderr
