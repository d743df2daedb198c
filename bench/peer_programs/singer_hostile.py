"""One poll of the hostile cursor by a Singer SDK tap: ``singer_hostile.py URL FOLDER``.

Prints the records it emitted. Its state is kept in *FOLDER* as a Singer runner keeps it.
"""

import contextlib
import importlib
import io
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

singer_sdk: Any = importlib.import_module("singer_sdk")
typing: Any = importlib.import_module("singer_sdk.typing")

SCHEMA = typing.PropertiesList(
    typing.Property("Id", typing.StringType),
    typing.Property("Name", typing.StringType),
    typing.Property("SystemModstamp", typing.DateTimeType),
    typing.Property("IsDeleted", typing.BooleanType),
).to_dict()


def parameters(stream: Any, context: Any, next_page_token: Any) -> dict[str, Any]:
    """The page, and from where the stream's bookmark says."""
    asked: dict[str, Any] = {"page": next_page_token or 0}
    since = stream.get_starting_replication_key_value(context)
    if since:
        asked["since"] = since
    return asked


def main(url: str, folder: str) -> None:
    """Poll once."""
    contact = type(
        "Contact",
        (singer_sdk.RESTStream,),
        {
            "name": "contact",
            "url_base": url,
            "path": "/rows",
            "primary_keys": ["Id"],
            "replication_key": "SystemModstamp",
            "is_sorted": True,
            "records_jsonpath": "$.records[*]",
            "next_page_token_jsonpath": "$.next_page",
            "schema": SCHEMA,
            "get_url_params": parameters,
        },
    )
    tap_class = type(
        "BenchTap",
        (singer_sdk.Tap,),
        {
            "name": "tap-bench",
            "config_jsonschema": typing.PropertiesList().to_dict(),
            "discover_streams": lambda tap: [contact(tap)],
        },
    )
    kept = Path(folder) / "state.json"
    state = json.loads(kept.read_text()) if kept.exists() else {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        tap_class(config={}, state=state).sync_all()
    rows: dict[str, Any] = {}
    emitted = 0
    for line in said.getvalue().splitlines():
        message = json.loads(line)
        if message["type"] == "RECORD":
            rows[message["record"]["Id"]] = message["record"]
            emitted += 1
        elif message["type"] == "STATE":
            state = message["value"]
    kept.write_text(json.dumps(state))
    print(json.dumps({"rows": rows, "emitted": emitted, "version": f"singer-sdk {version('singer-sdk')}"}))


main(*sys.argv[1:])
