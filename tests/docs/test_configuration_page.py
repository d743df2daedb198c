"""The configuration page and the settings are in step."""

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from settings import Settings, SettingsError, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `(SHARDLINE_\w+)` \| (.*?) \| (.*?) \| `(.*?)` \|$", re.MULTILINE)


def _rows() -> dict[str, tuple[str, str]]:
    return {name: (default, example) for name, default, _, example in ROW.findall(PAGE.read_text())}


def _variable(field: str) -> str:
    return f"SHARDLINE_{field.upper()}"


def test_each_setting_has_a_row_and_each_row_a_setting() -> None:
    assert set(_rows()) == {_variable(field) for field in Settings.model_fields}


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_the_default_on_the_page_is_the_default_in_the_code(field: str) -> None:
    default = Settings.model_fields[field].default
    told = _rows()[_variable(field)][0]
    if default is PydanticUndefined or default is None:
        assert told.startswith("none")
    else:
        assert told == f"`{default}`"


@pytest.mark.parametrize("field", [name for name in Settings.model_fields if name not in {"home", "data_dir"}])
def test_the_example_on_the_page_is_accepted(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHARDLINE_HOME", "local")
    monkeypatch.setenv("SHARDLINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv(_variable(field), _rows()[_variable(field)][1])
    load_settings()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SHARDLINE_HOME is missing"),
        ({"SHARDLINE_HOME": "lokal"}, "SHARDLINE_HOME is malformed"),
        ({"SHARDLINE_HOME": "local"}, "SHARDLINE_DATA_DIR is missing"),
        (
            {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": "d", "SHARDLINE_RECONCILE_AFTER_SECONDS": "soon"},
            "SHARDLINE_RECONCILE_AFTER_SECONDS is malformed",
        ),
        (
            {
                "SHARDLINE_HOME": "local",
                "SHARDLINE_DATA_DIR": "d",
                "SHARDLINE_SALESFORCE_SIMULATOR": "http://example.com",
            },
            "SHARDLINE_SALESFORCE_SIMULATOR is malformed",
        ),
        (
            {"SHARDLINE_HOME": "azure", "SHARDLINE_SALESFORCE_SIMULATOR": "http://127.0.0.1:1"},
            "SHARDLINE_SALESFORCE_SIMULATOR is set",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(
    environment: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(_variable(field), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    message = str(raised.value)
    assert named in message
    assert "\n" not in message
