"""The text of files of each kind, as their readers would tell it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from office_files import DOCX, PDF, PPTX, XLSX, pdf_file, presentation_file, word_file, workbook_file

from ingestion.content.content_error import ContentError
from ingestion.content.extractor import ContentExtractor
from ingestion.content.limits import Limits
from shards.types import TextPart


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def extractor() -> AsyncIterator[ContentExtractor]:
    made = ContentExtractor(Limits(characters=2_000), children=1)
    yield made
    await made.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")

MARKDOWN = "Intro\n# First #\ntext\n```\n# no heading\n```\n## Second\nmore"
PAGE = """<!DOCTYPE html><html><head><title>T</title><style>p {}</style></head>
<body><p>Intro</p><h1>First <b>one</b></h1>
<p>Some <b>bold</b>&amp;good   text<br>next</p><script>if (1 < 2) {}</script><ul><li>a<li>b</ul>
<table><tr><td>1<td>2</table><h2>Second</h2>end</body>"""


async def parts(extractor: ContentExtractor, content: bytes, mime_type: str, name: str = "") -> list[TextPart]:
    found = await extractor.extract(content, mime_type, name)
    assert not found.truncated
    assert found.characters == sum(len(part.text) + len(part.heading or "") for part in found.parts)
    return found.parts


async def test_word(extractor: ContentExtractor) -> None:
    assert await parts(extractor, word_file(), DOCX) == [
        TextPart(None, "Before all."),
        TextPart("Terms", "Terms\nThe price is 120,000 USD.\nPart | Price\nLicence | 90,000"),
        TextPart("Signatures", "Signatures\nAnn"),
    ]


async def test_workbook(extractor: ContentExtractor) -> None:
    deals = "Name | Amount | Won\nAcme | 1200.5 | TRUE\nGlobex | 90000 | FALSE\nfar away"
    assert await parts(extractor, workbook_file(), XLSX) == [
        TextPart("Deals", deals, 1),
        TextPart("Notes", "Call them", 2),
    ]


async def test_presentation(extractor: ContentExtractor) -> None:
    assert await parts(extractor, presentation_file(), PPTX) == [
        TextPart("Plan", "Plan\nSell more\nSpend less\nSay it slowly.", 1),
        TextPart("Thanks", "Thanks\nQuestions?", 2),
    ]


async def test_pdf(extractor: ContentExtractor) -> None:
    content = pdf_file("First page", "", "Third page")
    assert await parts(extractor, content, PDF) == [TextPart(None, "First page", 1), TextPart(None, "Third page", 3)]


async def test_markdown(extractor: ContentExtractor) -> None:
    assert await parts(extractor, MARKDOWN.encode(), "text/markdown") == [
        TextPart(None, "Intro"),
        TextPart("First", "# First #\ntext\n```\n# no heading\n```"),
        TextPart("Second", "## Second\nmore"),
    ]


async def test_html(extractor: ContentExtractor) -> None:
    found = await parts(extractor, PAGE.encode(), "text/html; charset=utf-8")
    assert [part.heading for part in found] == [None, "First one", "Second"]
    assert found[0].text == "Intro"
    assert found[1].text.split("\n\n") == ["First one", "Some bold&good text\nnext", "a\nb", "1\t2"]
    assert found[2].text == "Second\nend"


@pytest.mark.parametrize(
    ("content", "mime_type", "text"),
    [
        ("Größe\r\nand  \r\n\r\n\r\n\r\nmore\x00\x07".encode(), "text/plain", "Größe\nand\n\nmore"),
        ("Größe".encode("cp1252"), "text/plain", "Größe"),
        ("Größe 東京".encode("utf-16"), "text/plain", "Größe 東京"),
        (b"\xef\xbb\xbfa,b\n1,2", "text/csv", "a,b\n1,2"),
        (b'{"a": "b"}', "application/json", '{"a": "b"}'),
        (b"<a><b>one</b> <c>two &amp; <d>three</d></c></a>", "application/xml", "one\ntwo &\nthree"),
        (rb"{\rtf1\ansi{\fonttbl\f0 Arial;}Hello \b World\b0\par Two \'e4}", "application/rtf", "Hello World\nTwo ä"),
        (b"<meta charset=iso-8859-2><p>\xb1</p>", "text/html", "ą"),
    ],
)
async def test_text_of_other_kinds(extractor: ContentExtractor, content: bytes, mime_type: str, text: str) -> None:
    assert [part.text for part in await parts(extractor, content, mime_type)] == [text]


@pytest.mark.parametrize("mime_type", ["text/plain", "text/html", "application/json"])
async def test_an_empty_file_has_no_text(extractor: ContentExtractor, mime_type: str) -> None:
    assert await parts(extractor, b" \n ", mime_type) == []


async def test_the_content_counts_for_more_than_what_it_is_said_to_be(extractor: ContentExtractor) -> None:
    assert (await parts(extractor, word_file(), PDF, "a.pdf"))[1].heading == "Terms"
    assert (await parts(extractor, pdf_file("Text"), "text/plain", "a.txt"))[0].page == 1
    assert [part.heading for part in await parts(extractor, b"# A", "application/octet-stream", "a.MD")] == ["A"]
    assert [part.text for part in await parts(extractor, b"x = 1", "text/x-python", "a.py")] == ["x = 1"]


@pytest.mark.parametrize(
    ("content", "mime_type", "name", "reason"),
    [
        (b"\x89PNG\r\n", "image/png", "a.png", "unsupported-type"),
        (b"\x89PNG\r\n", "text/plain", "a.txt", "unsupported-type"),
        (b"bytes", "video/mp4", "a.mp4", "unsupported-type"),
        (b"bytes", "application/octet-stream", "a.bin", "unsupported-type"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600, "application/msword", "a.doc", "unsupported-type"),
        (b"no document", DOCX, "a.docx", "damaged"),
        (b"", PDF, "a.pdf", "damaged"),
        (b"\x00\x01\x02" * 100, "text/plain", "a.txt", "damaged"),
        (b"<a><b></a>", "text/xml", "a.xml", "damaged"),
    ],
)
async def test_what_has_no_text_is_told(
    extractor: ContentExtractor, content: bytes, mime_type: str, name: str, reason: str
) -> None:
    with pytest.raises(ContentError) as refused:
        await extractor.extract(content, mime_type, name)
    assert refused.value.reason == reason
    assert "\n" not in refused.value.detail


async def test_of_a_long_text_the_beginning_is_kept(extractor: ContentExtractor) -> None:
    found = await extractor.extract(b"# Long\n" + b"word " * 10_000, "text/markdown", "")
    assert (found.truncated, found.characters) == (True, 2_000)
    pages = await extractor.extract(pdf_file(*["Some words on a page."] * 120), PDF, "")
    assert pages.truncated
    assert [part.page for part in pages.parts] == list(range(1, len(pages.parts) + 1))
    assert len(pages.parts) == 96


async def test_a_file_in_the_file_system_is_read_where_it_lies(extractor: ContentExtractor, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("from the disk")
    assert (await extractor.extract(path, "text/plain", path.name)).parts == [TextPart(None, "from the disk")]
