"""A poll: the workspace compared with what is stored, for what its events have missed.

Every channel is listed; of each that can be read, what was written since the last time. Now and then, and after Slack
has dropped events, the whole of the last ``thread_days`` is gone through, since a late reply, or an edit of something
old, shows nowhere else. Nothing is deleted here but replies that their thread, read again, lacks, and that Slack, asked
for each by itself, does not have either.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from connections.state import Saved
from ingestion.errors import SourceError, TransientError
from ingestion.slack.channel_ends import channel_deleted, close, late_messages_end
from ingestion.slack.client import next_cursor
from ingestion.slack.comparing import not_stored
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import SYSTEM, moment_of, send_events, ts_of, ts_order
from ingestion.slack.facts import ChannelFacts, JsonObject, home_of, is_private, is_wanted
from ingestion.slack.failing_channels import TRIES, failure_of, is_of_channel, set_aside
from ingestion.slack.listing import channel_pages, join, may_join, team_of
from ingestion.slack.reads import (
    ask_to_read,
    has_replies,
    history_page,
    history_request,
    read_message,
    replies_of,
    thread_page,
)
from ingestion.slack.workspace import UNSEEN, Workspace
from ingestion.source import RunReport
from messaging.contracts import IngestionEvent, SourceWork
from messaging.times import from_text, to_text
from processors.mapping.slack import CHANNEL, MESSAGE
from shards.model import ExternalRelationship, Shard
from shards.store import ShardQuery

log = logging.getLogger(__name__)

OVERLAP: Final = timedelta(minutes=10)
"""How far before the newest message seen a listing begins: messages show up a little out of order."""
DEEP_EVERY: Final = timedelta(hours=6)
"""How often the whole of the last ``thread_days`` is gone through."""
SHARE_OF_DEEP: Final = 4
"""One that takes long comes so many times its length after the last."""
REREAD_THREADS_OF: Final = timedelta(days=7)
"""Threads with a reply of these days are read again by a sweep and after dropped events: that a reply was edited, or
deleted, shows nowhere else."""
LATE_FOR: Final = timedelta(days=7)
"""How long messages of an ended channel may have been on their way."""
ASKED_AT_MOST: Final = 50
"""Replies of one thread that are asked for by themselves; where more are missing, people should look first."""
STEPS_A_SAVE: Final = 20
"""Calls after which it is written down where a walk stands: who is ended makes so many again."""


class Place(msgspec.Struct, rename="camel", omit_defaults=True):
    """Where a walk stands in a channel, so that it goes on where its calls or its time ran out.

    The listing goes back to *oldest*, and was *listed* to its end or stands at *cursor*; where one has died it begins
    anew before *latest*. *newest* and *lowest* are the times of messages that were seen. *threads* are the roots whose
    replies come next, *thread_cursor* where in the first of them, which was read up to *thread_after*. *missing* are
    stored replies that were not in their thread, with their versions: each is asked for by itself. *fresh*: the channel
    was not read before, and what is older is to be asked for once it is seen that it can be.
    """

    oldest: str
    newest: str | None = None
    lowest: str | None = None
    latest: str | None = None
    cursor: str | None = None
    listed: bool = False
    threads: list[str] = msgspec.field(default_factory=list)
    thread_cursor: str | None = None
    thread_after: str | None = None
    missing: dict[str, str] = msgspec.field(default_factory=dict)
    fresh: bool = False


class Walk(msgspec.Struct, rename="camel", omit_defaults=True):
    """A walk under way: channels that are *left*, and the *place* in the first of them; those of them to *join*;
    *deep*: the whole of the last days; *first*: else since the connection was made, as a first load has the rest;
    *began* when the channels were listed, for the poll of *of*. *tries* are those in which a channel has failed, and
    *places* where such ones stand; *errors* are to be told, by channel."""

    left: list[str] = msgspec.field(default_factory=list)
    deep: bool = False
    first: bool = False
    of: str = ""
    began: str = ""
    join: list[str] = msgspec.field(default_factory=list)
    place: Place | None = None
    tries: dict[str, int] = msgspec.field(default_factory=dict)
    places: dict[str, Place] = msgspec.field(default_factory=dict)
    errors: dict[str, str] = msgspec.field(default_factory=dict)


class ReconcileState(msgspec.Struct, rename="camel", omit_defaults=True):
    """What is remembered between polls: by channel, the newest message seen; when the last deep walk began, and when
    the last one that came to its end did, and ended.

    *aside* are channels that were set aside, as they fail: where true, a deep walk has left one out. *integration_id*
    is the connection's.
    """

    integration_id: str
    newest: dict[str, str] = msgspec.field(default_factory=dict)
    deep_at: str | None = None
    done_from: str | None = None
    done_at: str | None = None
    walk: Walk | None = None
    aside: dict[str, bool] = msgspec.field(default_factory=dict)


class _Listed(NamedTuple):
    """What a listing says of a channel."""

    home: str
    is_private: bool
    is_member: bool


async def reconcile(workspace: Workspace, work: SourceWork, deadline: datetime, *, deep: bool = False) -> RunReport:
    """Compare the workspace with what is stored, until all is or *deadline* is past; *deep*: a walk by itself that goes
    through all of the last ``thread_days``.

    Raises:
        TransientError, BudgetExhaustedError, CredentialError, StateMovedError: as they say; what was done stays done.
        BusUnavailableError, StoreUnavailableError: ask again.
    """
    run = _Reconcile(workspace, work, deep=deep)
    return await run.until(deadline)


class _Reconcile:
    def __init__(self, workspace: Workspace, work: SourceWork, *, deep: bool) -> None:
        self._workspace = workspace
        self._connection = workspace.connection
        self._client = workspace.client
        self._ports = workspace.ports
        self._work = work
        self._report = RunReport(instance=self._connection.instance)
        self._key = f"{self._connection.connection_id}/{'slack-deep' if deep else 'slack'}"
        self._is_sweep = deep
        self._again = "in the next sweep" if deep else "with each poll"
        self._forced = deep or bool(work.ids.get("since"))

    async def until(self, deadline: datetime) -> RunReport:
        report, calls = self._report, self._client.calls
        saved = await self._ports.states.load(self._connection.tenant_id, self._key, self._nothing())
        state = saved.value
        report.finished = state.walk is None and self._is_covered(state.done_from)
        while not report.finished and (state.walk is None or self._ports.clock() < deadline):
            if state.walk is None:
                state.walk = await self._begin(state, deep=self._forced or self._is_deep_due(state))
                saved = await self._save(saved, state)
            walk = state.walk
            saved = await self._go_on(saved, state, walk, deadline)
            if walk.left:
                break
            # Another's walk is not broken off: of two that did so to each other, neither would come to its end.
            is_own = walk.of == self._work.due_at
            report.finished = not self._forced or (walk.deep and (is_own or self._is_covered(walk.began)))
            state.walk = None
            report.errors |= walk.errors
            if walk.deep:
                state.done_from, state.done_at = walk.began, to_text(self._ports.clock())
            saved = await self._save(saved, state)
        report.calls = self._client.calls - calls
        return report

    async def _go_on(
        self, saved: Saved[ReconcileState], state: ReconcileState, walk: Walk, deadline: datetime
    ) -> Saved[ReconcileState]:
        """Go on with the walk, a call at a time, until its end or *deadline*."""
        steps, failed = 0, False
        try:
            while walk.left and self._ports.clock() < deadline:
                channel_id = walk.left[0]
                try:
                    done = await self._is_done(channel_id, state, walk)
                except RefusedError as error:
                    if error.code not in UNSEEN:
                        walk.errors[channel_id] = failure_of(channel_id, error)
                    done = True
                except TransientError as error:
                    if not is_of_channel(error):
                        raise
                    self._fails(channel_id, error, state, walk)
                    if walk.left and (failed or walk.left == [channel_id]):
                        raise TransientError(failure_of(channel_id, error)) from error
                    failed = True
                    continue
                failed = False
                if done:
                    walk.left.pop(0)
                    walk.place = None
                steps += 1
                if steps % STEPS_A_SAVE == 0:
                    saved = await self._save(saved, state)
        except SourceError:
            await self._save(saved, state)
            raise
        return await self._save(saved, state) if walk.left else saved

    async def _is_done(self, channel_id: str, state: ReconcileState, walk: Walk) -> bool:
        """Go on with the channel by a step; whether all of it is compared."""
        if walk.place is None:
            walk.place = walk.places.pop(channel_id, None)
        deep = walk.deep or state.aside.get(channel_id, False)
        done = await self._step(channel_id, state.newest.get(channel_id), walk, deep=deep)
        if done:
            state.aside.pop(channel_id, None)
            if walk.place is not None:
                state.newest[channel_id] = walk.place.newest or ts_of(self._ports.clock())
        return done

    def _fails(self, channel_id: str, error: TransientError, state: ReconcileState, walk: Walk) -> None:
        """Have the channel's turn come after the others'; when it has had enough of them, set it aside.

        What it was compared up to stays as it was: the next walk goes on from there.
        """
        walk.left.pop(0)
        place, walk.place = walk.place, None
        tries = walk.tries[channel_id] = walk.tries.get(channel_id, 0) + 1
        if tries >= TRIES or channel_id in state.aside:
            state.aside[channel_id] = walk.deep or state.aside.get(channel_id, False)
            walk.errors[channel_id] = set_aside(channel_id, error, self._again)
            log.warning("connection %s: %s", self._connection.connection_id, walk.errors[channel_id])
            return
        if place is not None:
            walk.places[channel_id] = place
        walk.left.append(channel_id)

    def _is_covered(self, began: str | None) -> bool:
        """Whether a deep walk that began then has seen all that this work is about."""
        return self._forced and began is not None and from_text(began) >= from_text(self._work.due_at)

    def _nothing(self) -> ReconcileState:
        return ReconcileState(self._connection.connection_id)

    def _is_deep_due(self, state: ReconcileState) -> bool:
        if state.deep_at is None:
            return False
        pause = DEEP_EVERY
        if state.done_from is not None and state.done_at is not None:
            # By a call a minute it takes hours, in which nothing else would be compared or loaded.
            pause = max(pause, SHARE_OF_DEEP * (from_text(state.done_at) - from_text(state.done_from)))
        return from_text(state.deep_at) + pause <= self._ports.clock()

    async def _save(self, saved: Saved[ReconcileState], state: ReconcileState) -> Saved[ReconcileState]:
        return await self._ports.states.save(self._connection.tenant_id, self._key, saved, state)

    async def _begin(self, state: ReconcileState, *, deep: bool) -> Walk:
        """List the channels; a walk through those that can be read."""
        first = state.deep_at is None
        if deep or first:
            state.deep_at = to_text(self._ports.clock())
        began = to_text(self._ports.clock())
        listed: dict[str, _Listed] = {}
        readable: dict[str, None] = {}
        join: list[str] = []
        async for page in channel_pages(self._client, team_id=team_of(self._connection)):
            self._report.rows += len(page)
            for raw in page:
                home = home_of(raw, self._connection)
                listed[raw["id"]] = _Listed(home, is_private(raw), bool(raw.get("is_member")))
                if not await self._is_met(raw, deep=deep):
                    continue
                if raw.get("is_member"):
                    readable[raw["id"]] = None
                elif may_join(self._connection, raw):
                    readable[raw["id"]] = None
                    join.append(raw["id"])
        await self._send([])
        errors: dict[str, str] = {}
        await self._look_for_unlisted(listed, errors)
        state.newest = {one: ts for one, ts in state.newest.items() if one in readable}
        state.aside = {one: owed for one, owed in state.aside.items() if one in readable}
        left = sorted(readable, key=lambda one: one in state.aside)
        return Walk(left, deep, first, self._work.due_at, began, join, errors=errors)

    async def _is_met(self, raw: JsonObject, *, deep: bool) -> bool:
        """Take a listed channel for what it says; whether it is this connection's to read.

        A private one needs its members too, which the walk asks for.
        """
        if not is_wanted(self._connection, raw["id"]):
            return False
        if is_private(raw):
            return True
        channel = await self._workspace.read_channel(raw["id"], raw=raw)
        if deep and channel is not None and channel.readers and not raw.get("is_member"):
            # The walk does not come there, and no event tells who leaves; what was read of it stays.
            await self._workspace.read_channel(raw["id"], raw=raw, with_guests=True)
        return channel is not None

    async def _look_for_unlisted(self, listed: Mapping[str, _Listed], errors: dict[str, str]) -> None:
        """Close channels that are stored and can't be seen any more; *errors* are told of what can't be asked for.

        That proves no deletion: a private channel that the bot was removed from looks the same. What has come of one
        whose end was told goes after it, and of a closed one is closed. One that is *listed* under another home than it
        is stored under is none any more.
        """
        query = ShardQuery(
            self._connection.tenant_id,
            shard_type_ids=("c_channel",),
            system=SYSTEM,
            object_type=CHANNEL,
            connection_id=self._connection.connection_id,
            include_deleted=True,
        )
        cursor: str | None = None
        failed = False
        while True:
            page = await self._ports.store.query(query, limit=200, cursor=cursor)
            for shard in page.items:
                source = shard.external_relationships[0]
                if source.external_id in listed and shard.is_live:
                    await self._compare_listed(shard, listed[source.external_id])
                    continue
                if not shard.is_live or not shard.acl.principals:
                    await self._end_late(shard)
                    continue
                if await self._workspace.is_others(source.external_id, source.instance, shard):
                    continue
                try:
                    await self._workspace.read_channel(source.external_id)
                    failed = False
                except RefusedError as error:
                    if error.code not in UNSEEN:
                        raise
                    log.info("channel %s can't be seen any more: it is closed", source.external_id)
                    await close(self._workspace, source.external_id)
                    failed = False
                except TransientError as error:
                    if failed or not is_of_channel(error):
                        raise
                    # Nobody can say who may read it: the others are not to wait until somebody can.
                    errors[source.external_id] = set_aside(source.external_id, error, self._again)
                    await close(self._workspace, source.external_id)
                    failed = True
            cursor = page.cursor
            if cursor is None:
                break
        await self._send([])

    async def _compare_listed(self, channel: Shard, listed: _Listed) -> None:
        """Look at what no reading of the channel itself tells: whether it has another home now, and, where the walk
        does not come, whether its messages are shared as it is."""
        source = channel.external_relationships[0]
        if listed.home != source.instance:
            await self._has_another_home(source)
        elif (
            self._is_sweep
            and not listed.is_member
            and self._was_late(channel.updated_at)
            # What was seen just now may not be stored yet.
            and listed.is_private == bool(channel.structured_data.get("isPrivate"))
        ):
            await self._workspace.share_messages(channel)

    def _was_late(self, moment: str | None) -> bool:
        """Whether it may be that what was on its way at *moment* was stored only since the last look."""
        return moment is not None and moment >= to_text(self._ports.clock() - LATE_FOR)

    async def _has_another_home(self, source: ExternalRelationship) -> None:
        """Take away what is stored of a channel under the workspace that hosted it before, and read it under the other:
        nobody tells any more who may read what is there."""
        now = self._ports.clock()
        log.info("channel %s is not of %s any more: it is read anew", source.external_id, source.instance)
        self._report.events += await channel_deleted(
            self._workspace, source.external_id, ts_of(now), to_text(now), home=source.instance
        )
        if is_wanted(self._connection, source.external_id):
            request = {"history": [history_request(source.external_id)]}
            await ask_to_read(self._ports, self._connection, request, event_id=f"home|{self._work.due_at}")

    async def _end_late(self, channel: Shard) -> None:
        """Let what has come of a channel since it was ended, or closed, be so, too."""
        if not channel.is_live and self._was_late(channel.deleted_at):
            self._report.events += await late_messages_end(self._workspace, channel)
        elif channel.is_live and self._is_sweep and self._was_late(channel.updated_at):
            # The walk, which reads again who may read the others' messages, does not come there.
            await self._workspace.share_messages(channel)

    async def _step(self, channel_id: str, newest: str | None, walk: Walk, *, deep: bool) -> bool:
        """Send what a page of a channel, or of one of its threads, has that was missed; whether that was its last."""
        channel = await self._workspace.channel(channel_id)
        place = walk.place
        if place is None:
            if channel_id in walk.join and not await join(self._client, channel_id):
                return True
            if channel is not None and (channel.is_private or deep):
                channel = await self._workspace.read_channel(channel_id, with_guests=deep)
                # Its messages may have to wait for their call, and then it is not read again.
                await self._send([])
            if channel is not None:
                place = walk.place = Place(self._oldest(newest, deep=deep, first=walk.first), newest)
                place.fresh = newest is None and not walk.first and not self._is_sweep
        if channel is None or place is None:
            return True
        if place.missing:
            await self._ask_for_missing(channel, place)
        elif place.threads:
            await self._thread(channel, place)
        else:
            await self._page(channel, place)
        return place.listed and not place.threads and not place.missing

    async def _page(self, channel: ChannelFacts, place: Place) -> None:
        asked_at = to_text(self._ports.clock())
        window = {"oldest": place.oldest, "latest": place.latest}
        try:
            page = await history_page(self._workspace, channel.id, cursor=place.cursor, **window)
        except RefusedError as error:
            if error.code != "invalid_cursor" or place.cursor is None:
                raise
            place.cursor, place.latest = None, place.lowest
            return
        if place.fresh:
            # It can be read only since the last poll, and no event has said so.
            request = {"history": [history_request(channel.id)]}
            await ask_to_read(self._ports, self._connection, request, event_id=f"seen|{self._work.due_at}")
            place.fresh = False
        messages: list[JsonObject] = page.get("messages", [])
        self._report.rows += len(messages)
        changed = await self._send(await self._workspace.messages(channel, messages, asked_at))
        roots = await self._incomplete(channel, [one for one in messages if has_replies(one)], changed)
        roots += await self._emptied(channel, [one for one in messages if not has_replies(one)], changed)
        seen = [one["ts"] for one in messages]
        if seen:
            place.newest = max([*([place.newest] if place.newest else []), *seen], key=ts_order)
            place.lowest = min([*([place.lowest] if place.lowest else []), *seen], key=ts_order)
        following = next_cursor(page)
        if following is not None and following == place.cursor:
            raise TransientError(f"conversations.history of {channel.id}: a page's cursor leads to itself")
        place.threads, place.cursor, place.listed = roots, following, following is None

    def _oldest(self, newest: str | None, *, deep: bool, first: bool) -> str:
        """Where the listing of a channel begins."""
        now = self._ports.clock()
        if deep:
            return ts_of(now - timedelta(days=self._connection.thread_days))
        if newest is not None:
            return _before(newest, OVERLAP)
        if first and self._connection.created_at:
            return ts_of(min(from_text(self._connection.created_at), now) - OVERLAP)
        return ts_of(now - OVERLAP)

    async def _incomplete(
        self, channel: ChannelFacts, roots: Sequence[JsonObject], changed: Sequence[IngestionEvent]
    ) -> list[str]:
        """Those of the listed *roots* that have replies which are not stored."""
        events, store, tenant_id = self._workspace.events, self._ports.store, self._connection.tenant_id
        latest = {
            one["ts"]: events.shard_id(MESSAGE, f"{channel.id}:{one['latest_reply']}", channel.home)
            for one in roots
            if isinstance(one.get("latest_reply"), str)
        }
        stored = await store.get_many(tenant_id, list(latest.values())) if latest else {}
        moved = {event.source_id.partition(":")[2] for event in changed}
        recent = None
        if self._forced and self._client.budget.has_plenty("conversations.replies"):
            recent = ts_order(ts_of(self._ports.clock() - REREAD_THREADS_OF))
        found: list[str] = []
        for one in roots:
            ts = one["ts"]
            missing = ts not in latest or latest[ts] not in stored
            if not missing and ts in moved:
                missing = len(await self._stored_replies(channel, ts)) != one["reply_count"]
            if missing or (recent is not None and ts_order(one["latest_reply"]) > recent):
                found.append(ts)
        return found

    async def _emptied(
        self, channel: ChannelFacts, messages: Sequence[JsonObject], changed: Sequence[IngestionEvent]
    ) -> list[str]:
        """Those of the listed *messages* without replies that have changed and of which replies are stored."""
        if not self._forced:
            return []
        moved = {event.source_id.partition(":")[2] for event in changed}
        return [one["ts"] for one in messages if one["ts"] in moved and await self._stored_replies(channel, one["ts"])]

    async def _stored_replies(self, channel: ChannelFacts, root: str) -> list[str]:
        """The ids of the shards of the stored replies."""
        target = self._workspace.events.shard_id(MESSAGE, f"{channel.id}:{root}", channel.home)
        found: list[str] = []
        cursor = None
        while True:
            page = await self._ports.store.incoming(self._connection.tenant_id, target, limit=500, cursor=cursor)
            found += [one.source_shard_id for one in page.items if one.link.relationship_type == "replies_to"]
            cursor = page.cursor
            if cursor is None:
                return found

    async def _thread(self, channel: ChannelFacts, place: Place) -> None:
        """A page of the first of the threads."""
        root, asked_at = place.threads[0], to_text(self._ports.clock())
        page: JsonObject | None = None
        try:
            page = await thread_page(self._workspace, channel.id, root, cursor=place.thread_cursor)
        except RefusedError as error:
            if error.code == "invalid_cursor" and place.thread_cursor is not None:
                place.thread_cursor = place.thread_after = None
                return
            if error.code != "thread_not_found":
                raise
        messages = [] if page is None else replies_of(page, root, first=place.thread_cursor is None)
        following = None if page is None else next_cursor(page)
        self._report.rows += len(messages)
        events = await self._workspace.messages(channel, messages, asked_at)
        if page is not None:
            seen = [one["ts"] for one in messages]
            last = max(seen, key=ts_order, default=place.thread_after)
            # A step of its own each: by a call a minute a second one of a step would never be made.
            place.missing = await self._missing_replies(
                channel, root, seen, (place.thread_after, last if following else None)
            )
            place.thread_after = last
        await self._send(events)
        place.thread_cursor = following
        if following is None:
            place.thread_after = None
            place.threads.pop(0)

    async def _missing_replies(
        self, channel: ChannelFacts, root: str, seen: Sequence[str], span: tuple[str | None, str | None]
    ) -> dict[str, str]:
        """The stored replies that are within *span* of a thread, both ends of which may be open, and were not *seen* in
        it; with their versions."""
        after, last = span
        tenant_id = self._connection.tenant_id
        stored = await self._ports.store.get_many(tenant_id, await self._stored_replies(channel, root))
        missing: dict[str, str] = {}
        for shard in stored.values():
            source = shard.external_relationships[0]
            of, _, ts = source.external_id.partition(":")
            is_within = (after is None or ts_order(ts) > ts_order(after)) and (
                last is None or ts_order(ts) <= ts_order(last)
            )
            if of == channel.id and is_within and ts not in seen:
                missing[ts] = source.source_version
        if len(missing) > ASKED_AT_MOST:
            self._report.errors[channel.id] = (
                f"channel {channel.id}: {len(missing)} replies are missing from the thread {root}: nothing was deleted"
            )
            return {}
        return missing

    async def _ask_for_missing(self, channel: ChannelFacts, place: Place) -> None:
        """Ask for the first of the missing replies; it has ended where Slack does not have it either."""
        ts, version = next(iter(place.missing.items()))
        asked_at = to_text(self._ports.clock())
        if await read_message(self._workspace, channel.id, ts) is None:
            log.info("channel %s: the reply %s is gone", channel.id, ts)
            gone = self._workspace.events.gone(MESSAGE, f"{channel.id}:{ts}", channel.home, version, asked_at)
            await self._send([gone])
        del place.missing[ts]

    async def _send(self, events: Sequence[IngestionEvent]) -> list[IngestionEvent]:
        """Send what was met and what of *events* is not stored so; the latter."""
        met, self._workspace.met = self._workspace.met, []
        changed = await not_stored(events, self._ports.store)
        self._report.events += await send_events(self._ports.bus, [*await not_stored(met, self._ports.store), *changed])
        return changed


def _before(ts: str, by: timedelta) -> str:
    return ts_of(from_text(moment_of(ts)) - by)
