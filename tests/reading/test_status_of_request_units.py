"""What status tells of the request units that a home's functions are charged."""

from dataclasses import replace
from pathlib import Path

import pytest
from chain_rig import Rig

import composition
from api.status import pipeline_status
from cli.main import main
from messaging import codec
from shards.request_charges import Charge, DayCharges
from shards.sqlite_store import SqliteShardStore

DAYS = [
    DayCharges(
        "2026-03-03", [Charge("normalize_events", "create", 1_500, 8_250.004, 2), Charge("search", "query", 1, 3.5, 0)]
    ),
    DayCharges("2026-03-02", [Charge("search", "query", 7, 24.5, 0)]),
]


class Book:
    """A book of charges."""

    async def charges_by_day(self) -> list[DayCharges]:
        """What is in it."""
        return DAYS


async def test_status_tells_them_by_day_function_and_operation(rig: Rig) -> None:
    status = await pipeline_status(replace(rig.services, charge_book=Book()))
    assert list(status["requestUnits"]) == ["2026-03-03", "2026-03-02"]
    assert status["requestUnits"]["2026-03-03"] == [
        {
            "function": "normalize_events",
            "operation": "create",
            "requests": 1_500,
            "requestUnits": 8_250.0,
            "throttled": 2,
        },
        {"function": "search", "operation": "query", "requests": 1, "requestUnits": 3.5, "throttled": 0},
    ]


async def test_a_store_that_charges_nothing_has_none(rig: Rig) -> None:
    assert isinstance(rig.store, SqliteShardStore)
    assert (await pipeline_status(rig.services))["requestUnits"] == {}


def test_the_command_shows_the_newest_day_and_the_sum_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHARDLINE_HOME", "local")
    monkeypatch.setenv("SHARDLINE_DATA_DIR", str(tmp_path))
    assert main(["status"]) == 0
    assert "Request units" not in capsys.readouterr().out

    build = composition.build_local
    monkeypatch.setattr(
        composition, "build_local", lambda *given, **more: replace(build(*given, **more), charge_book=Book())
    )
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines() if line.startswith("│")]
    assert ["normalize_events", "create", "1,500", "8,250", "2"] in rows
    assert ["2026-03-03", "8,254"] in rows
    assert ["2026-03-02", "24"] in rows
    assert not [row for row in rows if row[:3] == ["search", "query", "7"]]
    assert main(["status", "--json"]) == 0
    assert codec.decode(capsys.readouterr().out)["requestUnits"]["2026-03-02"][0]["requests"] == 7
