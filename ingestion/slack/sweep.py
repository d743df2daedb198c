"""A sweep: users as they are now, late replies that no event told, and messages of the last days that are gone untold.

A message is taken for gone only where its channel's window was listed to the end without it, and Slack, asked for it
by itself, does not have it either.
"""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ingestion.slack.client import next_cursor
from ingestion.slack.comparing import not_stored
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import SYSTEM, send_events, ts_of, ts_order
from ingestion.slack.listing import USERS_A_PAGE, team_of
from ingestion.slack.reads import history_page, read_message
from ingestion.slack.reconcile import reconcile
from ingestion.slack.workspace import UNSEEN, Workspace
from ingestion.source import RunReport
from messaging.contracts import SourceWork
from messaging.times import to_text
from processors.mapping.slack import MESSAGE
from shards.store import ShardQuery

log = logging.getLogger(__name__)

WINDOW: Final = timedelta(days=7)
ASKED_AT_MOST: Final = 50
"""Messages of one channel that are asked for by themselves; where more are missing, people should look first."""


class SweepState(msgspec.Struct, rename="camel", omit_defaults=True):
    """A sweep under way: the due time it is of, whether all was gone through, and the channels whose messages were
    looked for. *integration_id* is the connection's."""

    integration_id: str
    walked: bool = False
    of: str = ""
    done: list[str] = msgspec.field(default_factory=list)


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
    if state.of != work.due_at:
        await _users(workspace, report)
        state = SweepState(connection.connection_id, of=work.due_at)
        saved = await ports.states.save(connection.tenant_id, key, saved, state)
    if not state.walked:
        walk = await reconcile(workspace, work, deadline, deep=True)
        report.rows, report.events = report.rows + walk.rows, report.events + walk.events
        report.errors |= walk.errors
        if not walk.finished:
            report.finished, report.calls = False, client.calls - calls
            return report
        state.walked = True
        saved = await ports.states.save(connection.tenant_id, key, saved, state)
    window_from = ports.clock() - WINDOW
    for channel_id, stored in (await _stored_messages(workspace, window_from)).items():
        if channel_id in state.done:
            continue
        if ports.clock() >= deadline:
            report.finished = False
            break
        try:
            await _channel(workspace, channel_id, stored, ts_of(window_from), report)
        except RefusedError as error:
            if error.code not in UNSEEN:
                report.errors[channel_id] = str(error)
        state.done.append(channel_id)
        saved = await ports.states.save(connection.tenant_id, key, saved, state)
    report.calls = client.calls - calls
    return report


async def _users(workspace: Workspace, report: RunReport) -> None:
    arguments = {"limit": USERS_A_PAGE, "team_id": team_of(workspace.connection)}
    asked_at = to_text(workspace.ports.clock())
    async for page in workspace.client.pages("users.list", **arguments):
        for raw in page.get("members", []):
            workspace.meet(raw, asked_at)
        report.rows += len(workspace.met)
        met, workspace.met = workspace.met, []
        report.events += await send_events(workspace.ports.bus, await not_stored(met, workspace.ports.store))


async def _stored_messages(workspace: Workspace, since: datetime) -> dict[str, dict[str, tuple[str, str]]]:
    """By channel, the stored messages sent *since* that a channel's own history shows: by ts, their home and version.

    What was sent since was also written since.
    """
    connection, since_text = workspace.connection, to_text(since)
    query = ShardQuery(
        connection.tenant_id,
        shard_type_ids=("c_message",),
        system=SYSTEM,
        object_type=MESSAGE,
        connection_id=connection.connection_id,
        updated_after=since_text,
    )
    found: dict[str, dict[str, tuple[str, str]]] = {}
    cursor: str | None = None
    while True:
        page = await workspace.ports.store.query(query, limit=500, cursor=cursor)
        for shard in page.items:
            data = shard.structured_data
            if data["sentAt"] <= since_text or "parentMessageId" in data:
                continue
            source = shard.external_relationships[0]
            channel_id, _, ts = source.external_id.partition(":")
            found.setdefault(channel_id, {})[ts] = (source.instance, source.source_version)
        cursor = page.cursor
        if cursor is None:
            return found


async def _channel(
    workspace: Workspace, channel_id: str, stored: Mapping[str, tuple[str, str]], oldest: str, report: RunReport
) -> None:
    """Delete what is gone of a channel."""
    began = workspace.ports.clock()
    listed: set[str] = set()
    cursor: str | None = None
    while True:
        page = await history_page(workspace, channel_id, cursor=cursor, oldest=oldest)
        listed.update(one["ts"] for one in page.get("messages", []))
        cursor = next_cursor(page)
        if cursor is None:
            break
    report.rows += len(listed)
    latest = ts_of(began)
    missing = [ts for ts in stored if ts not in listed and ts_order(oldest) < ts_order(ts) < ts_order(latest)]
    if len(missing) > ASKED_AT_MOST:
        report.errors[channel_id] = (
            f"{len(missing)} messages of the last {WINDOW.days} days are missing from the channel: nothing was deleted."
            " If they were deleted at Slack, disconnect with --purge and connect anew"
        )
        return
    gone = []
    for ts in missing:
        asked_at = to_text(workspace.ports.clock())
        if await read_message(workspace, channel_id, ts) is None:
            home, version = stored[ts]
            gone.append(workspace.events.gone(MESSAGE, f"{channel_id}:{ts}", home, version, asked_at))
    if gone:
        log.info("channel %s: %d messages are gone", channel_id, len(gone))
        report.events += await send_events(workspace.ports.bus, gone)
