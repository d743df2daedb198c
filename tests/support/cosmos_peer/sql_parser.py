"""Reads Cosmos DB's SQL. What is not in the grammar is a syntax error, as in the service, never something like it."""

import json
import re
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from cosmos_peer.answers import RefusedError, bad_request
from cosmos_peer.json_values import UNDEFINED, as_stored
from cosmos_peer.sql_syntax import (
    Alias,
    ArrayOf,
    Between,
    Binary,
    Call,
    Conditional,
    Constant,
    Expression,
    In,
    Like,
    Member,
    ObjectOf,
    OrderItem,
    Parameter,
    Query,
    SelectItem,
    Source,
    Subquery,
    Unary,
)

MAX_QUERY_BYTES = 512 * 1024
"""The longest query text (service limit)."""
MAX_JOINS = 10
"""The most JOINs of a query (service limit)."""

KEYWORDS = frozenset({
    "AND", "ARRAY", "AS", "ASC", "BETWEEN", "BY", "DESC", "DISTINCT", "ESCAPE", "EXISTS", "FALSE", "FROM", "GROUP",
    "IN", "JOIN", "LIKE", "LIMIT", "NOT", "NULL", "OFFSET", "OR", "ORDER", "SELECT", "TOP", "TRUE", "UNDEFINED",
    "VALUE", "WHERE",
})  # fmt: skip

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*)
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<parameter>@[A-Za-z_]\w*)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<sign><>|!=|<=|>=|<<|>>>|>>|\|\||\?\?|[-+*/%&|^~=<>?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", '"': '"', "'": "'"}


class Token(NamedTuple):
    """One word of a query: *text* in capitals for keywords."""

    kind: str
    text: str
    start: int
    raw: str


def syntax_error(token: Token) -> RefusedError:
    """The service's 400 for what is no SQL."""
    what = f"incorrect syntax near '{token.raw}'" if token.kind != "end" else "unexpected end of the query"
    error = {
        "severity": "Error",
        "location": {"start": token.start, "end": token.start + len(token.raw)},
        "code": "SC1001",
        "message": f"Syntax error, {what}.",
    }
    return bad_request("Message: " + json.dumps({"errors": [error]}))


def _tokens(text: str) -> list[Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise syntax_error(Token("sign", text[position], position, text[position]))
        kind, raw = match.lastgroup or "", match.group()
        if kind == "name" and raw.upper() in KEYWORDS:
            tokens.append(Token("keyword", raw.upper(), position, raw))
        elif kind != "blank":
            tokens.append(Token(kind, raw, position, raw))
        position = match.end()
    tokens.append(Token("end", "", len(text), ""))
    return tokens


@lru_cache(maxsize=512)
def parse_query(text: str) -> Query:
    """The query in *text*.

    Raises:
        RefusedError: 400, it is none.
    """
    if len(text.encode()) > MAX_QUERY_BYTES:
        raise bad_request(f"The SQL query text exceeded the maximum limit of {MAX_QUERY_BYTES} characters.")
    parser = _Parser(_tokens(text))
    query = parser.query({})
    parser.end()
    return query


@lru_cache(maxsize=512)
def parse_condition(text: str) -> Query:
    """The ``FROM c WHERE …`` that guards a patch.

    Raises:
        RefusedError: 400, it is none.
    """
    parser = _Parser(_tokens(text))
    query = parser.condition()
    parser.end()
    return query


Names = dict[str, None]
"""The aliases that an expression can speak of."""

_BINARY: tuple[tuple[str, ...], ...] = (
    ("OR",),
    ("AND",),
    ("=", "!=", "<>", "<", ">", "<=", ">="),
    ("|",),
    ("^",),
    ("&",),
    ("<<", ">>", ">>>"),
    ("+", "-", "||"),
    ("*", "/", "%"),
)
_COMPARISONS = 2


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._position = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._position]

    def _take(self) -> Token:
        token = self._next
        self._position += 1
        return token

    def _at(self, *texts: str) -> bool:
        return self._next.kind in ("keyword", "sign") and self._next.text in texts

    def _accept(self, *texts: str) -> str | None:
        return self._take().text if self._at(*texts) else None

    def _expect(self, text: str) -> None:
        if self._accept(text) is None:
            raise syntax_error(self._next)

    def end(self) -> None:
        """Nothing may follow."""
        if self._next.kind != "end":
            raise syntax_error(self._next)

    def _name(self) -> str:
        if self._next.kind != "name":
            raise syntax_error(self._next)
        return self._take().text

    # Queries

    def condition(self) -> Query:
        """``FROM c WHERE …``."""
        names: Names = {}
        self._expect("FROM")
        sources = self._sources(names, {})
        self._expect("WHERE")
        return Query(sources, where=self._expression(names))

    def query(self, outer: Names) -> Query:
        """A query within the aliases of those around it."""
        self._expect("SELECT")
        start = self._position
        names = dict(outer)
        # The aliases come behind the list that speaks of them.
        self._skip_to_from()
        sources = self._sources(names, outer) if self._accept("FROM") else ()
        behind = self._position
        self._position = start
        distinct = self._accept("DISTINCT") is not None
        top = self._count() if self._accept("TOP") else None
        value, items = self._selection(names, sources)
        if sources:
            self._expect("FROM")
            self._position = behind
        where = self._expression(names) if self._accept("WHERE") else None
        group_by: list[Expression] = []
        if self._accept("GROUP"):
            self._expect("BY")
            group_by = self._list(names)
        rank, order_by = self._ordering(names)
        offset = limit = None
        if self._accept("OFFSET"):
            offset = self._count()
            self._expect("LIMIT")
            limit = self._count()
        if top is not None and offset is not None:
            raise bad_request("'TOP' can't be used together with 'OFFSET LIMIT'.")
        return Query(
            sources, tuple(items), value, distinct, top, where, tuple(group_by), tuple(order_by), rank, offset, limit
        )

    def _skip_to_from(self) -> None:
        depth = 0
        while self._next.kind != "end":
            if self._at("(", "[", "{"):
                depth += 1
            elif self._at(")", "]", "}"):
                if depth == 0:
                    return
                depth -= 1
            elif depth == 0 and self._at("FROM", "WHERE", "GROUP", "ORDER", "OFFSET"):
                return
            self._position += 1

    def _selection(self, names: Names, sources: tuple[Source, ...]) -> tuple[Expression | None, list[SelectItem]]:
        if self._accept("*"):
            if len(sources) != 1:
                raise bad_request("'SELECT *' is only valid with a single input set.")
            return None, []
        if self._accept("VALUE"):
            return self._expression(names), []
        items = []
        while True:
            expression = self._expression(names)
            alias = self._name() if self._accept("AS") else None
            items.append(SelectItem(expression, alias))
            if not self._accept(","):
                return None, items

    def _ordering(self, names: Names) -> tuple[bool, list[OrderItem]]:
        items: list[OrderItem] = []
        if not self._accept("ORDER"):
            return False, items
        self._expect("BY")
        rank = self._next.kind == "name" and self._next.text.upper() == "RANK"
        if rank:
            self._take()
        while True:
            expression = self._expression(names)
            direction: Literal["ASC", "DESC"] | None = None
            if self._accept("ASC"):
                direction = "ASC"
            elif self._accept("DESC"):
                direction = "DESC"
            items.append(OrderItem(expression, direction))
            if not self._accept(","):
                return rank, items

    def _count(self) -> Expression:
        token = self._take()
        if token.kind == "parameter":
            return Parameter(token.text)
        if token.kind == "number" and token.text.isdecimal():
            return Constant(int(token.text))
        raise syntax_error(token)

    def _sources(self, names: Names, outer: Names) -> tuple[Source, ...]:
        sources = [self._source(names, outer, first=True)]
        while self._accept("JOIN"):
            sources.append(self._source(names, outer, first=False))
        if len(sources) - 1 > MAX_JOINS:
            raise bad_request(f"The query has {len(sources) - 1} JOINs; at most {MAX_JOINS} are allowed.")
        return tuple(sources)

    def _source(self, names: Names, outer: Names, *, first: bool) -> Source:
        if self._accept("("):
            query = self.query(names)
            self._expect(")")
            self._accept("AS")
            return self._named(names, self._name(), query, each=False)
        name = self._name()
        if self._accept("IN"):
            if self._accept("("):
                query = self.query(names)
                self._expect(")")
                return self._named(names, name, query, each=True)
            return self._named(names, name, self._collection(names, first=first), each=True)
        self._position -= 1
        of = self._collection(names, first=first)
        if self._accept("AS") or self._next.kind == "name":
            alias = self._name()
        elif isinstance(of, Member) and isinstance(of.name, str):
            alias = of.name
        else:
            alias = name
        return self._named(names, alias, of, each=False)

    def _named(self, names: Names, alias: str, of: Any, *, each: bool) -> Source:
        if alias in names:
            raise bad_request(f"The input alias '{alias}' is specified more than once.")
        names[alias] = None
        return Source(alias, None if of == _ROOT and not each else of, each)

    def _collection(self, names: Names, *, first: bool) -> Expression:
        token = self._next
        name = self._name()
        if name in names:
            of: Expression = Alias(name)
        elif first and not names:
            of = _ROOT
        else:
            raise _unresolved(name, token)
        while self._at(".", "["):
            of = self._step(of)
        return of

    # Expressions, loosest first

    def _list(self, names: Names) -> list[Expression]:
        found = [self._expression(names)]
        while self._accept(","):
            found.append(self._expression(names))
        return found

    def _expression(self, names: Names) -> Expression:
        when = self._coalesced(names)
        if not self._accept("?"):
            return when
        then = self._expression(names)
        self._expect(":")
        return Conditional(when, then, self._expression(names))

    def _coalesced(self, names: Names) -> Expression:
        left = self._binary(names, 0)
        while self._accept("??"):
            left = Binary("??", left, self._binary(names, 0))
        return left

    def _binary(self, names: Names, level: int) -> Expression:
        if level == len(_BINARY):
            return self._unary(names)
        left = self._binary(names, level + 1)
        while True:
            if level == _COMPARISONS and (special := self._special(names, left)) is not None:
                left = special
            elif operator := self._accept(*_BINARY[level]):
                right = self._binary(names, level + 1)
                left = Binary("!=" if operator == "<>" else operator, left, right)
            else:
                return left

    def _special(self, names: Names, left: Expression) -> Expression | None:
        negated = self._at("NOT") and self._tokens[self._position + 1].text in ("BETWEEN", "IN", "LIKE")
        if negated:
            self._take()
        if self._accept("BETWEEN"):
            low = self._binary(names, _COMPARISONS + 1)
            self._expect("AND")
            return Between(left, low, self._binary(names, _COMPARISONS + 1), negated)
        if self._accept("IN"):
            self._expect("(")
            among = self._list(names)
            self._expect(")")
            return In(left, tuple(among), negated)
        if self._accept("LIKE"):
            pattern = self._binary(names, _COMPARISONS + 1)
            escape = None
            if self._accept("ESCAPE"):
                escape = self._string(self._take())
                if len(escape) != 1:
                    raise bad_request("The ESCAPE of a LIKE is one character.")
            return Like(left, pattern, escape, negated)
        return None

    def _unary(self, names: Names) -> Expression:
        if self._accept("NOT"):
            return Unary("NOT", self._unary(names))
        operator = self._accept("-", "+", "~")
        if operator is None:
            return self._postfix(names)
        operand = self._unary(names)
        if operator == "-" and isinstance(operand, Constant) and type(operand.value) in (int, float):
            return Constant(-operand.value)
        return Unary(operator, operand)

    def _postfix(self, names: Names) -> Expression:
        found = self._primary(names)
        while self._at(".", "["):
            found = self._step(found)
        return found

    def _step(self, of: Expression) -> Expression:
        if self._accept("."):
            token = self._take()
            if token.kind not in ("name", "keyword"):
                raise syntax_error(token)
            return Member(of, token.raw)
        self._expect("[")
        token = self._take()
        if token.kind == "string":
            step: Expression = Member(of, self._string(token), True)
        elif token.kind == "number" and token.text.isdecimal():
            step = Member(of, int(token.text), True)
        else:
            raise syntax_error(token)
        self._expect("]")
        return step

    def _primary(self, names: Names) -> Expression:  # noqa: PLR0911 - a branch for each kind of word
        token = self._take()
        match token:
            case Token("number", text):
                value = float(text) if any(mark in text for mark in ".eE") else int(text)
                return Constant(as_stored(value))
            case Token("string"):
                return Constant(self._string(token))
            case Token("parameter", text):
                return Parameter(text)
            case Token("keyword", "TRUE" | "FALSE" | "NULL" | "UNDEFINED" as word):
                return Constant({"TRUE": True, "FALSE": False, "NULL": None, "UNDEFINED": UNDEFINED}[word])
            case Token("keyword", "EXISTS" | "ARRAY" as kind):
                self._expect("(")
                query = self.query(names)
                self._expect(")")
                return Subquery("EXISTS" if kind == "EXISTS" else "ARRAY", query)
            case Token("sign", "("):
                return self._parenthesized(names)
            case Token("sign", "["):
                items: list[Expression] = [] if self._at("]") else self._list(names)
                self._expect("]")
                return ArrayOf(tuple(items))
            case Token("sign", "{"):
                return self._object(names)
            case Token("name", text):
                if self._accept("("):
                    arguments: list[Expression] = [] if self._at(")") else self._list(names)
                    self._expect(")")
                    return Call(text, tuple(arguments))
                if text not in names:
                    raise _unresolved(text, token)
                return Alias(text)
        raise syntax_error(token)

    def _parenthesized(self, names: Names) -> Expression:
        if self._at("SELECT"):
            query = self.query(names)
            self._expect(")")
            return Subquery("", query)
        found = self._expression(names)
        self._expect(")")
        return found

    def _object(self, names: Names) -> Expression:
        members: list[tuple[str, Expression]] = []
        while not self._at("}"):
            token = self._take()
            if token.kind == "string":
                name = self._string(token)
            elif token.kind in ("name", "keyword"):
                name = token.raw
            else:
                raise syntax_error(token)
            self._expect(":")
            members.append((name, self._expression(names)))
            if not self._accept(","):
                break
        self._expect("}")
        return ObjectOf(tuple(members))

    @staticmethod
    def _string(token: Token) -> str:
        if token.kind != "string":
            raise syntax_error(token)
        text = _ESCAPE.sub(lambda match: _unescaped(match, token), token.text[1:-1])
        try:
            # Two escapes may be one character outside the basic plane.
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise syntax_error(token) from error


def _unescaped(match: re.Match[str], token: Token) -> str:
    escape = match.group(1)
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    if escape not in _ESCAPES:
        raise syntax_error(token)
    return _ESCAPES[escape]


def _unresolved(name: str, token: Token) -> RefusedError:
    error = {
        "severity": "Error",
        "location": {"start": token.start, "end": token.start + len(name)},
        "code": "SC2001",
        "message": f"Identifier '{name}' could not be resolved.",
    }
    return bad_request("Message: " + json.dumps({"errors": [error]}))


_ROOT = Alias("")
"""The container itself, whatever a query calls it."""
