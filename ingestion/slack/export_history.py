"""The history that a workspace export tells, as the pages of a first load.

An export says what was when it was made, so what Slack itself tells, sooner or later, wins over it: its messages have
their own versions and were read when they were sent, and its channels and users have the oldest version there is.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from connections.slack_connection import SlackConnection
from ingestion.errors import SourceError
from ingestion.slack.events import SlackEvents, moment_of
from ingestion.slack.export import SlackExport
from ingestion.slack.export_archive import ExportError
from ingestion.slack.facts import ChannelFacts, Person, is_of_others, is_private, is_wanted, person_of, stored_channel
from ingestion.source import HistoryPage, Position
from messaging.contracts import IngestionEvent
from processors.mapping.slack import CHANNEL
from shards.store import ShardStore

DAYS_A_PAGE: Final = 20
_BEGINNING: Final = "1970-01-01T00:00:00.000Z"


class ExportPosition(msgspec.Struct, rename="camel", omit_defaults=True):
    """Where an export stands: the number of the channel in it, and of its day; -1: users and channels come first."""

    channel: int = -1
    day: int = 0
    records: int = 0


async def export_history(
    connection: SlackConnection, paths: Sequence[Path], store: ShardStore, position: Position | None
) -> HistoryPage:
    """The page at *position* of the export at *paths*, which is one folder or archive.

    Raises:
        ExportReadError: it can't be read; the message names the file.
        OSError: it can't be opened.
    """
    if len(paths) != 1:
        raise ExportReadError(f"a Slack export is one folder or .zip, not {len(paths)}")
    at = ExportPosition() if position is None else msgspec.convert(position, ExportPosition)
    try:
        with SlackExport(paths[0], connection.instance or None) as export:
            return await _page(connection, export, store, at)
    except ExportError as error:
        raise ExportReadError(str(error)) from error


class ExportReadError(SourceError):
    """An export that can't be read; the message names the file and what is wrong with it."""


async def _page(connection: SlackConnection, export: SlackExport, store: ShardStore, at: ExportPosition) -> HistoryPage:
    if export.team_id is not None and connection.instance and export.team_id != connection.instance:
        raise ExportReadError(
            f"the export is of the workspace {export.team_id}, the connection of {connection.instance}: "
            "load it into a connection of its own workspace"
        )
    events = SlackEvents(connection)
    people = {str(raw["id"]): person_of(raw) for raw in export.users}
    channels = [raw for raw in export.channels if is_wanted(connection, raw["id"])]
    if at.channel < 0:
        own = [one for one in (export.team_id,) if one is not None]
        made = [
            events.user({**raw, "updated": 0}, _BEGINNING, is_guest=is_of_others(raw, connection, own))
            for raw in export.users
        ]
        for raw in channels:
            facts = _facts(connection, raw, people)
            members = raw.get("members") if facts.is_private else None
            event = events.channel(raw, facts, members, datetime.fromisoformat(_BEGINNING))
            made.append(event)
        return _after(made, ExportPosition(0, 0, len(made)), channels)
    if at.channel >= len(channels):
        return HistoryPage([], None, at.records)
    raw = channels[at.channel]
    facts = _facts(connection, raw, people)
    # Who may read is what is known now: the channel may have turned private since the export.
    known = await store.get(connection.tenant_id, events.shard_id(CHANNEL, facts.id))
    if known is not None and known.is_live:
        facts = stored_channel(facts.id, facts.home, known)
    days = export.days(raw["id"])
    names = {str(one["id"]): str(one["name"]) for one in export.channels if not is_private(one)}
    mine = {connection.bot_user, connection.bot_id} - {None}
    made = [
        events.message(facts, message, people, names, read_at=moment_of(message["ts"]))
        for message in export.messages(raw["id"], days[at.day : at.day + DAYS_A_PAGE])
        if not mine & {message.get("user"), message.get("bot_id")}
    ]
    day = at.day + DAYS_A_PAGE
    done = day >= len(days)
    following = ExportPosition(at.channel + 1 if done else at.channel, 0 if done else day, at.records + len(made))
    return _after(made, following, channels)


def _after(events: list[IngestionEvent], following: ExportPosition, channels: Sequence[object]) -> HistoryPage:
    if following.channel >= len(channels):
        return HistoryPage(events, None, following.records)
    total = following.records * len(channels) // following.channel if following.channel else None
    return HistoryPage(events, msgspec.to_builtins(following), total, estimated=total is not None)


def _facts(connection: SlackConnection, raw: Mapping[str, object], people: Mapping[str, Person]) -> ChannelFacts:
    private = is_private(raw)
    members = raw.get("members")
    readers = None
    if private:
        known = (people.get(str(one)) for one in members) if isinstance(members, list) else ()
        readers = sorted({f"user:{one.email}" for one in known if one is not None and one.email and not one.is_bot})
    return ChannelFacts(str(raw["id"]), str(raw.get("name")), connection.instance, private, readers)
