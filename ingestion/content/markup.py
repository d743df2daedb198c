"""HTML and XML: what stands between the tags, in lines where a reader would see lines."""

import re
from html.parser import HTMLParser
from io import BytesIO
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException
from defusedxml.sax import parse

from ingestion.content.content_error import ContentError
from ingestion.content.kept_text import KeptText
from ingestion.content.plain import decoded

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{2,40})", re.IGNORECASE)
_UNSEEN = frozenset({"script", "style", "template", "title", "svg", "object", "iframe"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = _HEADINGS | {
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "fieldset", "figure",
    "figcaption", "footer", "form", "header", "hr", "li", "main", "nav", "ol", "option", "p", "pre", "section", "table",
    "tbody", "thead", "tr", "ul",
}  # fmt: skip
_SPACE = re.compile(r"\s+")


class _Page(HTMLParser):
    """Keeps a part for each heading and what follows it."""

    def __init__(self, kept: KeptText) -> None:
        super().__init__(convert_charrefs=True)
        self._kept = kept
        self._words: list[str] = []
        self._length = 0
        self._heading: str | None = None
        self._heading_words: list[str] | None = None
        self._unseen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif tag in _HEADINGS:
            self.finish()
            self._heading_words = []
        elif tag in ("td", "th"):
            self._words.append("\t")
        elif tag in _BLOCKS:
            self._words.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSEEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNSEEN and tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        elif tag in _HEADINGS and self._heading_words is not None:
            self._heading = "".join(self._heading_words)
            self._heading_words = None
        if tag in _BLOCKS:
            self._words.append("\n")

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        words = _SPACE.sub(" ", data)
        self._words.append(words)
        self._length += len(words)
        if self._heading_words is not None:
            self._heading_words.append(words)
        if self._length > self._kept.left:
            self.finish()

    def finish(self) -> None:
        """Keep what came since the last heading."""
        text = "".join(self._words)
        self._words, self._length = [], 0
        self._kept.add("\n".join(line.strip() for line in text.split("\n")), heading=self._heading)


def read_html(content: bytes, kept: KeptText) -> None:
    """A page: what it shows."""
    charset = _CHARSET.search(content[:4096])
    page = _Page(kept)
    page.feed(decoded(content, charset[1].decode("ascii") if charset else None))
    page.close()
    page.finish()


class _Texts(ContentHandler):
    """The text of each element on lines of its own."""

    def __init__(self, kept: KeptText, nesting: int) -> None:
        super().__init__()
        self._kept = kept
        self._nesting = nesting
        self._depth = 0
        self._words: list[str] = []
        self._length = 0

    def startElement(self, name: str, attrs: object) -> None:  # noqa: ARG002, N802 - SAX's own names
        self._depth += 1
        if self._depth > self._nesting:
            raise ContentError("bomb", f"its elements lie more than {self._nesting} deep in one another")
        self._words.append("\n")

    def endElement(self, name: str) -> None:  # noqa: ARG002, N802
        self._depth -= 1
        self._words.append("\n")

    def characters(self, content: str) -> None:
        words = _SPACE.sub(" ", content)
        self._words.append(words)
        self._length += len(words)
        if self._length > self._kept.left:
            self.finish()

    def finish(self) -> None:
        """Keep what came."""
        lines = (line.strip() for line in "".join(self._words).split("\n"))
        self._words, self._length = [], 0
        self._kept.add("\n".join(filter(None, lines)))


def read_xml(content: bytes, kept: KeptText, nesting: int) -> None:
    """An XML document: the text of its elements. Entities and external references are refused, not looked up.

    Raises:
        ContentError: ``bomb`` or ``damaged``.
    """
    texts = _Texts(kept, nesting)
    try:
        parse(BytesIO(content), texts, forbid_dtd=False, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise ContentError("bomb", f"it declares what XML from outside must not: {type(error).__name__}") from None
    except SAXParseException as error:
        raise ContentError("damaged", f"it is no XML: {error.getMessage()}, line {error.getLineNumber()}") from None
    texts.finish()
