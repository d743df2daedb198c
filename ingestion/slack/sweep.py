"""A sweep: users as they are now, late replies that no event told, and messages of the last days that are gone untold.

A message is taken for gone only where its channel's window was listed to the end without it, and Slack, asked for it
by itself, does not have it either.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ingestion.errors import SourceError, TransientError
from ingestion.slack.client import next_cursor
from ingestion.slack.comparing import not_stored
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import SYSTEM, send_events, ts_of, ts_order
from ingestion.slack.failing_channels import TRIES, failure_of, is_of_channel, set_aside
from ingestion.slack.listing import USERS_A_PAGE, team_of
from ingestion.slack.reads import history_page, read_message
from ingestion.slack.reconcile import reconcile
from ingestion.slack.workspace import UNSEEN, Workspace
from ingestion.source import RunReport
from messaging.contracts import SourceWork
from messaging.times import from_text, to_text
from processors.mapping.slack import MESSAGE
from shards.model import Shard
from shards.store import ShardQuery

log = logging.getLogger(__name__)

WINDOW: Final = timedelta(days=7)
ASKED_AT_MOST: Final = 50
"""Messages of one channel that are asked for by themselves; where more are missing, people should look first."""
AT_LEAST: Final = timedelta(seconds=10)
"""How long a run asks Slack for messages, however long it took to find which are stored."""


class Listing(msgspec.Struct, rename="camel", omit_defaults=True):
    """A channel whose window is listed, from *oldest* on, as it stands between two calls.

    *missing* are the stored messages of the window that were not in it yet, by ts, with their home and version; once
    it is *listed*, those that Slack has still to be asked for by themselves. *orphans* are replies, which no listing of
    a channel has, to what is stored as having none: asked for in the end.
    """

    channel: str
    oldest: str
    missing: dict[str, tuple[str, str]]
    orphans: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    cursor: str | None = None
    latest: str | None = None
    lowest: str | None = None
    listed: bool = False


class SweepState(msgspec.Struct, rename="camel", omit_defaults=True):
    """A sweep under way, or the last one, when that has *ended*: the due time it is *of*, when it *began*, whether all
    was gone through, the channels whose messages were looked for, and the one they are being looked for in. *tries* are
    those in which a channel has failed, *errors* are to be told, by channel. *integration_id* is the connection's."""

    integration_id: str
    walked: bool = False
    of: str = ""
    began: str = ""
    ended: bool = False
    done: list[str] = msgspec.field(default_factory=list)
    listing: Listing | None = None
    tries: dict[str, int] = msgspec.field(default_factory=dict)
    errors: dict[str, str] = msgspec.field(default_factory=dict)


async def sweep(workspace: Workspace, work: SourceWork, deadline: datetime) -> RunReport:
    """Compare users, and the messages of :data:`WINDOW`, until all are or *deadline* is past.

    Raises:
        TransientError, BudgetExhaustedError, CredentialError, StateMovedError: as they say.
        BusUnavailableError, StoreUnavailableError: ask again.
    """
    connection, ports, client = workspace.connection, workspace.ports, workspace.client
    report, calls = RunReport(instance=connection.instance), client.calls
    key = f"{connection.connection_id}/slack-sweep"
    saved = await ports.states.load(connection.tenant_id, key, SweepState(connection.connection_id))
    state = saved.value
    if state.ended and _covers(state, work):
        return report
    if state.ended or not state.began:
        # Another's is not broken off: of two that did so to each other, neither would come to its end.
        began = to_text(ports.clock())
        await _users(workspace, report)
        state = SweepState(connection.connection_id, of=work.due_at, began=began)
        saved = await ports.states.save(connection.tenant_id, key, saved, state)
    if not state.walked:
        of_this = work.model_copy(update={"due_at": state.of})
        walk = await reconcile(workspace, of_this, deadline, deep=True)
        report.rows, report.events = report.rows + walk.rows, report.events + walk.events
        state.errors |= walk.errors
        if not walk.finished:
            report.finished, report.calls = False, client.calls - calls
            return report
        state.walked = True
        saved = await ports.states.save(connection.tenant_id, key, saved, state)
    try:
        state.ended = await _look_for_gone(workspace, state, deadline, report)
    except SourceError:
        await ports.states.save(connection.tenant_id, key, saved, state)
        raise
    await ports.states.save(connection.tenant_id, key, saved, state)
    report.finished = state.ended and _covers(state, work)
    report.errors |= state.errors
    report.calls = client.calls - calls
    return report


