"""A simulated org that also pushes: the webhook with its address, and the work that its pushes ask for."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from polled_org import CONNECTION, TENANT, PolledOrg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connections.directory import ConnectionDirectory
from connections.salesforce_connection import SalesforceConnection
from connections.secrets import EnvironmentSecrets, environment_variable
from ingestion.salesforce.webhook import receive
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts
from ingestion.work import handle_source_work
from local.simulator_process import ServedSimulator
from messaging import codec
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import SOURCE_WORK
from processors.mapping import map_record
from processors.outcome import Outcome, Park, PermanentError
from shards.identity import link_id, shard_id
from shards.model import InternalRelationship, Shard
from shards.store import ShardWrite

SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "salesforce"
SECRET = "b2c0ffee5ec2e7"


class PushedOrg(PolledOrg):
    """An org, everything that polls it, and the door that it pushes to."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.environment[environment_variable(TENANT, "sf-hook")] = SECRET
        self.planted.append(SECRET)
        self.seconds = 100.0
        self.use_door()

    def use_door(self) -> None:
        """Open a new door, which knows the connections as they are now."""
        directory = ConnectionDirectory(self.registry, monotonic=lambda: self.seconds)
        secrets = EnvironmentSecrets(self.environment)
        self.door = WebhookPorts(self.bus, directory, secrets, self.clock, lambda: self.seconds)

    async def connect(self, *objects: str, **changes: Any) -> SalesforceConnection:
        """Register the connection, with its webhook's address."""
        pushed = {"webhook_secrets": (f"secret:{TENANT}/sf-hook",), "instance": self.org.org_id}
        return await super().connect(*objects, **{**pushed, **changes})

    async def post(
        self, body: bytes | object, *, kind: str | None = None, secret: str = SECRET, connection: str = CONNECTION
    ) -> PushAnswer:
        """Send *body* (JSON unless it is bytes) to the connection's address."""
        raw = body if isinstance(body, bytes) else codec.encode(body)
        kind = kind if kind is not None else "application/json"
        route = {"connectionId": connection, "secret": secret}
        return await receive(PushRequest({"content-type": kind} if kind else {}, raw, route), self.door)

    async def asked(self) -> list[SourceWork]:
        """The work that can be received now, taken off the queue."""
        works: list[SourceWork] = []
        while messages := await self.bus.receive(SOURCE_WORK, max_messages=200):
            works += [SourceWork.from_bytes(message.body) for message in messages]
            await self.bus.complete(messages)
        return works

    async def work(self) -> list[Outcome]:
        """Do the work that can be received now, and take the events."""
        outcomes = await asyncio.gather(*(self._outcome(work) for work in await self.asked()))
        await self.drain()
        return outcomes

    async def _outcome(self, work: SourceWork) -> Outcome:
        try:
            return await handle_source_work(work, self.work_ports)
        except PermanentError as error:
            return Park(error.reason, error.detail)

    async def taken(self) -> list[SourceWork]:
        """What a push has asked for, once its bucket is over."""
        self.pass_time(timedelta(seconds=2.1))
        return await self.asked()

    def structured_data(self, event: IngestionEvent) -> dict[str, Any]:
        """What the chain stores of a record."""
        mapped = map_record("salesforce", event.object_type, event.record, event.event_type, event.source_id)
        stored: dict[str, Any] = codec.decode(codec.encode(mapped.structured_data))
        return stored

    async def stored(self, object_type: str, record_id: str) -> Shard | None:
        """The stored shard of a record."""
        return await self.store.get(TENANT, shard_id(TENANT, "salesforce", self.org.org_id, object_type, record_id))

    async def link(self, object_type: str, record_id: str, target_type: str, target_id: str) -> None:
        """Give a stored record's shard its link, as the chain does."""
        shard = await self.stored(object_type, record_id)
        assert shard is not None
        target = shard_id(TENANT, "salesforce", self.org.org_id, target_type, target_id)
        shard.internal_relationships = [
            InternalRelationship(
                id=link_id(shard.id, "child_of", target),
                target_shard_id=target,
                target_shard_type_id=f"c_{target_type.lower()}",
                relationship_type="child_of",
                status="active",
                confidence=Decimal(1),
                source="crm",
                method="structured-field",
                evidence={"field": "AccountId"},
                created_at=shard.created_at,
                created_by="system",
            )
        ]
        assert all(await self.store.write_many([ShardWrite(shard, shard.etag)]))


class HttpDoor(ServedSimulator):
    """The webhook of *org* as an address on loopback; :meth:`receive` runs where the test does."""

    def __init__(self, org: PushedOrg) -> None:
        self._org = org
        self._loop = asyncio.get_running_loop()
        self.answers: list[PushAnswer] = []
        path = "/api/webhooks/salesforce/{connectionId}/{secret}"
        super().__init__(Starlette(routes=[Route(path, self._answer, methods=["POST"])]))

    @property
    def url(self) -> str:
        """The connection's secret address."""
        return f"{self.base_url}/api/webhooks/salesforce/{CONNECTION}/{SECRET}"

    async def _answer(self, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        pushed = PushRequest(headers, await request.body(), dict(request.path_params))
        done = asyncio.run_coroutine_threadsafe(receive(pushed, self._org.door), self._loop)
        answer = await asyncio.wrap_future(done)
        self.answers.append(answer)
        return Response(answer.body, answer.status, headers=dict(answer.headers), media_type=answer.content_type)


def as_of(org_id: str, text: bytes, old: bytes) -> bytes:
    """A sample with the org *org_id* in the place of its own."""
    return text.replace(old, org_id.encode()).replace(old[:15], org_id[:15].encode())
