"""Microsoft's own worker library indexes the app and invokes each of its functions.

It lives in an environment of its own, made of `requirements.txt` alone (`make worker`), so a package that the app needs
and Azure would not install shows here.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.home import DEFAULT_SCHEDULES
from messaging.queues import QUEUES
from shards.sqlite_store import SqliteShardStore

ROOT = Path(__file__).parents[2]
WORKER = ROOT / ".cache" / "functions-worker" / "bin" / "python"


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What the worker found and what became of its invocations; and the data folder it worked on."""
    if not WORKER.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the worker's environment is missing: run 'make worker'")
        pytest.skip("the worker's environment is missing: run 'make worker'")
    data = tmp_path_factory.mktemp("worker") / "data"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SHARDLINE_", "PYTHON"))}
    environment |= DEFAULT_SCHEDULES | {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": str(data)}
    done = subprocess.run(
        [str(WORKER), str(Path(__file__).with_name("worker_probe.py"))],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "failed" not in answer, answer
    return answer["functions"], data


def test_every_function_is_found_with_its_trigger(probed: tuple[dict[str, Any], Path]) -> None:
    functions, _ = probed
    triggers = {name: function["bindings"][0] for name, function in functions.items()}
    assert {trigger["route"] for trigger in triggers.values() if trigger["type"] == "httpTrigger"} == {
        "health",
        "status",
        "search",
        "shards",
        "shards/{id}",
    }
    assert {trigger["queueName"] for trigger in triggers.values() if trigger["type"] == "serviceBusTrigger"} == set(
        QUEUES
    )
    assert {trigger["schedule"] for trigger in triggers.values() if trigger["type"] == "timerTrigger"} == {
        f"%{name}%" for name in DEFAULT_SCHEDULES
    }


def test_every_function_runs_in_the_worker(probed: tuple[dict[str, Any], Path]) -> None:
    functions, _ = probed
    assert {name: function["problem"] for name, function in functions.items() if not function["succeeded"]} == {}
    statuses = {name: function["httpStatus"] for name, function in functions.items() if function["httpStatus"]}
    assert statuses == {"health": "200", "status": "200", "search": "401", "shard": "401", "shards": "401"}


async def test_what_the_worker_could_not_process_is_parked(probed: tuple[dict[str, Any], Path]) -> None:
    _, data = probed
    store = SqliteShardStore(data / "store.db")
    try:
        counts = await store.parked_counts()
    finally:
        await store.close()
    batches = len(QUEUES) - 1
    assert counts == {"invalid-message": 2 * batches + 1}