def _covers(state: SweepState, work: SourceWork) -> bool:
    """Whether the sweep is the one that *work* asks for, or has begun since that was due."""
    return state.of == work.due_at or from_text(state.began) >= from_text(work.due_at)


async def _look_for_gone(workspace: Workspace, state: SweepState, deadline: datetime, report: RunReport) -> bool:
    """Look for what is gone, channel by channel and call by call; whether all channels were looked through."""
    clock = workspace.ports.clock
    left: list[Listing] | None = None
    failed = False
    while True:
        while state.listing is not None:
            listing = state.listing
            try:
                ended = await _step(workspace, listing, state, report)
                failed = False
            except RefusedError as error:
                if error.code not in UNSEEN:
                    state.errors[listing.channel] = failure_of(listing.channel, error)
                ended = True
            except TransientError as error:
                if not is_of_channel(error):
                    raise
                _fails(state, listing, error, left)
                if left and (failed or left == [listing]):
                    raise TransientError(failure_of(listing.channel, error)) from error
                failed = True
                continue
            if ended:
                state.done.append(listing.channel)
                state.listing = None
            if clock() >= deadline:
                return False
        if left is None:
            left = await _left(workspace, state)
            # To find what is stored may have taken all the time there was.
            deadline = max(deadline, clock() + AT_LEAST)
        if not left:
            return True
        state.listing = left.pop()


def _fails(state: SweepState, listing: Listing, error: TransientError, left: list[Listing] | None) -> None:
    """Have the channel's turn come after those *left*; when it has had enough of them, set it aside."""
    state.listing = None
    tries = state.tries[listing.channel] = state.tries.get(listing.channel, 0) + 1
    if tries >= TRIES:
        state.errors[listing.channel] = set_aside(listing.channel, error, "in the next sweep")
        state.done.append(listing.channel)
    elif left is not None:
        left.insert(0, listing)


