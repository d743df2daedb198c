"""One poll of the hostile cursor by an Airbyte CDK declarative source: ``airbyte_hostile.py URL FOLDER [LOOKBACK]``.

Prints the records it emitted. Its state is kept in *FOLDER* as Airbyte's platform keeps it.
"""

import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


def manifest(url: str, look_back: str) -> dict[str, Any]:
    """The source: pages by token, an inclusive cursor on SystemModstamp."""
    incremental: dict[str, Any] = {
        "type": "DatetimeBasedCursor",
        "cursor_field": "SystemModstamp",
        "datetime_format": STAMP,
        "cursor_datetime_formats": [STAMP],
        "start_datetime": {"type": "MinMaxDatetime", "datetime": "2000-01-01T00:00:00.000000Z"},
        "start_time_option": {"type": "RequestOption", "inject_into": "request_parameter", "field_name": "since"},
    }
    if look_back:
        incremental["lookback_window"] = look_back
    names = ("Id", "Name", "SystemModstamp")
    schema = {
        "type": "object",
        "additionalProperties": True,
        "properties": {name: {"type": ["null", "string"]} for name in names},
    }
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["contact"]},
        "spec": {"type": "Spec", "connection_specification": {"type": "object", "properties": {}}},
        "streams": [
            {
                "type": "DeclarativeStream",
                "name": "contact",
                "primary_key": ["Id"],
                "incremental_sync": incremental,
                "schema_loader": {"type": "InlineSchemaLoader", "schema": schema},
                "retriever": {
                    "type": "SimpleRetriever",
                    "requester": {
                        "type": "HttpRequester",
                        "url_base": url,
                        "path": "/rows",
                        "http_method": "GET",
                    },
                    "record_selector": {
                        "type": "RecordSelector",
                        "extractor": {"type": "DpathExtractor", "field_path": ["records"]},
                    },
                    "paginator": {
                        "type": "DefaultPaginator",
                        "page_token_option": {
                            "type": "RequestOption",
                            "inject_into": "request_parameter",
                            "field_name": "page",
                        },
                        "pagination_strategy": {
                            "type": "CursorPagination",
                            "cursor_value": "{{ response.get('next_page') }}",
                            "stop_condition": "{{ not response.get('next_page') }}",
                        },
                    },
                },
            }
        ],
    }


def main(url: str, folder: str, look_back: str = "") -> None:
    """Poll once."""
    entrypoint = importlib.import_module("airbyte_cdk.entrypoint")
    declarative = importlib.import_module("airbyte_cdk.sources.declarative.concurrent_declarative_source")
    models = importlib.import_module("airbyte_cdk.models")
    kept = Path(folder) / "state.json"
    state = json.loads(kept.read_text()) if kept.exists() else []
    stream = {"name": "contact", "json_schema": {}, "supported_sync_modes": ["full_refresh", "incremental"]}
    configured = {"stream": stream, "sync_mode": "incremental", "destination_sync_mode": "append_dedup"}
    catalog, config, given = (Path(folder) / name for name in ("catalog.json", "config.json", "given_state.json"))
    catalog.write_text(json.dumps({"streams": [configured]}))
    config.write_text("{}")
    given.write_text(json.dumps(state))
    source = declarative.ConcurrentDeclarativeSource(
        catalog=None,
        config={},
        state=[models.AirbyteStateMessageSerializer.load(one) for one in state],
        source_config=manifest(url, look_back),
    )
    arguments = ["read", "--config", str(config), "--catalog", str(catalog), "--state", str(given)]
    parsed = entrypoint.AirbyteEntrypoint.parse_args(arguments)
    rows: dict[str, Any] = {}
    emitted = 0
    for line in entrypoint.AirbyteEntrypoint(source).run(parsed):
        message = json.loads(line)
        if message["type"] == "RECORD":
            record = message["record"]["data"]
            rows[record["Id"]] = record
            emitted += 1
        elif message["type"] == "STATE":
            state = [message["state"]]
        elif message["type"] == "TRACE" and message["trace"]["type"] == "ERROR":
            raise RuntimeError(message["trace"]["error"]["message"])
    kept.write_text(json.dumps(state))
    print(json.dumps({"rows": rows, "emitted": emitted, "version": f"airbyte-cdk {version('airbyte-cdk')}"}))


main(*sys.argv[1:])
