"""The chain with simulated Drives at its way in, read by Google's own library."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
from chain_rig import TENANT
from working_rig import POLL, WorkingRig

from connections.gdrive_connection import DriveConnection, GoogleAuth
from connections.secrets import EnvironmentSecrets, environment_variable
from connections.state import STATE_TYPE
from ingestion.asking import ask_for_sweep
from ingestion.content.extraction import extract
from ingestion.content.kept_text import Extracted
from ingestion.content.limits import Limits
from ingestion.gdrive.source import DriveSource
from local.gdrive.rest import CallRecord
from local.gdrive.server import DriveSimulator
from messaging.bus import BusUnavailableError
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text, utc_now
from shards.identity import shard_id
from shards.model import Chunk, Shard
from shards.store import ShardQuery

ADMIN = "admin@acme.example"
ANN = "ann@acme.example"
BOB = "bob@acme.example"
FOLDER = "application/vnd.google-apps.folder"
DOCUMENT = "application/vnd.google-apps.document"
SHEET = "application/vnd.google-apps.spreadsheet"
SLIDES = "application/vnd.google-apps.presentation"


class NearExtractor:
    """Reads files as the app does, in this process: starting another takes longer than most of these tests."""

    async def extract(self, content: bytes, mime_type: str, name: str) -> Extracted:
        """The text of *content*."""
        return extract(content, mime_type, name, Limits())

    async def close(self) -> None:
        """Nothing was started."""


class DriveRig(WorkingRig):
    """A chain that reads the Drives of *simulator*, as the connection ``drive``."""

    gives_back = (BusUnavailableError,)

    def __init__(self, simulator: DriveSimulator, folder: Path, **changes: Any) -> None:
        start = utc_now().replace(microsecond=0) - timedelta(days=1)
        super().__init__(folder, start=start, gdrive_simulator=simulator.base_url)
        self.simulator = simulator
        self.drive = simulator.drive
        self.secrets: dict[str, str] = {}
        self._services()
        key = self.keep("drive-key", json.dumps(simulator.credentials.service_account_info))
        made = DriveConnection(
            connection_id="drive",
            tenant_id=TENANT,
            name="Drive",
            instance=self.drive.customer_id,
            auth=GoogleAuth(service_account=key, subjects=(ADMIN,)),
        )
        self.made = msgspec.structs.replace(made, **changes)
        self.drive.clock.freeze(self.now)

    def _services(self) -> None:
        self.services = replace(self.services, secrets=EnvironmentSecrets(self.secrets))
        # What reads files in processes of its own has tests of its own.
        vars(self.services)["extractor"] = NearExtractor()

    def keep(self, name: str, value: str) -> str:
        """Plant a secret; its reference."""
        self.secrets[environment_variable(TENANT, name)] = value
        return f"secret:{TENANT}/{name}"

    @property
    def source(self) -> DriveSource:
        """The source as this process has it."""
        source = self.services.sources["gdrive"]
        assert isinstance(source, DriveSource)
        return source

    async def connection(self) -> DriveConnection:
        """The connection as it is stored."""
        found = await self.services.connections.get(TENANT, "drive")
        assert isinstance(found, DriveConnection)
        return found

    def wait(self, seconds: float) -> None:
        """Let time pass, here and at Google."""
        super().wait(seconds)
        self.drive.clock.freeze(self.now)

    async def begin(self) -> None:
        """Register the connection, take the start tokens and load what there is."""
        await self.services.connections.save(self.made)
        await self.catch_up()
        await self.ask("history")
        await self.settle()
        # Later than any clock is off, or a folder's change would pass for one during the load.
        self.wait(1300)

    async def ask(self, work: Literal["history", "poll", "watch"]) -> None:
        """Ask for a piece of work now."""
        asked = SourceWork(tenant_id=TENANT, connection_id="drive", work=work, due_at=to_text(self.now))
        await self.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])

    async def poll(self) -> None:
        """Let the next poll be due, and do it without what it asks for."""
        self.wait(POLL.total_seconds() + 1)
        await self.tick()
        await self.work(most=1)

    async def sweep(self) -> None:
        """Have all listed and compared."""
        self.wait(60)
        await ask_for_sweep([await self.connection()], self.services.ingestion)
        await self.settle()

    async def file(self, file_id: str) -> Shard | None:
        """The shard of a file, a tombstone too."""
        return await self.store.get(TENANT, self.file_shard(file_id))

    def file_shard(self, file_id: str) -> str:
        """The id of the shard of a file."""
        return shard_id(TENANT, "gdrive", self.made.instance, "file", file_id)

    async def live(self, file_id: str) -> Shard:
        """The live shard of a file."""
        shard = await self.file(file_id)
        assert shard is not None and shard.is_live, f"{self.drive.items.get(file_id, file_id)} is not stored"
        return shard

    async def paths(self) -> list[str]:
        """The paths of all live files and folders, in order."""
        query = ShardQuery(TENANT, system="gdrive")
        page = await self.store.query(query, limit=1000)
        return sorted(shard.structured_data["path"] for shard in page.items if shard.is_live)

    async def path(self, file_id: str) -> str:
        """The path of a file."""
        return str((await self.live(file_id)).structured_data["path"])

    async def readers(self, file_id: str) -> list[str]:
        """Who may read a file."""
        return list((await self.live(file_id)).acl.principals)

    async def is_gone(self, file_id: str) -> bool:
        """Whether a file is stored as deleted."""
        shard = await self.file(file_id)
        return shard is not None and not shard.is_live

    async def text(self, file_id: str) -> str:
        """What was read in a file, as its chunks have it."""
        await self.drain()
        return "\n".join(chunk.text for chunk in await self.file_chunks(file_id))

    async def file_chunks(self, file_id: str) -> list[Chunk]:
        """The chunks of a file."""
        return await self.store.chunks(TENANT, self.file_shard(file_id))

    async def states(self) -> dict[str, dict[str, Any]]:
        """What is remembered, by the name of the state behind the connection's."""
        page = await self.store.query(ShardQuery(TENANT, shard_type_ids=(STATE_TYPE,)), limit=1000)
        return {
            str(shard.structured_data["name"]).removeprefix("Drive: "): shard.structured_data for shard in page.items
        }

    def forget_calls(self) -> None:
        """Count calls from here on."""
        self.simulator.api.calls.clear()

    def calls(self, part: str = "", *, media: bool = False) -> list[CallRecord]:
        """The calls whose path has *part*; of *media* alone or not."""
        return [
            call
            for call in self.simulator.api.calls
            if part in call.path and (not media or call.params.get("alt") == "media" or "export" in call.path)
        ]

    def contents_fetched(self) -> int:
        """How often the content of a file was asked for."""
        return len(self.calls(media=True))


def given(kind: str, who: str = "", role: str = "reader", **more: Any) -> dict[str, Any]:
    """A permission to give."""
    named = {"user": "emailAddress", "group": "emailAddress", "domain": "domain"}.get(kind)
    return {"type": kind, "role": role, **({named: who} if named else {}), **more}


def names(calls: Sequence[CallRecord]) -> list[str]:
    """The paths of calls."""
    return [call.path for call in calls]
