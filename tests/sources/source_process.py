"""A worker process that does what source work waits in a home: ``source_process.py FOLDER SIMULATOR``."""

import asyncio
import sys
from pathlib import Path

from composition import build_local
from ingestion.work import handle_source_work
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from settings import Settings


async def main(folder: Path, simulator: str) -> None:
    """Work until nothing waits."""
    services = build_local(Settings(home="local", data_dir=folder, salesforce_simulator=simulator))
    while messages := await services.queues.receive(SOURCE_WORK, max_messages=1):
        await handle_source_work(SourceWork.from_bytes(messages[0].body), services.ingestion)
        await services.queues.complete(messages)
    await services.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
