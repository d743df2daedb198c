"""Strategies for JSON that nobody means: real payloads with something else in any place, as raw bytes."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from hypothesis import strategies as st

RAW: Final[tuple[bytes, ...]] = (
    b"null",
    b"true",
    b"0",
    b"-0",
    b"-1",
    b"1e999999",
    b"1e-999999",
    b"1e99999999999999999999",
    b"1.7976931348623157e309",
    b"9" * 30,
    b"9" * 5000,
    b"0." + b"3" * 5000,
    b"18446744073709551616",
    b"-9223372036854775809",
    b"NaN",
    b"Infinity",
    b'""',
    b'" "',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\uffff\\u202e"',
    '"é\u2028💥"'.encode(),
    b'"\xed\xa0\x80"',
    b'"\xff"',
    b'"' + b"A" * 5000 + b'"',
    b'"' + b"A" * 300_000 + b'"',
    b'"' + "é".encode() * 70_000 + b'"',
    b"[]",
    b"{}",
    b"[null]",
    b'{"":null}',
    b'[{"id":[]}]',
    b"[" * 40 + b"]" * 40,
    b"[" * 400 + b"]" * 400,
    b'{"a":' * 480 + b"1" + b"}" * 480,
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 950 + b"1" + b"}" * 950,
    b"[" * 985 + b"]" * 985,
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b"[" + b"[]," * 20_000 + b"1]",
    b"{" + b",".join(b'"k%d":1' % number for number in range(20_000)) + b"}",
    b'{"a":1,"a":2}',
)
"""Values as they might stand in a body, some of which are no JSON."""

CREDENTIALS: Final = frozenset({"token", "SessionId", "sessionId"})
_PLACE: Final = "@@here@@"


def hostile(sample: object, names: st.SearchStrategy[str], raw: st.SearchStrategy[bytes] | None = None) -> Any:
    """*sample* as bytes, with up to four changes: a value replaced, a key renamed, taken away or given twice.

    *names* are keys and texts that mean something to who reads it.
    """
    values = raw if raw is not None else st.sampled_from(RAW) | names.map(lambda name: json.dumps(name).encode())

    @st.composite
    def made(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
        content = json.loads(json.dumps(sample))
        put: list[bytes] = []
        for _ in range(draw(st.integers(0, 4))):
            left = list(places(content))
            if not left:
                break
            holder, key = draw(st.sampled_from(left))
            match draw(st.sampled_from(("replace", "replace", "take", "rename", "add"))):
                case "replace":
                    holder[key] = f"{_PLACE}{len(put)}"
                    put.append(draw(values))
                case "take":
                    del holder[key]
                case "rename" if isinstance(holder, dict):
                    holder[draw(names)] = holder.pop(key)
                case _ if isinstance(holder, dict):
                    holder[draw(names)] = f"{_PLACE}{len(put)}"
                    put.append(draw(values))
                case _:
                    holder.append(f"{_PLACE}{len(put)}")
                    put.append(draw(values))
        text = json.dumps(content, ensure_ascii=draw(st.booleans())).encode()
        for number, value in enumerate(put):
            text = text.replace(f'"{_PLACE}{number}"'.encode(), value)
        return text

    return made()


def cut_and_patched(body: st.SearchStrategy[bytes], pieces: st.SearchStrategy[bytes]) -> Any:
    """*body* with one stretch of its bytes replaced by a piece, or by nothing."""

    @st.composite
    def made(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
        text: bytes = draw(body)
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 0, 1, 7, 60, len(text)))))
        return text[:start] + bytes(draw(pieces)) + text[end:]

    return made()


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Each place of *content* that a value stands in: what holds it, and its key or index there."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in CREDENTIALS:
                continue  # it would be one no more under another name
            yield content, key
            yield from places(value)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield content, index
            yield from places(value)
