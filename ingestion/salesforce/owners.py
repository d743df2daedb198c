"""Owners of records: the users among them that nobody has read yet, where users are not polled."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from connections.salesforce_connection import SalesforceConnection
from ingestion.salesforce.events import SYSTEM
from messaging import tracing
from messaging.bus import MessageBus
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import Clock, to_text
from shards.identity import shard_id
from shards.store import ShardStore

USER = "User"
_USER_PREFIX = "005"
IDS_A_WORK = 200


KNOWN_FOR = timedelta(hours=1)
"""How long what is known of an org's owners is believed: a purge may have taken them away since."""


class KnownOwners:
    """The owners that this process knows to be stored or asked for, by tenant and org."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[datetime, set[str]]] = {}

    async def ask_for_unknown(
        self,
        connection: SalesforceConnection,
        instance: str,
        records: Iterable[Mapping[str, Any]],
        *,
        store: ShardStore,
        bus: MessageBus,
        clock: Clock,
    ) -> None:
        """Ask that the owners of *records* be read who are not stored; nothing where the connection polls users.

        Raises:
            BusUnavailableError, StoreUnavailableError: the next page asks again.
        """
        if any(polled.name == USER for polled in connection.objects):
            return
        known = self._of_org(connection.tenant_id, instance, clock())
        owners = {str(record.get("OwnerId")) for record in records} - known
        ids = sorted(owner for owner in owners if owner.startswith(_USER_PREFIX))
        if not ids:
            return
        shards = {shard_id(connection.tenant_id, SYSTEM, instance, USER, owner): owner for owner in ids}
        stored = await store.get_many(connection.tenant_id, list(shards))
        unknown = [
            owner for identity, owner in shards.items() if identity not in stored or not stored[identity].is_live
        ]
        now = to_text(clock())
        works = []
        for start in range(0, len(unknown), IDS_A_WORK):
            part = unknown[start : start + IDS_A_WORK]
            digest = blake2b("".join(part).encode(), digest_size=16).hexdigest()
            work = SourceWork(
                tenant_id=connection.tenant_id,
                connection_id=connection.connection_id,
                work="read",
                due_at=now,
                ids={USER: part},
                event_id=f"owners:{digest}:{now[:13]}",
                traceparent=tracing.new_trace(SOURCE_WORK, connection.tenant_id),
            )
            works.append(work.to_message(SOURCE_WORK))
        if works:
            await bus.send(SOURCE_WORK, works)
        known.update(ids)

    def _of_org(self, tenant_id: str, instance: str, now: datetime) -> set[str]:
        since, known = self._known.get((tenant_id, instance), (now, set[str]()))
        if since + KNOWN_FOR <= now:
            since, known = now, set()
        self._known[tenant_id, instance] = since, known
        return known
