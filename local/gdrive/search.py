"""The query language of files.list: ``'folder' in parents and (name contains 'plan' or not trashed = true)``.

What the words mean is told by a :class:`Searchable`; what the vendor does not know is 400 Invalid Value at ``q``.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from local.gdrive.errors import DriveApiError, invalid_value

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<mark><=|>=|!=|[=<>()])
      | (?P<word>[A-Za-z][\w.]*))""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final = re.compile(r"\w+")
_EQUAL: Final = ("=", "!=")
_ORDER: Final = ("<=", "<", "=", "!=", ">", ">=")
_TERMS: Final = {
    "name": ("contains", *_EQUAL),
    "fullText": ("contains",),
    "mimeType": ("contains", *_EQUAL),
    "modifiedTime": _ORDER,
    "createdTime": _ORDER,
    "viewedByMeTime": _ORDER,
    "trashed": _EQUAL,
    "starred": _EQUAL,
    "sharedWithMe": _EQUAL,
    "visibility": _EQUAL,
    "shortcutDetails.targetId": _EQUAL,
}
_COLLECTIONS: Final = ("parents", "owners", "writers", "readers")
_BOOLEANS: Final = ("trashed", "starred", "sharedWithMe")
_TIMES: Final = ("modifiedTime", "createdTime", "viewedByMeTime")


class Searchable(Protocol):
    """A file as a query sees it."""

    def text(self, term: str) -> str:
        """The value of name, fullText, mimeType, visibility or shortcutDetails.targetId."""

    def moment(self, term: str) -> datetime | None:
        """The value of a time; None: never."""

    def flag(self, term: str) -> bool:
        """The value of trashed, starred or sharedWithMe."""

    def holds(self, collection: str, value: str) -> bool:
        """Whether *value* is in parents, owners, writers or readers."""


Condition = Callable[[Searchable], bool]


def parse_query(text: str) -> tuple[Condition, list[str]]:
    """The condition that *text* says, and the folders it names as parents.

    Raises:
        DriveApiError: 400 Invalid Value: it is no query.
    """
    parser = _Parser(_tokens(text))
    if not text.strip():
        return (lambda _: True), []
    condition = parser.alternatives()
    parser.end()
    return condition, parser.folders


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _invalid()
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: Sequence[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self.folders: list[str] = []

    def end(self) -> None:
        if self._at != len(self._tokens):
            raise _invalid()

    def alternatives(self) -> Condition:
        terms = [self._conjunction()]
        while self._take("or"):
            terms.append(self._conjunction())
        return terms[0] if len(terms) == 1 else lambda file: any(term(file) for term in terms)

    def _conjunction(self) -> Condition:
        terms = [self._negation()]
        while self._take("and"):
            terms.append(self._negation())
        return terms[0] if len(terms) == 1 else lambda file: all(term(file) for term in terms)

    def _negation(self) -> Condition:
        if self._take("not"):
            inner = self._negation()
            return lambda file: not inner(file)
        if self._take("("):
            condition = self.alternatives()
            if not self._take(")"):
                raise _invalid()
            return condition
        kind, token = self._next()
        if kind == "text":
            return self._membership(_unquoted(token))
        if kind != "word" or token not in _TERMS:
            raise _invalid()
        return self._comparison(token)

    def _membership(self, value: str) -> Condition:
        if not self._take("in"):
            raise _invalid()
        _, collection = self._next()
        if collection not in _COLLECTIONS:
            raise _invalid()
        if collection == "parents":
            self.folders.append(value)
        return lambda file: file.holds(collection, value)

    def _comparison(self, term: str) -> Condition:
        _, sign = self._peek()
        if sign not in _TERMS[term]:
            if term == "sharedWithMe" and (sign in {"", "and", "or", ")"}):
                return lambda file: file.flag(term)
            raise _invalid()
        self._at += 1
        kind, value = self._next()
        if term in _BOOLEANS:
            if kind != "word" or value not in {"true", "false"}:
                raise _invalid()
            wanted = (value == "true") == (sign == "=")
            return lambda file: file.flag(term) == wanted
        if kind != "text":
            raise _invalid()
        if term in _TIMES:
            return _time_comparison(term, sign, _moment(_unquoted(value)))
        return _text_comparison(term, sign, _unquoted(value))

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _next(self) -> tuple[str, str]:
        found = self._peek()
        if not found[0]:
            raise _invalid()
        self._at += 1
        return found

    def _take(self, word: str) -> bool:
        kind, token = self._peek()
        if kind != "text" and token == word:
            self._at += 1
            return True
        return False


def _text_comparison(term: str, sign: str, value: str) -> Condition:
    if sign == "contains":
        if term == "name":
            return lambda file: _begins_words(file.text(term), value)
        return lambda file: value.lower() in file.text(term).lower()
    if term == "name":  # names are compared without case
        return lambda file: (file.text(term).lower() == value.lower()) == (sign == "=")
    return lambda file: (file.text(term) == value) == (sign == "=")


def _begins_words(name: str, value: str) -> bool:
    """For a name, contains matches the beginnings of words alone."""
    wanted = [word.lower() for word in _WORDS.findall(value)]
    words = [word.lower() for word in _WORDS.findall(name.replace("_", " "))]
    return bool(wanted) and all(any(word.startswith(begin) for word in words) for begin in wanted)


def _time_comparison(term: str, sign: str, value: datetime) -> Condition:
    compared: dict[str, Callable[[datetime], bool]] = {
        "<": lambda moment: moment < value,
        "<=": lambda moment: moment <= value,
        "=": lambda moment: moment == value,
        "!=": lambda moment: moment != value,
        ">": lambda moment: moment > value,
        ">=": lambda moment: moment >= value,
    }

    def holds(file: Searchable) -> bool:
        moment = file.moment(term)
        return moment is not None and compared[sign](moment)

    return holds


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid() from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)


def _invalid() -> DriveApiError:
    return invalid_value("q")
