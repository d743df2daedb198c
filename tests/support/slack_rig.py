"""The chain with a Slack workspace at its way in: the simulator's signed deliveries, and work as the queue has it."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from chain_rig import TENANT, Rig, current
from slack_receiver import Received, SlackReceiver

from connections.secrets import EnvironmentSecrets, environment_variable
from connections.slack_connection import SlackAuth, SlackConnection
from ingestion.slack.source import SlackSource
from ingestion.slack.webhook import receive
from ingestion.webhooks import PushAnswer, PushRequest
from local.host.queue_pump import to_service_bus_message
from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import to_text, utc_now
from shards.identity import shard_id
from shards.model import Chunk, Shard

TEAM = "T0TEST0001"
BOT, SIGNING = "slack-bot", "slack-signing"


class SlackRig(Rig):
    """One workspace of Ann and Bob, connected. What happens in it waits as deliveries until :meth:`deliver`."""

    def __init__(self, folder: Path, simulator: SlackSimulator, receiver: SlackReceiver) -> None:
        super().__init__(folder, start=utc_now() - timedelta(days=1), slack_simulator=simulator.base_url)
        self.simulator = simulator
        self.workspace: Workspace = simulator.workspace
        self.receiver = receiver
        self.secrets = {
            environment_variable(TENANT, BOT): simulator.credentials.bot_token,
            environment_variable(TENANT, SIGNING): simulator.credentials.signing_secret,
        }
        self.services = replace(self.services, secrets=EnvironmentSecrets(self.secrets))
        self.connection = SlackConnection(
            connection_id="slack-main",
            tenant_id=TENANT,
            name="Slack",
            auth=SlackAuth(bot_token=f"secret:{TENANT}/{BOT}", signing_secret=f"secret:{TENANT}/{SIGNING}"),
        )

    @property
    def source(self) -> SlackSource:
        """The app's own source."""
        source = self.services.sources["slack"]
        assert isinstance(source, SlackSource)
        return source

    async def connect(self, **changes: Any) -> SlackConnection:
        """Test the connection as ``shardline connect`` does, and store it with what that found."""
        connection = msgspec.structs.replace(self.connection, **changes)
        checked = await self.source.check(connection)
        found = {"instance": checked.instance, "base_url": checked.base_url, **checked.found}
        self.connection = msgspec.structs.replace(connection, created_at=to_text(self.now), **found)
        await self.services.connections.save(self.connection)
        return self.connection

    async def stored_connection(self) -> SlackConnection:
        """The connection as it stands."""
        found = await self.services.connections.get(TENANT, self.connection.connection_id)
        assert isinstance(found, SlackConnection)
        return found

    async def post(self, delivery: Received, **headers: str) -> PushAnswer:
        """Hand a delivery to the webhook, now."""
        return await receive(PushRequest({**delivery.headers, **headers}, delivery.body), self.services.webhooks)

    async def deliver(self, *, reverse: bool = False) -> list[PushAnswer]:
        """Hand over what has happened since the last time, do the work, and run the chain; the answers."""
        await asyncio.to_thread(self.simulator.sender.wait_until_idle)
        self.now = utc_now()
        waiting, self.receiver.received = self.receiver.received, []
        if reverse:
            waiting.reverse()
        answers = [await self.post(one) for one in waiting]
        await self.settle()
        return answers

    async def settle(self) -> None:
        """Do the work that waits, and run the chain until it is idle."""
        while await self.work():
            await self.drain()
        await self.drain()

    async def work(self) -> int:
        """Do what waits on ``source-work`` now; how many pieces."""
        current.set(self.services)
        [work_on_source] = [function for function in self.index.queues if function.queue == SOURCE_WORK]
        done = 0
        while messages := await self.receive(SOURCE_WORK, max_messages=1):
            await work_on_source.call(to_service_bus_message(messages[0]))
            await self.bus.complete(messages)
            done += 1
        return done

    async def ask(self, work: str, **fields: Any) -> None:
        """Ask for a piece of work, and do it."""
        self.now = max(utc_now(), self.now + timedelta(milliseconds=1))
        asked = SourceWork(
            tenant_id=TENANT,
            connection_id=self.connection.connection_id,
            work=work,
            due_at=to_text(self.now),
            **fields,
        )
        await self.bus.send(SOURCE_WORK, [asked.to_message(SOURCE_WORK)])
        await self.settle()

    async def push(self, event: dict[str, Any], event_id: str = "Ev0TEST", **envelope: Any) -> None:
        """Take an event as if it had been delivered."""
        push = {"type": "event_callback", "team_id": TEAM, "event": event, "event_id": event_id, **envelope}
        await self.ask("push", push=push, event_id=f"slack|{event_id}")

    def id_of(self, object_type: str, external_id: str, instance: str = TEAM) -> str:
        """The id of a record's shard."""
        return shard_id(TENANT, "slack", instance, object_type, external_id)

    async def slack_shard(self, object_type: str, external_id: str, instance: str = TEAM) -> Shard | None:
        """The shard of a record, None when there is none."""
        return await self.store.get(TENANT, self.id_of(object_type, external_id, instance))

    async def message(self, channel: str, ts: str) -> Shard:
        """The shard of a message; it must be there."""
        found = await self.slack_shard("message", f"{channel}:{ts}")
        assert found is not None, f"there is no message {channel}:{ts}"
        return found

    async def channel(self, channel: str) -> Shard:
        """The shard of a channel; it must be there."""
        found = await self.slack_shard("channel", channel)
        assert found is not None, f"there is no channel {channel}"
        return found

    async def slack_chunks(self, object_type: str, external_id: str) -> list[Chunk]:
        """The chunks of a record's shard."""
        return await self.store.chunks(TENANT, self.id_of(object_type, external_id))
