"""SOQL as far as a poller speaks it: the text of a query into a tree. What the names mean is for the org to say.

``SELECT fields | FIELDS(ALL|STANDARD|CUSTOM) | COUNT() FROM object [WHERE …] [ORDER BY …] [LIMIT n] [OFFSET n]`` with
``= != <> < <= > >= LIKE IN NOT IN AND OR NOT`` and parentheses. As in the vendor's own parser, AND and OR are not mixed
without parentheses, and keywords and names have no case.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from local.salesforce.errors import ApiError

LiteralKind = Literal["string", "number", "boolean", "date", "datetime", "null"]
Operator = Literal["=", "!=", "<", "<=", ">", ">=", "LIKE", "IN", "NOT IN"]

MAX_OFFSET = 2000
MAX_FIELDS_LIMIT = 200
"""Rows that a query with FIELDS(ALL) or FIELDS(CUSTOM) must limit itself to."""

_KEYWORDS = frozenset({"SELECT", "FROM", "WHERE", "ORDER", "BY", "LIMIT", "OFFSET", "GROUP", "HAVING"}) | frozenset(
    {"AND", "OR", "NOT", "IN", "LIKE", "ASC", "DESC", "NULLS", "FIRST", "LAST"}
)
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<datetime>\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:?\d{2}))
      | (?P<date>\d{4}-\d{2}-\d{2}(?![\dTt]))
      | (?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?![\w.]))
      | (?P<word>[A-Za-z_][\w.]*)
      | (?P<mark><=|>=|!=|<>|[=<>(),])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {
    "n": "\n",
    "N": "\n",
    "r": "\r",
    "R": "\r",
    "t": "\t",
    "T": "\t",
    "b": "\b",
    "B": "\b",
    "f": "\f",
    "F": "\f",
}


@dataclass(frozen=True, slots=True)
class LiteralValue:
    """A literal: text for string, date and datetime, a Decimal, a bool, or ``None``. *raw* is a string as written."""

    kind: LiteralKind
    value: str | Decimal | bool | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A name as written, and where it stands (0-based, in characters)."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """``field operator value``; IN and NOT IN have any number of values, the others one."""

    field: Name
    operator: Operator
    values: tuple[LiteralValue, ...]


@dataclass(frozen=True, slots=True)
class And:
    """All of *terms*."""

    terms: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of *terms*."""

    terms: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Not *term*."""

    term: "Condition"


Condition = Comparison | And | Or | Not


@dataclass(frozen=True, slots=True)
class SortKey:
    """One ORDER BY item. Nulls come first unless the query says otherwise."""

    field: Name
    descending: bool = False
    nulls_last: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. *select* holds names and, as ``FIELDS(ALL)``, field groups; empty for ``COUNT()``."""

    text: str
    select: tuple[Name, ...]
    counts: bool
    object: Name
    where: Condition | None
    order_by: tuple[SortKey, ...]
    limit: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def malformed(message: str) -> ApiError:
    """The vendor's answer to a query that can't be parsed."""
    return ApiError(400, "MALFORMED_QUERY", message)


def located(query: str, position: int, message: str) -> str:
    """*message* below the query and a caret, as the vendor shows where a name is wrong."""
    line_start = query.rfind("\n", 0, position) + 1
    row, column = query.count("\n", 0, position) + 1, position - line_start + 1
    line_end = query.find("\n", position)
    shown = query[line_start : None if line_end < 0 else line_end]
    return f"\n{shown}\n{' ' * (column - 1)}^\nERROR at Row:{row}:Column:{column}\n{message}"


def parse(text: str) -> Query:
    """The query in *text*.

    Raises:
        ApiError: 400 MALFORMED_QUERY, or NUMBER_OUTSIDE_VALID_RANGE for the offset.
    """
    return _Parser(text).query()


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if text[position] == "'":
                raise malformed(f"line 1:{position} mismatched character '<EOF>' expecting '''")
            raise malformed(f"line 1:{position} no viable alternative at character '{text[position]}'")
        kind = match.lastgroup or ""
        if kind == "word" and match[0].upper() in _KEYWORDS:
            kind = match[0].upper()
        if kind == "mark":
            kind = "!=" if match[0] == "<>" else match[0]
        if kind != "space":
            yield _Token(kind, match[0], position)
        position = match.end()
    yield _Token("<EOF>", "<EOF>", len(text))


