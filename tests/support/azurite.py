"""Azure's own storage emulator, Azurite, as a peer: its blob service on a free loopback port."""

import re
from collections import Counter
from pathlib import Path

from node_process import NodeProcess

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The emulator's account and key, the same everywhere and public."""

_ANSWERED = re.compile(r'"(?P<method>[A-Z]+) /[^ ]* HTTP/1\.1" \d{3}')
_LISTENS = re.compile(r"Blob service successfully listens on http://127\.0\.0\.1:(?P<port>\d+)")


class Azurite:
    """A running Azurite.

    Args:
        folder: where it keeps what it is given; without one it keeps it in memory, and forgets it when it ends.
        counting: keep a log of requests, for :meth:`requests`.
    """

    def __init__(self, folder: Path | None = None, *, counting: bool = False) -> None:
        self._silence = () if counting else ("--silent",)
        self._keep = ["--inMemoryPersistence"] if folder is None else ["--location", str(folder)]
        self._process = self._start(port=0)
        self.port = self._process.port

    @property
    def account_url(self) -> str:
        """The blob service's address."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """What ``AzureWebJobsStorage`` takes."""
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.account_url};"

    def requests(self) -> Counter[str]:
        """How many requests it has answered, by method."""
        return Counter(found["method"] for found in _ANSWERED.finditer(self._process.output()))

    def stop(self) -> None:
        """End it in an orderly way: what it keeps in its folder is there whole. Killed, it loses the last seconds."""
        self._process.stop()

    def end(self) -> None:
        """Kill it. Ending twice is harmless."""
        self._process.end()

    def start_again(self) -> None:
        """Start it anew on the port that it had."""
        self._process.end()
        self._process = self._start(self.port)

    def _start(self, port: int) -> NodeProcess:
        return NodeProcess(
            "azurite/dist/src/blob/main.js",
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--disableTelemetry", "--skipApiVersionCheck"),
            *self._silence,
            *self._keep,
            listens=_LISTENS,
        )
