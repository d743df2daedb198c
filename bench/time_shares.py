"""Where the CPU of a stage goes, by area: stopwatches around the calls that enter each area.

A watch counts the time in its own area alone: what a call spends in another watched one is taken off. What no watch
covers is the Python of the processors, of the host and of asyncio. Watches cost time themselves (about half a
microsecond a call), so shares are measured in a run of their own.
"""

import importlib
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import apsw

from messaging.sqlite import SqliteFile


class Watched(NamedTuple):
    """A callable to watch, where its callers look it up."""

    area: str
    module: str
    name: str


MAPPING, JSON, PYDANTIC, IDS = "mapping and validation", "JSON", "pydantic contracts", "identity, links, fingerprint"
STORE, FTS, BUS = "SQLite store", "full-text index", "SQLite bus"
CHUNKS, TOKENS, VECTORS = "text and chunks", "tokenizer", "vectors"
SOURCE, EVENTS = "HTTP and simple-salesforce", "rows to events"
REST = "processors, host, asyncio"

WATCHED: Final = (
    Watched(SOURCE, "ingestion.salesforce.client", "SalesforceClient._translated"),
    Watched(EVENTS, "ingestion.salesforce.poll", "page_events"),
    Watched(MAPPING, "processors.normalization", "map_record"),
    Watched(MAPPING, "processors.normalization", "validate"),
    Watched(IDS, "processors.normalization", "shard_id"),
    Watched(IDS, "processors.normalization", "content_fingerprint"),
    Watched(IDS, "processors.structured_links", "with_structured_links"),
    Watched(JSON, "messaging.codec", "encode"),
    Watched(JSON, "messaging.codec", "decode"),
    Watched(JSON, "shards.sqlite_shard_reads", "decode_shards"),
    Watched(PYDANTIC, "messaging.contracts", "Contract.from_bytes"),
    Watched(PYDANTIC, "messaging.contracts", "Contract.to_bytes"),
    Watched(PYDANTIC, "messaging.contracts", "Contract.__init__"),
    Watched(CHUNKS, "shards.types.definition", "ShardType.text_parts"),
    Watched(CHUNKS, "processors.preparation", "pieces"),
    Watched(TOKENS, "processors.models.word_tokens", "WordTokens.ids"),
    Watched(VECTORS, "processors.models.embedding", "StaticEmbeddingModel.embed_now"),
)

_FTS_STATEMENT = "INTO text_"


class TimeShares:
    """Watches this process from :meth:`begin` on. Make it before the data files are opened."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._local = threading.local()
        for watched in WATCHED:
            self._watch(watched)
        self._watch_files()

    def begin(self) -> None:
        """Count from here."""
        self._seconds.clear()

    def of(self, cpu_seconds: float) -> dict[str, float]:
        """Seconds of CPU by area, of *cpu_seconds* in all."""
        known = dict(self._seconds)
        return {**known, REST: max(0.0, cpu_seconds - sum(known.values()))}

    def _timed(self, area: str, clock: Callable[[], float], call: Callable[[], Any]) -> Any:
        stack: list[float] = self._local.__dict__.setdefault("stack", [])
        stack.append(0.0)
        started = clock()
        try:
            return call()
        finally:
            elapsed = clock() - started
            inner = stack.pop()
            self._seconds[area] += elapsed - inner
            if stack:
                stack[-1] += elapsed

    def _watch(self, watched: Watched) -> None:
        owner: Any = importlib.import_module(watched.module)
        *path, name = watched.name.split(".")
        for part in path:
            owner = getattr(owner, part)
        original = inspect.getattr_static(owner, name)
        inner = original.__func__ if isinstance(original, classmethod) else original

        def watching(*arguments: Any, **named: Any) -> Any:
            return self._timed(watched.area, time.thread_time, lambda: inner(*arguments, **named))

        setattr(owner, name, classmethod(watching) if isinstance(original, classmethod) else watching)

    def _watch_files(self) -> None:
        guarded, opened = SqliteFile._guarded, SqliteFile._open

        def watching(file: SqliteFile, work: Any) -> Any:
            area = BUS if file.path.name == "bus.db" else STORE
            return self._timed(area, time.thread_time, lambda: guarded(file, work))

        def opening(file: SqliteFile, *arguments: Any) -> apsw.Connection:
            connection = opened(file, *arguments)
            connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._note_statement)
            return connection

        setattr(SqliteFile, "_guarded", watching)  # noqa: B010 - an assignment would not pass the type checker
        setattr(SqliteFile, "_open", opening)  # noqa: B010

    def _note_statement(self, event: dict[str, Any]) -> None:
        """Book a statement on the full-text tables there, and off the store (SQLite's own clock, elapsed time)."""
        if _FTS_STATEMENT in event["sql"]:
            seconds = event["nanoseconds"] / 1e9
            self._seconds[FTS] += seconds
            self._seconds[STORE] -= seconds
