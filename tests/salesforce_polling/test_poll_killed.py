"""A worker that is killed in the middle of a walk, again and again."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from polled_org import CONNECTION, TENANT, PolledOrg

ROWS, PAGE, KILLS = 1000, 25, 3
SCRIPT = Path(__file__).with_name("polling_process.py")
ROOT = Path(__file__).parents[2]


def run_worker(org: PolledOrg, folder: Path, kill_after: int | None, delay: float) -> int:
    """A worker's exit status; it is killed *delay* seconds after it has asked for *kill_after* pages."""
    before = len(org.queries())
    worker = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), org.simulator.base_url, TENANT, CONNECTION],
        env={**os.environ, **org.environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        if kill_after is not None:
            while worker.poll() is None and len(org.queries()) - before < kill_after:
                time.sleep(0.001)
            time.sleep(delay)
            worker.send_signal(signal.SIGKILL)
        return worker.wait(60)
    finally:
        worker.kill()
        worker.communicate()


@pytest.mark.timeout(90)
async def test_killed_at_any_moment_no_row_is_lost_or_doubled_and_no_page_read_twice_but_the_one_it_was_in(
    org: PolledOrg, tmp_path: Path
) -> None:
    await org.connect(page_size=PAGE)
    for index in range(ROWS):
        org.org.create("Contact", {"LastName": f"P{index}"})
    moments = random.Random(20261122)
    for _ in range(KILLS):
        status = await asyncio.to_thread(run_worker, org, tmp_path, moments.randint(3, 10), moments.random() * 0.02)
        assert status == -signal.SIGKILL
    assert await asyncio.to_thread(run_worker, org, tmp_path, None, 0) == 0

    await org.drain()
    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert org.seen.repeated == 0
    again = [count - 1 for count in Counter(org.queries()).values() if count > 1]
    assert sum(again) <= KILLS
    assert len(org.queries()) <= ROWS // PAGE + 1 + KILLS
