"""The workspace as the connection knows it: people and channels, from what is stored, else from Slack."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from connections.slack_connection import SlackConnection
from ingestion.errors import TransientError
from ingestion.slack.client import SlackClient
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import SYSTEM, SlackEvents, moment_of
from ingestion.slack.facts import (
    ChannelFacts,
    JsonObject,
    Person,
    home_of,
    is_conversation,
    is_of_others,
    is_private,
    is_wanted,
    person_of,
    stored_channel,
    stored_person,
)
from ingestion.slack.resharing import ResharingPorts, reshare_messages
from ingestion.source import SourcePorts
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_text, to_text
from processors.mapping.slack import CHANNEL, USER
from processors.mapping.slack_text import named_ids, written_text
from shards.model import TENANT_PRINCIPAL, Acl, Shard
from shards.store import ShardQuery

PERSON_KEPT: Final = timedelta(minutes=10)
CHANNEL_KEPT: Final = timedelta(seconds=30)
"""A channel that turns private must be known soon: its messages would be written for all until then."""
SHARED_AGAIN_AFTER: Final = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
"""When a channel's messages are looked at again that it was shared anew with: what was read before then is stored by
then. While the chain has a longer queue, by the last of them again and again."""
MOVED_SEEN_BY: Final = timedelta(hours=1)
"""When a channel that goes by another id has been read under that, if the app may see it."""
HOMES_KEPT: Final = timedelta(minutes=5)
MEMBERS_A_PAGE: Final = 1000
_MOST_KEPT: Final = 20_000

UNSEEN: Final = frozenset(
    {"channel_not_found", "not_in_channel", "method_not_supported_for_channel_type", "missing_scope"}
)
"""Slack's words for a channel that is not there, or not for this app to see."""
_UNKNOWN_USER: Final = frozenset({"user_not_found", "user_not_visible", "users_not_found"})


@dataclass(slots=True)
class KnownWorkspace:
    """What this process remembers of one connection's workspace, each with when it ends."""

    people: dict[str, tuple[datetime, Person]] = field(default_factory=dict)
    channels: dict[str, tuple[datetime, ChannelFacts]] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    """The workspaces that host channels."""
    siblings: tuple[datetime, Mapping[str, SlackConnection]] | None = None


