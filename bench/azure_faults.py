"""``python -m bench.azure_faults``: records through the home on Azure while everything on their way fails.

The whole app runs in Microsoft's worker against peers of Service Bus and Cosmos DB, each in a process of its own, and
Azurite. What it leaves is compared, field by field, with what the home on one machine makes where nothing fails. Exit
code 1: something was lost, doubled, or given up on without deserving it. The peers must be installed:
``make worker node-peers proton``.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

# The peers and the story are the tests' own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from azure_home import azure_home
from fault_story import (
    Failure,
    StoryEnd,
    broker_busy,
    broker_silent,
    connections_dropped,
    instance_lost,
    links_detached,
    store_away,
    store_throttling,
    story_events,
    tell,
    undisturbed,
)

RECORDS = 5_000
STORIES: dict[str, Sequence[Failure]] = {
    "nothing": [],
    "connections, links, broker, store, instance": [
        connections_dropped,
        broker_busy,
        links_detached,
        store_away,
        broker_silent,
        instance_lost,
    ],
    "a third of the store's calls throttled, each first change refused, instance": [store_throttling, instance_lost],
}
"""What fails, by the name of the row."""
SHOWN = 5


async def _story(records: int, failures: Sequence[Failure]) -> tuple[StoryEnd, float]:
    """How the story ended, and after how many seconds."""
    events = story_events(records)
    with tempfile.TemporaryDirectory(prefix="azure-faults-") as folder:
        right = await undisturbed(Path(folder) / "right", events)
        async with azure_home(Path(folder), peers_apart=True) as home:
            began = time.perf_counter()
            end = await tell(home, events, failures, right)
            return end, time.perf_counter() - began


def main() -> int:
    """Tell the stories and print how they ended."""
    parser = argparse.ArgumentParser(prog="python -m bench.azure_faults", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS, help=f"records a story (default {RECORDS:,})")
    options = parser.parse_args()
    for library in ("azure", "asyncio"):
        # They tell at length of each link that breaks, which is what is wanted here.
        logging.getLogger(library).addHandler(logging.NullHandler())
        logging.getLogger(library).propagate = False
    console = Console(width=132)
    table = Table(title=f"{options.records:,} records through the home on Azure, one instance")
    for heading in ("what fails", "shards", "chunks", "vectors", "lost or doubled", "given up on", "records/s"):
        table.add_column(heading, justify="left" if heading == "what fails" else "right")
    problems: list[str] = []
    for name, failures in STORIES.items():
        try:
            end, seconds = asyncio.run(_story(options.records, failures))
        except pytest.skip.Exception as missing:
            console.print(f"the stories of failures on Azure are left out: {missing}", highlight=False)
            return 0
        counts = end.picture.counts
        table.add_row(
            name,
            f"{sum(counts.shards.values()):,}",
            f"{counts.chunks:,}",
            f"{counts.vectors:,}",
            f"{len(end.differences):,}",
            f"{len(end.parked) + len(end.dead_letters):,}",
            f"{options.records / seconds:,.0f}",
        )
        problems += end.problems
    console.print(table)
    for problem in problems[:SHOWN]:
        console.print(problem, highlight=False)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
