"""Where what is stored of a Slack workspace is not what Slack holds."""

from collections.abc import Collection, Iterable

from slack_past import SlackPast
from slack_source_rig import SlackSourceRig
from slack_truth import Expected, SlackTruth

from api.reading import principals_in
from api.tokens import reader_principals
from shards.model import Shard
from shards.store import ShardQuery


class SlackComparison:
    """Of what is stored for *tenant*; *told* are the kinds and channels of the events that the app has taken."""

    def __init__(self, rig: SlackSourceRig, past: SlackPast, tenant: str, told: Collection[tuple[str, str]]) -> None:
        self._rig = rig
        self._slack = rig.workspace
        self._past = past
        self._tenant = tenant
        self._told = told
        self._truth = SlackTruth(rig.workspace, past, tenant)

    async def differences(self, *, swept: bool) -> list[str]:
        """Where what is stored is not what Slack holds, a line each; before a sweep, or once it is *swept*."""
        found: list[str] = []
        connection = await self._rig.connection(self._tenant)
        memory = await self._rig.memory(self._tenant)
        if connection.status != "active" or memory.last_sync_status != "success":
            found.append(f"the connection is {connection.status}, {memory.last_sync_status}: {memory.error_message}")
        shards = {
            (one.external_relationships[0].object_type, one.external_relationships[0].external_id): one
            for one in await self._stored()
        }
        reads = await self._readable(shards.values())
        expected = self._truth.records(swept=swept)
        for key in sorted(expected.keys() | shards.keys()):
            if not swept and key[0] == "message" and key[1].partition(":")[0] in self._past.was_out:
                continue
            found += self._compared(key, shards.get(key), expected.get(key), reads, swept=swept)
        return found

    async def leaks(self) -> list[str]:
        """Whatever happens: what has always been private is read by none but those who were in it."""
        found: list[str] = []
        shards = [one for one in await self._stored() if one.is_live]
        reads = await self._readable(shards)
        for shard in shards:
            external_id = shard.external_relationships[0].external_id
            may = self._past.may_have_read.get(external_id.partition(":")[0])
            if may is not None:
                leaked = reads[shard.acl.scope] - may - self._past.passed_on
                if leaked:
                    found.append(f"{external_id} is read by {sorted(leaked)}, who were never in it")
        return found

    async def _stored(self) -> list[Shard]:
        query = ShardQuery(self._tenant, system="slack", include_deleted=True)
        found: list[Shard] = []
        cursor: str | None = None
        while True:
            page = await self._rig.store.query(query, limit=500, cursor=cursor)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                return found

    async def _readable(self, shards: Iterable[Shard]) -> dict[str, set[str]]:
        """By scope, who reads it."""
        scopes = sorted({one.acl.scope for one in shards if one.is_live})
        reads: dict[str, set[str]] = {scope: set() for scope in scopes}
        store, tenant = self._rig.store, self._tenant
        for address in sorted(self._past.addresses):
            principals = await principals_in(store, tenant, address, reader_principals(address))
            for start in range(0, len(scopes), 50):
                for scope in await store.readable_scopes(tenant, scopes[start : start + 50], principals):
                    reads[scope].add(address)
        return reads

    def _compared(
        self,
        key: tuple[str, str],
        shard: Shard | None,
        expected: Expected | None,
        reads: dict[str, set[str]],
        *,
        swept: bool,
    ) -> list[str]:
        told = f"{key[0]} {key[1]}"
        if expected is None:
            return self._of_nothing(key, shard, reads)
        if shard is None or not shard.is_live:
            if expected.may_be_absent:
                return []
            return [f"{told} is {'not there' if shard is None else shard.status}"]
        found = []
        data = dict(shard.structured_data)
        if not expected.is_closed_to_bot:
            data["files"] = [one["name"] for one in data.get("files", [])] or None
            for name, value in expected.data.items():
                if data.get(name) != value and (swept or name not in expected.swept):
                    found.append(f"{told}: {name} is {data.get(name)!r}, not {value!r}")
            links = {
                (one.relationship_type, one.target_shard_id)
                for one in shard.internal_relationships
                if one.method == "structured-field"
            }
            if links != expected.links:
                found.append(f"{told}: links {sorted(links)}, not {sorted(expected.links)}")
        undecided = self._truth.undecided(swept=swept)
        mine = reads[shard.acl.scope] - undecided
        # Who comes into a public channel that the app is not in is not followed; who leaves is.
        if mine != expected.readers - undecided and not expected.least - undecided <= mine <= expected.readers:
            found.append(f"{told} is read by {sorted(mine)}, not {sorted(expected.readers)}")
        return found

    def _of_nothing(self, key: tuple[str, str], shard: Shard | None, reads: dict[str, set[str]]) -> list[str]:
        """What is stored of what is there no more."""
        if shard is None or not shard.is_live:
            return []
        channel_id, _, ts = key[1].partition(":")
        told = f"{key[0]} {key[1]}"
        known = self._slack.channels.get(channel_id)
        if known is not None and ts and self._slack.bot_user_id not in known.members:
            # Of a channel that the app is not in it can't be seen that a message is gone.
            readers = self._truth.readers(known)
            mine = reads[shard.acl.scope]
            return [f"{told} is read by {sorted(mine)}"] if mine - readers - self._truth.undecided() else []
        if known is None and (channel_id in self._past.ended or channel_id in self._past.moved):
            kinds = ("channel_deleted", "group_deleted", "channel_id_changed")
            if any((kind, channel_id) in self._told for kind in kinds):
                return [f"{told} is still {shard.status}, read by {sorted(reads[shard.acl.scope])}"]
            # Documented: until Slack says that it is deleted it is kept, and nobody reads it.
            return [f"{told} is read by {sorted(reads[shard.acl.scope])}"] if reads[shard.acl.scope] else []
        return [f"{told} is {shard.status}, and not there at Slack"]