class Workspace:
    """One piece of work's view of the workspace.

    ``met`` collects events of users and channels that were not stored yet, or have changed: to be sent before what
    names them, so that nothing is read by somebody who may not. ``left_to`` are channels that were asked for and are
    read by other connections of the tenant, by the connections' ids.
    """

    def __init__(
        self, connection: SlackConnection, client: SlackClient, ports: SourcePorts, known: KnownWorkspace
    ) -> None:
        self.connection = connection
        self.client = client
        self.ports = ports
        self.events = SlackEvents(connection)
        self.met: list[IngestionEvent] = []
        self.left_to: dict[str, str] = {}
        self._known = known

    async def people(self, ids: Iterable[str]) -> dict[str, Person]:
        """Those people by id; one whom Slack does not show has no name.

        Raises:
            TransientError, CredentialError: Slack can't be asked.
        """
        wanted = dict.fromkeys(one for one in ids if one)
        found = await self.known_people(wanted)
        for user_id in wanted:
            if user_id not in found:
                found[user_id] = await self._asked_person(user_id)
                self._keep_person(found[user_id])
        return found

    async def known_people(self, ids: Iterable[str]) -> dict[str, Person]:
        """Those of the people that are known, without asking Slack."""
        now = self.ports.clock()
        wanted = dict.fromkeys(ids)
        found = {one: kept[1] for one in wanted if (kept := self._known.people.get(one)) and kept[0] > now}
        shards = {self.events.shard_id(USER, one): one for one in wanted if one not in found}
        stored = await self.ports.store.get_many(self.connection.tenant_id, list(shards)) if shards else {}
        for shard_id, shard in stored.items():
            if shard.is_live:
                person = found[shards[shard_id]] = stored_person(shards[shard_id], shard)
                self._keep_person(person)
        return found

    async def _asked_person(self, user_id: str) -> Person:
        asked_at = to_text(self.ports.clock())
        try:
            answer = await self.client.call("users.info", user=user_id)
        except RefusedError as error:
            if error.code in _UNKNOWN_USER:
                return Person(user_id, None, None)
            raise
        return await self.meet(answer["user"], asked_at)

    async def meet(self, raw: Mapping[str, Any], read_at: str, event_id: str | None = None) -> Person:
        """Take a whole user object for what it says."""
        person = person_of(raw)
        is_guest = person.is_guest or is_of_others(raw, self.connection, await self._siblings())
        if not is_guest and raw.get("deleted") and "is_restricted" not in raw:
            # Of one who was deactivated Slack says no more whether they were a guest.
            before = (await self.known_people([person.id])).get(person.id)
            is_guest = before is not None and before.is_guest
        person = replace(person, is_guest=is_guest)
        self._keep_person(person)
        self.met.append(self.events.user(raw, read_at, event_id, is_guest=is_guest))
        return person

    def _keep_person(self, person: Person) -> None:
        if len(self._known.people) >= _MOST_KEPT:
            self._known.people.clear()
        self._known.people[person.id] = (self.ports.clock() + PERSON_KEPT, person)

    async def channel(self, channel_id: str) -> ChannelFacts | None:
        """The channel; None when it is not this connection's to read.

        One that Slack does not show is closed: its messages are kept, and nobody reads them before more is known. One
        whose deletion was told has none.

        Raises:
            TransientError, CredentialError: Slack can't be asked.
        """
        if not is_wanted(self.connection, channel_id):
            return None
        kept = self._known.channels.get(channel_id)
        if kept is not None and kept[0] > self.ports.clock():
            return kept[1]
        tenant_id, home = self.connection.tenant_id, self.home(channel_id)
        shard = await self.ports.store.get(tenant_id, self.events.shard_id(CHANNEL, channel_id, home))
        if shard is None and (home := await self.stored_home(channel_id)) != self.connection.instance:
            shard = await self.ports.store.get(tenant_id, self.events.shard_id(CHANNEL, channel_id, home))
        if shard is not None and (shard.is_live or shard.redirect_to is not None):
            return await self._of_stored(channel_id, home, shard)
        try:
            return await self.read_channel(channel_id)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            if shard is not None:
                return None
            return ChannelFacts(channel_id, channel_id, home, is_private=True, readers=None)

    async def _of_stored(self, channel_id: str, home: str, shard: Shard) -> ChannelFacts | None:
        """The channel in its shard, or in that which late events still call by the id that it had before; None when
        that is another connection's, or can't be seen."""
        if shard.redirect_to is not None:
            moved = await self.ports.store.resolve(self.connection.tenant_id, shard.id)
            if moved is None or not moved.is_live:
                if shard.deleted_at is not None and from_text(shard.deleted_at) + MOVED_SEEN_BY < self.ports.clock():
                    # Not for this app to see; where that changes it is read from its beginning.
                    return None
                raise TransientError(f"the channel that {channel_id} has become is not stored yet")
            return await self.channel(moved.external_relationships[0].external_id)
        if await self.is_others(channel_id, home, shard):
            return None
        facts = stored_channel(channel_id, home, shard)
        self._keep_channel(facts)
        return facts

    def home(self, channel_id: str) -> str:
        """The workspace that hosts a channel, as far as this process knows."""
        return self._known.homes.get(channel_id, self.connection.instance)

    async def stored_home(self, channel_id: str) -> str:
        """The workspace that hosts a channel, as it is stored: Slack may not show the channel any more."""
        if channel_id not in self._known.homes:
            query = ShardQuery(self.connection.tenant_id, system=SYSTEM, object_type=CHANNEL, external_id=channel_id)
            page = await self.ports.store.query(query, limit=10)
            homes = [one.instance for shard in page.items for one in shard.external_relationships]
            if not homes or self.connection.instance in homes:
                return self.connection.instance
            self._known.homes[channel_id] = homes[0]
        return self._known.homes[channel_id]

    async def read_channel(
        self,
        channel_id: str,
        *,
        raw: JsonObject | None = None,
        event_id: str | None = None,
        with_guests: bool = False,
    ) -> ChannelFacts | None:
        """The channel as Slack has it now, met anew; None when it is not this connection's to read.

        *raw* is its object, where a listing has just given it. *with_guests*: of a public one, too, it is asked who is
        in it, as guests read only what they are in; otherwise those whom the last reading has found are.

        Raises:
            RefusedError: Slack does not show it.
            TransientError, CredentialError: Slack can't be asked.
        """
        asked_at = self.ports.clock()
        if raw is None:
            answer = await self.client.call("conversations.info", channel=channel_id, include_num_members=True)
            raw = dict(answer["channel"])
        if is_conversation(raw) or not is_wanted(self.connection, channel_id):
            return None
        home = self._known.homes[channel_id] = home_of(raw, self.connection)
        if await self._is_left_to_others(channel_id, home, raw):
            return None
        members: list[str] | None = None
        readers: Sequence[str] | None
        stored = await self.ports.store.get(self.connection.tenant_id, self.events.shard_id(CHANNEL, channel_id, home))
        if stored is not None and not stored.is_live:
            stored = None
        if is_private(raw):
            members = await self.members(channel_id)
            readers = _addresses((await self.people(members)).values())
        else:
            before = None if stored is None else stored_channel(channel_id, home, stored)
            kept = self._known.channels.get(channel_id)
            if (before is None or (not before.is_private and before.readers is None)) and kept is not None:
                # A reading that found guests may not be stored yet.
                before = kept[1]
            readers = None if before is None or before.is_private else before.readers
            if with_guests:
                # Of somebody who is not known yet it is not known either that they are a guest.
                found = await self.known_people(await self.members(channel_id))
                guests = _addresses(one for one in found.values() if one.is_guest)
                readers = guests if guests or readers is not None else None
        name = str(raw.get("name") or channel_id)
        facts = ChannelFacts(channel_id, name, home, is_private(raw), readers)
        await self._follow_privacy(facts, stored)
        self.met.append(self.events.channel(raw, facts, members, asked_at, event_id))
        self._keep_channel(facts)
        return facts

    async def _is_left_to_others(self, channel_id: str, home: str, raw: Mapping[str, Any]) -> bool:
        """Whether another of the tenant's connections reads a channel that is shared: that to its *home*, else the
        first of those to workspaces that share it. Two would each tell of it as they see it."""
        teams = raw.get("shared_team_ids")
        candidates = [home]
        if raw.get("conversation_host_id") != self.connection.instance and isinstance(teams, list):
            candidates += sorted(one for one in teams if isinstance(one, str) and one < self.connection.instance)
        siblings = await self._siblings()
        for one in candidates:
            if one in siblings and is_wanted(siblings[one], channel_id):
                self.left_to[channel_id] = siblings[one].connection_id
                return True
        return False

    async def is_others(self, channel_id: str, home: str, channel: Shard) -> bool:
        """Whether a stored channel of *home* is another connection's to read: what ends here goes on there."""
        if home == self.connection.instance:
            return False
        return await self._is_left_to_others(channel_id, home, channel.structured_data.get("customFields", {}))

    async def ends_here_alone(self, channel_id: str) -> bool:
        """Whether the end of a channel, as this workspace tells of it, is none of what another connection reads."""
        home = await self.stored_home(channel_id)
        shard = await self.ports.store.get(self.connection.tenant_id, self.events.shard_id(CHANNEL, channel_id, home))
        return shard is not None and shard.is_live and await self.is_others(channel_id, home, shard)

    async def members(self, channel_id: str) -> list[str]:
        """The ids of a channel's members.

        Raises:
            RefusedError, TransientError, CredentialError: as for the calls.
        """
        found: dict[str, None] = {}
        async for page in self.client.pages("conversations.members", channel=channel_id, limit=MEMBERS_A_PAGE):
            found.update(dict.fromkeys(one for one in page.get("members", []) if isinstance(one, str)))
        return list(found)

    async def _follow_privacy(self, facts: ChannelFacts, stored: Shard | None) -> None:
        """Share the messages of a channel that has turned private or public, or that a first guest has come to, as they
        are to be from now on.

        Before the channel itself: until that says who its members are, nobody reads any of it.
        """
        if stored is None or (stored.acl.scope == facts.scope) == facts.is_scoped:
            return
        await self._share_messages(stored.id, facts)
        await self.share_again(facts.id, is_scoped=facts.is_scoped)

    async def share_messages(self, channel: Shard, *, only_scoped: bool | None = None) -> None:
        """Share the messages of a stored channel as it is shared, or not if that is not by its scope, or by it, as
        *only_scoped* says.

        Raises:
            StateMovedError, BusUnavailableError, StoreUnavailableError: do it again.
        """
        source = channel.external_relationships[0]
        facts = stored_channel(source.external_id, source.instance, channel)
        if only_scoped in (None, facts.is_scoped):
            await self._share_messages(channel.id, facts)

    async def share_again(self, channel_id: str, *, is_scoped: bool) -> None:
        """Have the messages of a channel that was just shared anew looked at later: some are on their way.

        Raises:
            BusUnavailableError: do it again.
        """
        now = to_text(self.ports.clock())
        for delay in SHARED_AGAIN_AFTER:
            await self.look_at_sharing(sharing_request(channel_id, is_scoped=is_scoped), now, delay)

    async def look_at_sharing(self, request: str, shared_at: str, delay: timedelta) -> None:
        """Have it looked after *delay* at what :func:`sharing_request` names, of a channel that was shared anew then.

        Raises:
            BusUnavailableError: do it again.
        """
        due = self.ports.clock() + delay
        work = SourceWork(
            tenant_id=self.connection.tenant_id,
            connection_id=self.connection.connection_id,
            work="read",
            due_at=shared_at,
            ids={"sharing": [request]},
            event_id=f"{shared_at}|{to_text(due)}|{request}",
        )
        await self.ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=delay)

    async def _share_messages(self, shard_id: str, facts: ChannelFacts) -> None:
        acl = Acl(facts.scope, (), inherited=True) if facts.is_scoped else Acl.of(TENANT_PRINCIPAL)
        ports = ResharingPorts(self.ports.store, self.ports.bus, self.ports.clock)
        await reshare_messages(self.connection.tenant_id, shard_id, acl, ports)

    def _keep_channel(self, facts: ChannelFacts) -> None:
        if len(self._known.channels) >= _MOST_KEPT:
            self._known.channels.clear()
        self._known.channels[facts.id] = (self.ports.clock() + CHANNEL_KEPT, facts)

    def forget_channel(self, channel_id: str) -> None:
        """Ask anew what the channel is."""
        if (kept := self._known.channels.get(channel_id)) is not None:
            self._known.channels[channel_id] = (self.ports.clock(), kept[1])

    async def _siblings(self) -> Mapping[str, SlackConnection]:
        """The tenant's other connections, by workspace."""
        now = self.ports.clock()
        if self._known.siblings is None or self._known.siblings[0] <= now:
            others = await self.ports.registry.of_tenant(self.connection.tenant_id, system=SYSTEM)
            siblings = {
                one.instance: one
                for one in others
                if isinstance(one, SlackConnection) and one.status == "active" and one.instance
            }
            siblings.pop(self.connection.instance, None)
            self._known.siblings = (now + HOMES_KEPT, siblings)
        return self._known.siblings[1]

    async def messages(
        self,
        channel: ChannelFacts,
        messages: Iterable[Mapping[str, Any]],
        read_at: str,
        event_id: str | None = None,
    ) -> list[IngestionEvent]:
        """Events of whole messages of *channel*, with the people that they name; the app's own are left out.

        Raises:
            TransientError, CredentialError: Slack can't be asked.
        """
        wanted = [one for one in messages if self._is_of_others(one)]
        named = [one for message in wanted for one in named_ids(written_text(message))]
        authors = [str(message["user"]) for message in wanted if isinstance(message.get("user"), str)]
        people = await self.people([*authors, *(one for one in named if one[:1] in "UW")])
        names = await self._channel_names([one for one in named if one[:1] in "CG"])
        return [self.events.message(channel, one, people, names, read_at=read_at, event_id=event_id) for one in wanted]

    def _is_of_others(self, message: Mapping[str, Any]) -> bool:
        mine = self.connection
        if mine.bot_id is not None and message.get("bot_id") == mine.bot_id:
            return False
        return mine.bot_user is None or message.get("user") != mine.bot_user

    async def _channel_names(self, ids: list[str]) -> dict[str, str]:
        """The names of channels that are known; what is private is not told by another channel's message."""
        now = self.ports.clock()
        kept = [known[1] for one in ids if (known := self._known.channels.get(one)) and known[0] > now]
        names = {one.id: one.name for one in kept if not one.is_private}
        of_kept = {one.id for one in kept}
        ids = [one for one in ids if one not in of_kept]
        shards = {self.events.shard_id(CHANNEL, one, self.home(one)): one for one in ids}
        stored = await self.ports.store.get_many(self.connection.tenant_id, list(shards)) if shards else {}
        return names | {
            shards[shard_id]: shard.name
            for shard_id, shard in stored.items()
            if shard.is_live and not stored_channel(shard.id, self.connection.instance, shard).is_private
        }


def _addresses(people: Iterable[Person]) -> list[str]:
    """The principals of *people* who have an address."""
    return sorted({f"user:{one.email}" for one in people if one.email and not one.is_bot})


def sharing_request(channel_id: str, *, is_scoped: bool) -> str:
    """The id under ``sharing`` that asks for the messages of a channel to be shared as it is, if that is still so."""
    return f"{channel_id} {'scoped' if is_scoped else 'open'}"


def pushed_at(event: Mapping[str, Any], fallback: str) -> str:
    """When a pushed event happened."""
    ts = event.get("event_ts") or event.get("ts")
    try:
        return moment_of(ts) if isinstance(ts, str) else fallback
    except (ValueError, OverflowError):
        return fallback
