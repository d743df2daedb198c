"""Text for search, made from structured data by a template: a few lines of facts, then the long texts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

SHORT_TEXT_CHARACTERS = 200
"""A custom field's text up to this length is a line among the facts; a longer one stands by itself."""


class TextPart(NamedTuple):
    """A piece of text and the heading it stands under, None for the facts that come first; of a file also its page."""

    heading: str | None
    text: str
    page: int | None = None


Form = Callable[[Any, Mapping[str, Any]], str]
"""Makes the words of a value, given also the whole structured data; empty when there is nothing to say."""


def as_words(value: Any, _: Mapping[str, Any]) -> str:
    """``negotiation_review`` as ``negotiation review``."""
    return value.replace("_", " ") if isinstance(value, str) else ""


def as_list(value: Any, _: Mapping[str, Any]) -> str:
    """Texts in a list, with commas."""
    return ", ".join(item for item in value if isinstance(item, str)) if isinstance(value, list) else ""


def as_number(value: Any, _: Mapping[str, Any]) -> str:
    """``12500`` as ``12,500``."""
    if isinstance(value, Decimal):
        return f"{value:,f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else ""


def as_money(value: Any, data: Mapping[str, Any]) -> str:
    """``120000`` as ``120,000 USD``, when the data says which currency."""
    number = as_number(value, data)
    currency = data.get("currency")
    return f"{number} {currency}" if number and isinstance(currency, str) else number


def as_day(value: Any, _: Mapping[str, Any]) -> str:
    """The day of a date or moment."""
    return value[:10] if isinstance(value, str) else ""


def stage_words(value: Any, data: Mapping[str, Any]) -> str:
    """The stage in the company's own words, else in ours."""
    stage_name = data.get("stageName")
    return stage_name if isinstance(stage_name, str) else as_words(value, data)


class Place:
    """The city, state and country of an address block: ``Place("billing")`` reads ``billingCity`` and the others."""

    def __init__(self, prefix: str) -> None:
        parts = ("City", "State", "Country")
        self._fields = [prefix + part if prefix else part.lower() for part in parts]

    def __call__(self, _: Any, data: Mapping[str, Any]) -> str:
        """The words, empty when the block is."""
        values = [data.get(field) for field in self._fields]
        return ", ".join([value for value in values if isinstance(value, str)])


class Fact(NamedTuple):
    """A line ``label: value``. *form* None: the value is a text that stands as it is. *field* None: *form* looks at the
    whole data itself."""

    field: str | None
    label: str
    form: Form | None = None


class LongText(NamedTuple):
    """A field whose text stands under a heading of its own. *by_field*: names who says it."""

    field: str
    heading: str | None
    by_field: str | None = None


# Values of custom fields that say nothing to a reader: addresses on the web, ids of records and of Slack's users and
# channels (with a digit, so that words as long stay), numbers and times, flags, and long tokens such as keys.
_SPEECHLESS = re.compile(
    r"""(?: [a-z][a-z0-9+.-]*://\S+ | www\.\S+ | /\S*
        | (?=[A-Za-z]*[0-9])[A-Za-z0-9]{15}(?:[A-Z0-5]{3})?
        | (?-i:(?=[A-Z]+[0-9])[UWTEC][A-Z0-9]{8,12})
        | [\d\s.,:/TZ%+-]+
        | true | false
        | (?=\D*\d)[!-~]{32,}
        )\Z""",
    re.VERBOSE | re.IGNORECASE,
)
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@lru_cache(maxsize=4096)
def custom_label(api_name: str) -> str:
    """``npsp__Funding_Focus__c`` as ``Funding Focus``, ``originalFilename`` as ``Original filename``."""
    words = re.sub(r"__(?:c|pc|r)\Z", "", api_name, flags=re.IGNORECASE).rpartition("__")[2]
    words = _CAMEL_BOUNDARY.sub(" ", words).replace("_", " ").strip()
    return words.capitalize() if words[:1].islower() else words


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """The fields that make a type's text: *facts* in the order of their weight, then *texts*."""

    facts: tuple[Fact, ...] = ()
    texts: tuple[LongText, ...] = ()

    def parts(self, data: Mapping[str, Any]) -> list[TextPart]:
        """The text of *data*: facts and short custom texts as lines of one part, then each long text."""
        get = data.get
        lines: list[str] = []
        for field, label, form in self.facts:
            value = get(field) if field else None
            if value is None and field:
                continue
            words = form(value, data) if form else value
            if words.__class__ is str and words:
                lines.append(f"{label}: {words}")
        long: list[TextPart] = []
        for field, heading, by_field in self.texts:
            value = get(field)
            if isinstance(value, str) and value:
                by = get(by_field) if by_field else None
                speaker = by.get("name") if isinstance(by, Mapping) else None
                long.append(TextPart(heading, f"{speaker}: {value}" if speaker else value))
        custom_fields = get("customFields")
        if custom_fields:
            _add_custom_texts(custom_fields, lines, long)
        if lines:
            return [TextPart(None, "\n".join(lines)), *long]
        return long


def _add_custom_texts(custom_fields: Mapping[str, Any], lines: list[str], long: list[TextPart]) -> None:
    for name in sorted(custom_fields):
        value = custom_fields[name]
        if value.__class__ is dict:
            value = value.get("Name")
        if value.__class__ is not str or not value or _SPEECHLESS.match(value):
            continue
        if len(value) <= SHORT_TEXT_CHARACTERS:
            lines.append(f"{custom_label(name)}: {value}")
        else:
            long.append(TextPart(custom_label(name), value))


NO_TEXT = TextTemplate()
"""The template of types whose data is not for searching."""
