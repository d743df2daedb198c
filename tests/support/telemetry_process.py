"""A process that runs records through the chain with the telemetry of its environment, and says what it saw.

``python telemetry_process.py DATA RECORDS [--hold]``. It prints a JSON line: the telemetry modules that were loaded,
how many records have vectors, how many messages are parked. ``--hold``: it then waits for a signal.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from unittest.mock import patch

from chain_rig import Rig, current, event

from operations import telemetry
from settings import Settings

LOADED = ("opentelemetry.sdk", "opentelemetry.exporter", "azure.monitor")


async def _run(data: Path, records: int, *, hold: bool) -> None:
    rig = Rig(data, telemetry=telemetry.configure(Settings(home="local", data_dir=data)))
    try:
        await rig.run(*(event("Account", number, 1, Name=f"Planted {number} Ltd") for number in range(records)))
        said = {
            "modules": [name for name in sys.modules if name.startswith(LOADED)],
            "vectors": (await rig.store.counts("acme")).vectors,
            "parked": len(await rig.parked()),
        }
        print(json.dumps(said), flush=True)
        while hold:
            time.sleep(1)  # noqa: ASYNC251 - whoever signals finds the loop busy, as a worker's may be
    finally:
        await rig.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("records", type=int)
    parser.add_argument("--hold", action="store_true")
    options = parser.parse_args()
    with patch("processors.blueprint.services", current.get):
        asyncio.run(_run(options.data, options.records, hold=options.hold))
