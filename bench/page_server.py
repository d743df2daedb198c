"""Loopback pages for peers: contacts serialised beforehand, or the epochs of the hostile cursor, as plain JSON.

``GET /query?page=N`` is one page of the contacts, ``GET /rows?since=STAMP&page=N`` one of the epoch's rows stamped at
or after *since*: ``{"records": […], "next_page": N or null}``. It prints its address and ends with its standard input.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import requests

from local.salesforce.contacts import contacts_company
from local.salesforce.hostile import PAGE_ROWS, hostile_epochs
from messaging import codec

PAGE = 2_000
"""Rows a page of the contacts: as many as Salesforce gives a response."""
_ROW_FIELDS = ("Id", "Name", "SystemModstamp", "IsDeleted")
_FAILING_CALLS = (2, 4)


class Pages:
    """What the server serves: the contacts, and the hostile cursor's present epoch with its calls and failures."""

    def __init__(self, records: int) -> None:
        rows = contacts_company(records).tables["Contact"].records if records else []
        self.contacts = [
            codec.encode(
                {
                    "next_page": start // PAGE + 1 if start + PAGE < len(rows) else None,
                    "records": [
                        {
                            "attributes": {
                                "type": "Contact",
                                "url": f"/services/data/v59.0/sobjects/Contact/{row['Id']}",
                            },
                            **row,
                        }
                        for row in rows[start : start + PAGE]
                    ],
                }
            )
            for start in range(0, len(rows), PAGE)
        ]
        self.calls = 0
        self.delay = 0.0
        self._failures: list[int] = []
        self._rows: list[dict[str, Any]] = []

    def set_epoch(self, number: int, *, failing: bool, delay: float) -> None:
        """Let it be epoch *number*; count calls from here. *delay* seconds are waited before each answer."""
        epoch = hostile_epochs()[number]
        rows = [{name: record[name] for name in _ROW_FIELDS} for record in epoch.records.values()]
        for row in rows:
            row["SystemModstamp"] = str(row["SystemModstamp"]).replace("+0000", "Z")
        self._rows = sorted(rows, key=lambda row: (row["SystemModstamp"], row["Id"]))
        self._failures = list(epoch.failures) if failing else []
        self.calls, self.delay = 0, delay

    def rows(self, since: str, page: int) -> tuple[int, bytes]:
        """Status and body of a call for rows."""
        self.calls += 1
        time.sleep(self.delay)
        if self._failures and self.calls in _FAILING_CALLS:
            return self._failures.pop(0), b'{"error": "limit"}'
        since = since.replace("+00:00", "Z").replace("+0000", "Z")
        found = [row for row in self._rows if row["SystemModstamp"] >= since]
        last = (page + 1) * PAGE_ROWS >= len(found)
        shown = found[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
        return 200, codec.encode({"records": shown, "next_page": None if last else page + 1})


def _handler(pages: Pages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """A line a call would be noise."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            page = int(asked.get("page", 0))
            if parts.path == "/query":
                self._answer(200, pages.contacts[page])
            elif parts.path == "/rows":
                self._answer(*pages.rows(asked.get("since", ""), page))
            elif parts.path == "/calls":
                self._answer(200, json.dumps({"calls": pages.calls}).encode())
            elif parts.path == "/epoch":
                pages.set_epoch(
                    int(asked["number"]), failing=asked.get("failing") == "1", delay=float(asked.get("delay", 0))
                )
                self._answer(200, b"{}")
            else:
                self._answer(404, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status != 200:
                self.send_header("Retry-After", "1")
            with suppress(BrokenPipeError):  # the client was killed, as a crash bench does
                self.end_headers()
                self.wfile.write(body)

    return Handler


class PageServer:
    """The server in a process of its own. Use it as a context."""

    def __init__(self, records: int = 0) -> None:
        self.url = ""
        self._records = records
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.page_server", "--records", str(self._records)],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("the page server ended at once")
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None and process.stdin is not None
        process.stdin.close()
        process.wait(10)

    def get(self, path: str) -> Any:
        """The JSON answer to *path*."""
        return requests.get(self.url + path, timeout=60).json()


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(prog="python -m bench.page_server", description=main.__doc__)
    parser.add_argument("--records", type=int, default=0, help="contacts to serve")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(Pages(parser.parse_args().records)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
