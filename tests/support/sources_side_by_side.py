"""The three sources of one tenant in one app, each with its simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from chain_rig import Rig, current
from drive_source_rig import USER, DriveSourceRig
from salesforce_source_rig import SalesforceSourceRig
from slack_source_rig import SlackSourceRig
from source_rig import TENANT, SourceRig
from working_rig import LANES, POLL

from api.status import pipeline_status
from connections.directory import ConnectionDirectory
from connections.secrets import EnvironmentSecrets
from ingestion.webhooks import WebhookPorts
from local.host.worker import run_worker
from messaging.queues import SOURCE_WORK
from operations.replay import ReplaySelection, replay, select

QUEUES = (SOURCE_WORK, *LANES)


class SideBySide(Rig):
    """One app that reads Slack, Salesforce and Drive, on one clock."""

    def __init__(self, folder: Path) -> None:
        self.slack = SlackSourceRig(folder / "slack")
        self.salesforce = SalesforceSourceRig(folder / "salesforce")
        self.gdrive = DriveSourceRig(folder / "gdrive")
        self.by_system: dict[str, SourceRig] = {one.system: one for one in (self.slack, self.salesforce, self.gdrive)}
        self._own = [one.services for one in self.by_system.values()]
        addresses: dict[str, Any] = {
            f"{system}_simulator": str(getattr(one.settings, f"{system}_simulator"))
            for system, one in self.by_system.items()
        }
        start: datetime = self.slack.now - timedelta(days=1)
        super().__init__(folder / "app", start=start, **addresses)
        secrets: dict[str, str] = {}
        self.services = replace(self.services, secrets=EnvironmentSecrets(secrets))
        for one in self.by_system.values():
            one.settings, one.services, one.secrets = self.settings, self.services, secrets
            one.bus, one.store = self.bus, self.store
            directory = ConnectionDirectory(self.services.connections, monotonic=one.monotonic)
            one.webhooks = WebhookPorts(self.services.bus, directory, self.services.secrets, self.clock, one.monotonic)
        self.wait(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, here and at every vendor."""
        super().wait(seconds)
        for one in self.by_system.values():
            one.now = self.now
            one.set_vendor_clock(self.now)

    async def connect(self) -> None:
        """Connect all."""
        for one in self.by_system.values():
            await one.connect()
        await self.settle()

    async def settle(self, within: timedelta = timedelta(seconds=40)) -> None:
        """Do all that is asked for, and what it asks for in turn that is due *within* that time."""
        current.set(self.services)
        until = self.now + within
        while True:
            done = await self.slack.work()
            await self.drain()
            depths = await self.bus.depths()
            if done or any(depths[queue].active for queue in QUEUES):
                continue
            if self.now >= until or not any(depths[queue].scheduled for queue in QUEUES):
                return
            self.wait(2)

    async def catch_up(self) -> None:
        """Let the next poll of each be due, and all that follows from it be done."""
        self.wait(POLL.total_seconds() + 1)
        await self.slack.tick()
        await self.settle()

    async def status(self) -> dict[str, dict[str, Any]]:
        """What ``status`` tells of each connection, by system."""
        told = await pipeline_status(self.services)
        return {one["system"]: one for one in told["connections"]}

    async def replay(self) -> int:
        """Put back all that is parked; how much that was."""
        ports = self.services.replay
        return sum([await replay(ports, page) async for page in select(ports, ReplaySelection(tenant_id=TENANT))])

    async def close(self) -> None:
        """Give back files and connections, and stop the simulators."""
        for services in self._own:
            await services.close()
        for one in self.by_system.values():
            await one.close()

    # What happens at the vendors

    def shut_out(self, system: str) -> None:
        """Let the connection in no more: its token is revoked, the user it acts for suspended."""
        if system == "gdrive":
            self.gdrive.drive.suspend(USER)
        else:
            self.by_system[system].revoke_credentials()

    def let_in(self, system: str) -> None:
        """Let it in again."""
        if system == "gdrive":
            self.gdrive.drive.restore(USER)
        else:
            self.by_system[system].restore_credentials()

    def answer_with_pages(self, system: str) -> None:
        """Let all calls be answered with HTML for people."""
        if system == "slack":
            self.slack.simulator.api.faults.add("unavailable-html", times=None)
        elif system == "salesforce":
            self.salesforce.simulator.api.faults.add("unavailable-html", times=None)
        else:
            self.gdrive.simulator.api.faults.add("bad-gateway-html", times=None)

    # At its own pace

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Meanwhile the local host's worker does what is asked for, many pieces at a time."""
        current.set(self.services)
        stop = asyncio.Event()
        index = replace(self.index, http=(), timers=(), feeds=())
        state = self.settings.store_file.parent / "host"
        worker = asyncio.create_task(
            run_worker(index, self.bus, self.store, state, stop, only_queues=True, grace=timedelta(0))
        )
        try:
            yield
        finally:
            stop.set()
            await worker