async def _left(workspace: Workspace, state: SweepState) -> list[Listing]:
    """The channels that are left, the last first; at last those that have failed."""
    began = workspace.ports.clock()
    since = began - WINDOW
    oldest, newest = ts_of(since), ts_of(began)
    stored = await _stored_messages(workspace, since)

    def of_window(messages: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
        return {ts: known for ts, known in messages.items() if ts_order(oldest) < ts_order(ts) < ts_order(newest)}

    return [
        Listing(channel_id, oldest, of_window(stored[channel_id].shown), of_window(stored[channel_id].orphans))
        for channel_id in sorted(stored, key=lambda one: -state.tries.get(one, 0))
        if channel_id not in state.done
    ]


async def _users(workspace: Workspace, report: RunReport) -> None:
    arguments = {"limit": USERS_A_PAGE, "team_id": team_of(workspace.connection)}
    asked_at = to_text(workspace.ports.clock())
    async for page in workspace.client.pages("users.list", **arguments):
        for raw in page.get("members", []):
            await workspace.meet(raw, asked_at)
        report.rows += len(workspace.met)
        met, workspace.met = workspace.met, []
        report.events += await send_events(workspace.ports.bus, await not_stored(met, workspace.ports.store))


@dataclass(slots=True)
class _Stored:
    """The stored messages of a channel, by ts, with their home and version: those that its own history shows, and
    replies to what is stored as having none."""

    shown: dict[str, tuple[str, str]] = field(default_factory=dict)
    orphans: dict[str, tuple[str, str]] = field(default_factory=dict)


async def _stored_messages(workspace: Workspace, since: datetime) -> dict[str, _Stored]:
    """The stored messages sent *since*, by channel. What was sent since was also written since."""
    connection, since_text = workspace.connection, to_text(since)
    query = ShardQuery(
        connection.tenant_id,
        shard_type_ids=("c_message",),
        system=SYSTEM,
        object_type=MESSAGE,
        connection_id=connection.connection_id,
        updated_after=since_text,
    )
    found: dict[str, _Stored] = {}
    cursor: str | None = None
    while True:
        page = await workspace.ports.store.query(query, limit=500, cursor=cursor)
        sent_since = [shard for shard in page.items if shard.structured_data["sentAt"] > since_text]
        with_replies = await _with_replies(workspace, sent_since)
        for shard in sent_since:
            source = shard.external_relationships[0]
            channel_id, _, ts = source.external_id.partition(":")
            stored = found.setdefault(channel_id, _Stored())
            if (root := _root_of(workspace, shard)) is None:
                stored.shown[ts] = (source.instance, source.source_version)
            elif root not in with_replies and len(stored.orphans) < ASKED_AT_MOST:
                stored.orphans[ts] = (source.instance, source.source_version)
        cursor = page.cursor
        if cursor is None:
            return found


async def _with_replies(workspace: Workspace, messages: Sequence[Shard]) -> set[str]:
    """The ids of the shards of roots of *messages* that are stored as having replies."""
    roots = {root for one in messages if (root := _root_of(workspace, one)) is not None}
    stored = await workspace.ports.store.get_many(workspace.connection.tenant_id, sorted(roots)) if roots else {}
    return {one.id for one in stored.values() if one.is_live and one.structured_data.get("replyCount")}


def _root_of(workspace: Workspace, message: Shard) -> str | None:
    """The id of the shard of the message that *message* replies to."""
    root = message.structured_data.get("parentMessageId")
    return (
        None if root is None else workspace.events.shard_id(MESSAGE, root, message.external_relationships[0].instance)
    )


async def _step(workspace: Workspace, listing: Listing, state: SweepState, report: RunReport) -> bool:
    """Go on with a listing by a call or two; whether it has come to its end."""
    if not listing.listed:
        listing.listed = await _is_last_page(workspace, listing, report)
        if not listing.listed:
            return False
        if len(listing.missing) > ASKED_AT_MOST:
            state.errors[listing.channel] = (
                f"{len(listing.missing)} messages of the last {WINDOW.days} days are missing from the channel: nothing"
                " was deleted. If they were deleted at Slack, disconnect with --purge and connect anew"
            )
            return True
        listing.missing |= listing.orphans
        return not listing.missing
    ts, (home, version) = next(iter(listing.missing.items()))
    asked_at = to_text(workspace.ports.clock())
    if await read_message(workspace, listing.channel, ts) is None:
        log.info("channel %s: the message %s is gone", listing.channel, ts)
        gone = workspace.events.gone(MESSAGE, f"{listing.channel}:{ts}", home, version, asked_at)
        report.events += await send_events(workspace.ports.bus, [gone])
    del listing.missing[ts]
    return not listing.missing


async def _is_last_page(workspace: Workspace, listing: Listing, report: RunReport) -> bool:
    window = {"oldest": listing.oldest, "latest": listing.latest}
    try:
        page = await history_page(workspace, listing.channel, cursor=listing.cursor, **window)
    except RefusedError as error:
        if error.code != "invalid_cursor" or listing.cursor is None:
            raise
        listing.cursor, listing.latest = None, listing.lowest
        return False
    seen = [one["ts"] for one in page.get("messages", [])]
    report.rows += len(seen)
    for ts in seen:
        listing.missing.pop(ts, None)
    if seen:
        listing.lowest = min([*([listing.lowest] if listing.lowest else []), *seen], key=ts_order)
    following = next_cursor(page)
    if following is not None and following == listing.cursor:
        raise TransientError(f"conversations.history of {listing.channel}: a page's cursor leads to itself")
    listing.cursor = following
    return following is None
