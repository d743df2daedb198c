"""What status tells of a bus that can't be counted to its end, or does not answer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import azure.functions as func
import pytest
from chain_rig import Rig

from api.blueprint import answers_problems
from cli.main import main
from messaging import codec
from messaging.bus import BusUnavailableError, QueueDepth
from messaging.queues import EMBEDDING_JOBS, SHARD_EMISSION
from messaging.sqlite_bus import SqliteMessageBus

OLDEST = datetime(2026, 3, 1, tzinfo=UTC)
DEPTHS = {
    SHARD_EMISSION: QueueDepth(1_490, 0, 10, 3, OLDEST, frozenset({"active", "scheduled"})),
    EMBEDDING_JOBS: QueueDepth(0, 0, 0, 1_500, None, frozenset({"dead_lettered"})),
}


@pytest.fixture
def long_queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def depths(bus: SqliteMessageBus) -> dict[str, QueueDepth]:
        return DEPTHS

    monkeypatch.setattr(SqliteMessageBus, "depths", depths)
    monkeypatch.setenv("SHARDLINE_HOME", "local")
    monkeypatch.setenv("SHARDLINE_DATA_DIR", str(tmp_path))


@pytest.mark.usefixtures("long_queues")
def test_counts_that_were_broken_off_are_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0
    queues = codec.decode(capsys.readouterr().out)["queues"]
    assert queues[SHARD_EMISSION]["atLeast"] == ["active", "scheduled"]
    assert queues[EMBEDDING_JOBS]["atLeast"] == ["deadLettered"]
    assert main(["status"]) == 0
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    cells = [cell.strip() for cell in lines[SHARD_EMISSION].split("│")[2:7]]
    assert cells == ["1,490 or more", "0", "10 or more", "3", "2026-03-01T00:00:00.000Z"]
    cells = [cell.strip() for cell in lines[EMBEDDING_JOBS].split("│")[2:7]]
    assert cells == ["0", "0", "0", "1,500 or more", ""]


async def test_a_bus_that_is_away_is_answered_503_with_the_time_to_come_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.blueprint.services", lambda: rig.services)

    @answers_problems
    async def door(req: func.HttpRequest) -> func.HttpResponse:
        raise BusUnavailableError("work: the queue is full", retry_after=timedelta(seconds=59.2))

    answer = await door(func.HttpRequest("GET", "/api/status", body=b""))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    problem = codec.decode(answer.get_body())
    assert (problem["type"], problem["status"]) == ("urn:shardline:problem:bus-unavailable", 503)
    assert "full" not in problem["detail"], "what the bus says of itself is for the log"
