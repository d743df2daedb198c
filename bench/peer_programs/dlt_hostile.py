"""One poll of the hostile cursor by dlt's REST source: ``dlt_hostile.py URL FOLDER [LAG]``.

Prints the rows that duckdb holds afterwards, and how often an id stands there more than once.
"""

import importlib
import json
import os
import sys
from pathlib import Path

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
dlt = importlib.import_module("dlt")
duckdb = importlib.import_module("duckdb")
rest_api = importlib.import_module("dlt.sources.rest_api")


def main(url: str, folder: str, lag: str = "") -> None:
    """Poll once; what dlt remembers stays in *folder*."""
    incremental: dict[str, object] = {
        "cursor_path": "SystemModstamp",
        "initial_value": "2000-01-01T00:00:00.000Z",
        "row_order": "asc",
    }
    if lag:
        incremental["lag"] = float(lag)
    endpoint = {
        "path": "rows",
        "data_selector": "records",
        "params": {"since": "{incremental.start_value}"},
        "incremental": incremental,
    }
    source = rest_api.rest_api_source(
        {
            "client": {
                "base_url": url,
                "paginator": {"type": "cursor", "cursor_path": "next_page", "cursor_param": "page"},
            },
            "resources": [{"name": "contact", "primary_key": "Id", "write_disposition": "merge", "endpoint": endpoint}],
        }
    )
    file = Path(folder) / "peer.duckdb"
    pipeline = dlt.pipeline(
        "bench_hostile",
        destination=dlt.destinations.duckdb(str(file)),
        dataset_name="bench",
        pipelines_dir=folder,
    )
    pipeline.run(source, loader_file_format="parquet")
    stored = duckdb.connect(str(file)).execute("SELECT id, name, is_deleted FROM bench.contact").fetchall()
    rows = {row[0]: {"Name": row[1], "IsDeleted": row[2]} for row in stored}
    print(json.dumps({"rows": rows, "duplicates": len(stored) - len(rows), "version": f"dlt {dlt.__version__}"}))


main(*sys.argv[1:])