class _Parser:
    def __init__(self, text: str) -> None:
        if not text.strip():
            raise malformed("A query string has to be specified")
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def query(self) -> Query:
        self._expect("SELECT")
        select, counts = self._select()
        self._expect("FROM")
        name = self._object_name()
        where = self._condition() if self._take("WHERE") else None
        order_by: list[SortKey] = []
        if self._take("ORDER"):
            self._expect("BY")
            order_by.append(self._sort_key())
            while self._take(","):
                order_by.append(self._sort_key())
        limit = self._whole_number() if self._take("LIMIT") else None
        offset = self._whole_number() if self._take("OFFSET") else 0
        if self._peek().kind != "<EOF>":
            raise self._unexpected()
        if offset > MAX_OFFSET:
            raise ApiError(400, "NUMBER_OUTSIDE_VALID_RANGE", f"Maximum SOQL offset allowed is {MAX_OFFSET}")
        unbounded = any(item.text in {"FIELDS(ALL)", "FIELDS(CUSTOM)"} for item in select)
        if unbounded and (limit is None or limit > MAX_FIELDS_LIMIT):
            raise malformed(f"The SOQL FIELDS function must have a LIMIT of at most {MAX_FIELDS_LIMIT}")
        return Query(self._text, tuple(select), counts, name, where, tuple(order_by), limit, offset)

    def _select(self) -> tuple[list[Name], bool]:
        items = [self._select_item()]
        if items[0].text == "COUNT()":
            return [], True
        while self._take(","):
            items.append(self._select_item())
        return items, False

    def _select_item(self) -> Name:
        name = self._name()
        if not self._take("("):
            return name
        function = name.text.upper()
        if function == "COUNT":
            self._expect(")")
            return Name("COUNT()", name.position)
        if function != "FIELDS":
            raise malformed(located(self._text, name.position, f"unexpected token: '{name.text}'"))
        group = self._name()
        if group.text.upper() not in {"ALL", "STANDARD", "CUSTOM"}:
            raise malformed(located(self._text, group.position, f"unexpected token: '{group.text}'"))
        self._expect(")")
        return Name(f"FIELDS({group.text.upper()})", name.position)

    def _condition(self) -> Condition:
        first = self._term()
        kind = self._peek().kind
        if kind not in {"AND", "OR"}:
            return first
        terms = [first]
        while self._take(kind):
            terms.append(self._term())
        return And(tuple(terms)) if kind == "AND" else Or(tuple(terms))

    def _term(self) -> Condition:
        if self._take("NOT"):
            return Not(self._term())
        if self._take("("):
            condition = self._condition()
            self._expect(")")
            return condition
        field = self._name()
        operator = self._operator()
        if operator not in {"IN", "NOT IN"}:
            return Comparison(field, operator, (self._literal(),))
        self._expect("(")
        values = [self._literal()]
        while self._take(","):
            values.append(self._literal())
        self._expect(")")
        return Comparison(field, operator, tuple(values))

    def _operator(self) -> Operator:
        for plain in ("=", "!=", "<", "<=", ">", ">=", "LIKE", "IN"):
            if self._take(plain):
                return plain
        if self._take("NOT"):
            self._expect("IN")
            return "NOT IN"
        raise self._unexpected()

    def _literal(self) -> LiteralValue:
        token = self._peek()
        readers: dict[str, Callable[[str], LiteralValue]] = {
            "string": lambda text: LiteralValue("string", unescape(text[1:-1]), text[1:-1]),
            "number": lambda text: LiteralValue("number", Decimal(text)),
            "date": lambda text: LiteralValue("date", text),
            "datetime": lambda text: LiteralValue("datetime", text.upper()),
        }
        if token.kind in readers:
            self._at += 1
            return readers[token.kind](token.text)
        word = token.text.lower() if token.kind == "word" else ""
        if word in {"true", "false"}:
            self._at += 1
            return LiteralValue("boolean", word == "true")
        if word == "null":
            self._at += 1
            return LiteralValue("null", None)
        raise self._unexpected()

    def _sort_key(self) -> SortKey:
        field = self._name()
        descending = not self._take("ASC") and self._take("DESC")
        nulls_last = False
        if self._take("NULLS"):
            nulls_last = not self._take("FIRST")
            if nulls_last:
                self._expect("LAST")
        return SortKey(field, descending, nulls_last)

    def _whole_number(self) -> int:
        token = self._expect("number")
        if not token.text.isdigit():
            raise malformed(f"unexpected token: '{token.text}'")
        return int(token.text)

    def _name(self) -> Name:
        token = self._expect("word")
        return Name(token.text, token.position)

    def _object_name(self) -> Name:
        token = self._peek()
        if token.kind in {"ORDER", "GROUP"}:  # objects whose names are keywords elsewhere
            self._at += 1
            return Name(token.text, token.position)
        return self._name()

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, kind: str) -> bool:
        if self._tokens[self._at].kind != kind:
            return False
        self._at += 1
        return True

    def _expect(self, kind: str) -> _Token:
        token = self._tokens[self._at]
        if token.kind != kind:
            raise self._unexpected()
        self._at += 1
        return token

    def _unexpected(self) -> ApiError:
        token = self._peek()
        return malformed(located(self._text, token.position, f"unexpected token: '{token.text}'"))


def unescape(text: str) -> str:
    """The text that a quoted literal's inside means: a backslash gives the next character, or the control it names."""
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), text)


def like_pattern(raw: str) -> re.Pattern[str]:
    """The regular expression for a LIKE literal as it was written: ``%`` any characters, ``_`` one, without case."""
    parts = []
    for match in re.finditer(r"\\(.)|(.)", raw, re.DOTALL):
        escaped, plain = match[1], match[2]
        if plain == "%":
            parts.append(".*")
        elif plain == "_":
            parts.append(".")
        else:
            parts.append(re.escape(plain if plain is not None else _ESCAPED.get(escaped, escaped)))
    return re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
