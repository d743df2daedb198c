"""Where what is stored of Salesforce orgs is not what they hold."""

from salesforce_living_org import LivingOrg
from salesforce_truth import OBJECTS, Expected, expected, told_apart
from source_rig import TENANT, Key

from ingestion.history_memory import load_memory
from shards.identity import shard_id
from shards.model import Shard

FOR_PEOPLE = frozenset({"object-unreadable", "unknown-object-type", "connection-not-active"})
"""Why a push may be parked here: its object was hidden, or its connection rested; docs/operate.md tells of both."""


class SalesforceComparison:
    """Of all orgs of *rig*, record by record."""

    def __init__(self, rig: LivingOrg) -> None:
        self._rig = rig

    async def differences(self) -> list[str]:
        """Where what is stored is not what the orgs hold, or anything is left to do, a line each."""
        found = [f"{name} holds {depth}" for name, depth in (await self._rig.held()).items()]
        parked = await self._rig.parked()
        found += [f"parked: {one.reason} {one.detail}" for one in parked if one.reason not in FOR_PEOPLE]
        for state in await self._rig.states():
            if error := state.structured_data.get("errorMessage"):
                found.append(f"{state.structured_data.get('name')}: {error}")
        for place in self._rig.places:
            self._rig.go_to(place)
            connection = await self._rig.connection()
            if connection.status != "active":
                found.append(f"{connection.connection_id} is {connection.status}: {connection.error_message}")
            history = (await load_memory(connection, self._rig.services.states)).metadata
            if history.asked_at is not None and history.finished_at is None:
                found.append(f"the first load of {connection.connection_id} has not ended: {history}")
            found += [f"{connection.connection_id}: {one}" for one in await self._records()]
        return found

    async def _wanted(self) -> dict[str, tuple[str, ...]]:
        """The fields of the objects that the org's connections read; none named: all."""
        wanted: dict[str, tuple[str, ...]] = {}
        here = self._rig.at
        for place in self._rig.places_of_org():
            self._rig.go_to(place)
            wanted |= {one.name: one.fields for one in (await self._rig.connection()).objects}
        self._rig.go_to(here)
        return wanted

    async def _records(self) -> list[str]:
        found: list[str] = []
        wanted = await self._wanted()
        truth: dict[tuple[str, str], Expected] = {}
        # What the connection does not read any more stays as it was when it did.
        for name, fields in wanted.items():
            records = self._rig.org.tables[name].records
            truth |= {(name, one): expected(self._rig.org, name, record, fields) for one, record in records.items()}
            truth |= {(name, one): Expected(False, "") for one in self._rig.made[name] if one not in records}
        incoming: dict[tuple[str, str], set[tuple[str, str]]] = {}
        for (name, record_id), one in truth.items():
            for relation, of, target in one.links:
                incoming.setdefault((of, self._merged(of, target)), set()).add(
                    (relation, self._shard_id(name, record_id))
                )
        for (name, record_id), one in truth.items():
            shard = await self._rig.store.get(TENANT, self._shard_id(name, record_id))
            told = self._compared(one, shard)
            if shard is not None:
                told += await self._text_compared(one, shard)
                if shard.redirect_to is None:
                    told += await self._incoming_compared(shard, incoming.get((name, record_id), set()), wanted)
            found += [f"{name} {record_id}: {one}" for one in told]
            if "User" not in wanted:
                for _, of, owner in one.links:
                    # Users who are not polled are only read once.
                    if of == "User" and (await self._rig.stored(Key(of, owner))) is None:
                        found.append(f"{name} {record_id}: its user {owner} is not stored")
        return found

    def _is_gone(self, name: str, record_id: str) -> bool:
        return record_id not in self._rig.org.tables[name].records

    def _merged(self, name: str, record_id: str) -> str:
        """The record that it is by now: links to one that was merged lead on."""
        record = self._rig.org.tables[name].records.get(record_id)
        while record is not None and record.get("IsDeleted") and record.get("MasterRecordId"):
            record_id = str(record["MasterRecordId"])
            record = self._rig.org.tables[name].records.get(record_id)
        return record_id

    def _shard_id(self, name: str, record_id: str) -> str:
        return shard_id(TENANT, "salesforce", self._rig.org.org_id, name, record_id)

    def _compared(self, wanted: Expected, shard: Shard | None) -> list[str]:
        if shard is None:
            return ["is not stored"] if wanted.live else []
        if shard.is_live != wanted.live:
            return [f"is stored as {shard.status}, version {shard.external_relationships[0].source_version}"]
        told = told_apart(shard.structured_data, wanted.data)
        if wanted.merged_into is not None or not wanted.live:
            return told + self._tombstone_compared(wanted, shard)
        links = {
            (one.relationship_type, one.target_shard_id)
            for one in shard.internal_relationships
            if one.method == "structured-field" and one.status == "active"
        }
        aims = {(relation, self._shard_id(of, target)) for relation, of, target in wanted.links}
        told += [f"a link too many: {one}" for one in links - aims] + [f"no link: {one}" for one in aims - links]
        [source] = shard.external_relationships
        if source.source_version != wanted.version:
            told.append(f"version {source.source_version} is {wanted.version}")
        if shard.last_activity_at != wanted.last_activity:
            told.append(f"last activity {shard.last_activity_at} is {wanted.last_activity}")
        if shard.acl.principals != ("tenant",) or shard.redirect_to is not None:
            told.append(f"acl {shard.acl}, redirect {shard.redirect_to}")
        if not str(source.external_url).endswith(f".salesforce.com/{source.external_id}"):
            told.append(f"its address is {source.external_url}")
        return told

    def _tombstone_compared(self, wanted: Expected, shard: Shard) -> list[str]:
        if not wanted.version:
            return []  # gone for good: whether it was merged before is told by nobody
        to = wanted.merged_into
        redirect = None if to is None else self._shard_id(shard.external_relationships[0].object_type, to)
        return [] if shard.redirect_to == redirect else [f"leads to {shard.redirect_to}, was merged into {to}"]

    async def _text_compared(self, wanted: Expected, shard: Shard) -> list[str]:
        chunks = await self._rig.store.chunks(TENANT, shard.id)
        if not wanted.live:
            return ["has text still"] if chunks else []
        name = " ".join(str(wanted.data["name"]).split())
        if not chunks or any(chunk.vector is None for chunk in chunks):
            return ["has no text, or no vector of it"]
        return [] if name in " ".join(chunks[0].text.split()) else [f"its text is {chunks[0].text!r}"]

    async def _incoming_compared(
        self, shard: Shard, wanted: set[tuple[str, str]], polled: dict[str, tuple[str, ...]]
    ) -> list[str]:
        page = await self._rig.store.incoming(TENANT, shard.id, limit=1000)
        types = {f"c_{name.lower()}" for name in polled if not name.endswith("__c")}
        # Into what a record was merged that is gone for good is told by nobody who has not seen it in the bin.
        gone = {self._shard_id(of, one) for of in OBJECTS for one in self._rig.made[of] if self._is_gone(of, one)}
        held = {
            (one.link.relationship_type, one.source_shard_id)
            for one in page.items
            if one.link.method == "structured-field" and one.source_shard_type_id in types
            if one.link.target_shard_id == shard.id or one.link.target_shard_id not in gone
        }
        missing = wanted - {(one.link.relationship_type, one.source_shard_id) for one in page.items}
        return [f"not linked from {one}" for one in missing] + [f"linked from {one}" for one in held - wanted]
