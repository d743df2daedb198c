"""What the same work costs at the very least: pages to JSON rows in SQLite, and the embedding model by itself.

Each floor runs in a process of its own: ``python -m bench.floors json URL FILE`` or ``… model FILE``.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import apsw
import requests

from bench.machine import usage
from messaging import codec
from processors.models.embedding import StaticEmbeddingModel

EMBEDDED_AT_ONCE = 256
"""As many texts as a batch of embedding jobs has."""


@dataclasses.dataclass(frozen=True, slots=True)
class Floor:
    """*records* rows or texts: elapsed and CPU seconds, peak memory of the process in MB."""

    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a record."""
        return self.cpu_seconds / self.records * 1e6


def json_and_sqlite(url: str, file: Path) -> int:
    """Read all pages from *url* and put each row's JSON into a table, a page a transaction; the number of rows."""
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE record (id TEXT PRIMARY KEY, json BLOB NOT NULL) WITHOUT ROWID")
    session = requests.Session()
    page: int | None = 0
    rows = 0
    while page is not None:
        answer = codec.decode(session.get(f"{url}/query", params={"page": page}, timeout=60).content)
        records = answer["records"]
        with connection:
            connection.executemany(
                "INSERT INTO record VALUES (?, ?)", [(record["Id"], codec.encode(record)) for record in records]
            )
        rows += len(records)
        page = answer["next_page"]
    connection.close()
    return rows


def model_alone(model: StaticEmbeddingModel, texts: list[str]) -> int:
    """Embed *texts* in batches and forget the vectors; their number."""
    for start in range(0, len(texts), EMBEDDED_AT_ONCE):
        model.embed_now(texts[start : start + EMBEDDED_AT_ONCE])
    return len(texts)


def run_floor(kind: str, *arguments: str | Path) -> Floor:
    """Measure a floor in a process of its own.

    Raises:
        subprocess.CalledProcessError: it failed; what it said is on standard error.
    """
    command = [sys.executable, "-m", "bench.floors", kind, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=Path(__file__).resolve().parents[1], stdout=subprocess.PIPE, check=True, timeout=600, text=True
    )
    return Floor(**json.loads(done.stdout.splitlines()[-1]))


def main(kind: str, *arguments: str) -> None:
    """Measure the floor *kind* and print it as one JSON line."""
    model, texts = StaticEmbeddingModel(), []
    if kind == "model":
        texts = json.loads(Path(arguments[0]).read_bytes())
        model.embed_now(["loads the model"])
    started, cpu_started = time.perf_counter(), time.process_time()
    records = model_alone(model, texts) if kind == "model" else json_and_sqlite(arguments[0], Path(arguments[1]))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    floor = Floor(records, seconds, cpu_seconds, usage(os.getpid()).peak_mb)
    sys.stdout.write(json.dumps(dataclasses.asdict(floor)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
