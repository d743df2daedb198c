"""The page of each source tells every field of its connections, with the default that the code has."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connections.stored_connection import KINDS
from messaging import codec

DOCS = Path(__file__).parents[2] / "docs" / "connect"
ROW = re.compile(r"^\| ((?:`[\w.]+`(?:, )?)+) \| (.*?) \| (.*?) \|$", re.MULTILINE)
OF_ALL = {"connectionId", "tenantId", "system", "name", "instance", "baseUrl", "defaultCurrency"}
KEPT_BY_THE_APP = {"status", "errorMessage", "createdAt", "botUser", "botId"}


def _rows(system: str) -> dict[str, tuple[str, str]]:
    """What a row says of a field: its default, its meaning."""
    found = ROW.findall((DOCS / f"{system}.md").read_text())
    return {name: (told, means) for names, told, means in found for name in re.findall(r"`([\w.]+)`", names)}


def _defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What a connection has that names nothing, by field; required ones are left out."""
    plain = {}
    for one in msgspec.structs.fields(kind):
        value = one.default_factory() if one.default_factory is not msgspec.NODEFAULT else one.default
        if value is not msgspec.NODEFAULT:
            plain[one.encode_name] = codec.decode(codec.encode(value))
    return plain


@pytest.mark.parametrize("system", KINDS)
def test_each_field_has_a_row(system: str) -> None:
    rows = _rows(system)
    fields = {one.encode_name for one in msgspec.structs.fields(KINDS[system])} - OF_ALL - KEPT_BY_THE_APP
    assert {name.partition(".")[0] for name in rows} >= fields
    auth = next(one.type for one in msgspec.structs.fields(KINDS[system]) if one.name == "auth")
    page = (DOCS / f"{system}.md").read_text()
    for one in msgspec.structs.fields(auth):
        assert f"`auth.{one.encode_name}`" in page or f"`{one.encode_name}`" in page, one.encode_name


@pytest.mark.parametrize("system", KINDS)
def test_a_number_on_the_page_is_the_default_in_the_code(system: str) -> None:
    defaults = _defaults(KINDS[system])
    defaults |= {f"schedule.{name}": value for name, value in defaults.pop("schedule").items()}
    rows = _rows(system)
    told = {name: rows[name][0].replace(",", "").strip("`") for name in rows.keys() & defaults.keys()}
    numbers = {name: value for name, value in defaults.items() if type(value) in (int, float) and name in rows}
    assert len(numbers) >= 4
    assert {name: float(told[name]) for name in numbers} == {name: float(value) for name, value in numbers.items()}
    switches = {name: value for name, value in defaults.items() if isinstance(value, bool) and name in rows}
    assert {name: told[name] for name in switches} == {name: str(value).lower() for name, value in switches.items()}
