"""dlt reads the contacts page by page and merges them into duckdb, its normalizer writing parquet.

``dlt_contacts.py URL FOLDER``. Prints rows, seconds of the pipeline's run, peak memory and versions.
"""

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
dlt = importlib.import_module("dlt")
duckdb = importlib.import_module("duckdb")
requests = importlib.import_module("requests")
loads = importlib.import_module("dlt.common").json.loadb


def pages(url: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of each page."""
    session = requests.Session()
    page: int | None = 0
    while page is not None:
        answer = loads(session.get(f"{url}/query", params={"page": page}, timeout=60).content)
        page = answer["next_page"]
        yield answer["records"]


def main(url: str, folder: str) -> None:
    """Run the pipeline once."""
    contacts = dlt.resource(pages, name="contact", primary_key="Id", write_disposition="merge")
    pipeline = dlt.pipeline(
        "bench_contacts",
        destination=dlt.destinations.duckdb(f"{folder}/peer.duckdb"),
        dataset_name="bench",
        pipelines_dir=folder,
    )
    started, cpu_started = time.perf_counter(), time.process_time()
    pipeline.run(contacts(url), loader_file_format="parquet")
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    rows = duckdb.connect(f"{folder}/peer.duckdb").execute("SELECT count(*) FROM bench.contact").fetchone()[0]
    print(
        json.dumps(
            {
                "records": rows,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "versions": f"dlt {dlt.__version__}, duckdb {duckdb.__version__}",
            }
        )
    )


main(*sys.argv[1:])
