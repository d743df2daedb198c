"""The first load: users, channels, then each channel's messages page by page, each page's threads behind it.

A position is plain JSON, and a page is one call or a few; nothing is kept beside it. A channel that fails comes again
after the others, for as long as it takes: the load has no end without it.
"""

from typing import Any, Final

import msgspec

from ingestion.errors import TransientError
from ingestion.slack.client import next_cursor
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import ts_order
from ingestion.slack.facts import JsonObject, is_private, is_wanted
from ingestion.slack.failing_channels import is_of_channel, set_aside
from ingestion.slack.listing import CHANNELS_A_PAGE, USERS_A_PAGE, channel_types, make_readable, team_of
from ingestion.slack.reads import has_replies, history_page, thread_page
from ingestion.slack.workspace import UNSEEN, Workspace
from ingestion.source import HistoryPage, Position
from messaging.contracts import IngestionEvent
from messaging.times import to_text

STAGES: Final = ("users", "channels", "messages")


class Standing(msgspec.Struct, rename="camel", omit_defaults=True):
    """Where a channel's messages stand, see :class:`HistoryPosition`."""

    cursor: str | None = None
    latest: str | None = None
    lowest: str | None = None
    opened: bool = False
    threads: list[str] = msgspec.field(default_factory=list)
    thread_cursor: str | None = None


class HistoryPosition(msgspec.Struct, rename="camel", omit_defaults=True):
    """Where the history stands.

    *cursor* is of the stage's list, in the last stage of the first of *channels*, which are those left; where one has
    died that begins anew before *latest*. *lowest* is the time of the oldest message that was seen. *threads* are
    roots of the last page whose replies come next, *thread_cursor* where in the first of them. *done* channels had
    *records*, of *total* channels. *aside* are channels that have failed and where they stand, *failed* how many of
    them have since a call worked.
    """

    stage: str = "users"
    cursor: str | None = None
    latest: str | None = None
    lowest: str | None = None
    channels: list[str] = msgspec.field(default_factory=list)
    opened: bool = False
    threads: list[str] = msgspec.field(default_factory=list)
    thread_cursor: str | None = None
    done: int = 0
    total: int = 0
    records: int = 0
    aside: dict[str, Standing] = msgspec.field(default_factory=dict)
    failed: int = 0


async def history(workspace: Workspace, position: Position | None) -> HistoryPage:
    """The page at *position*.

    Raises:
        RefusedError, TransientError, BudgetExhaustedError, CredentialError: as for the calls.
    """
    at = HistoryPosition() if position is None else msgspec.convert(position, HistoryPosition)
    page = _Page(workspace, at)
    events = await {"users": page.users, "channels": page.channels, "messages": page.messages}[at.stage]()
    met = [*workspace.met, *events]
    at.records += len(met)
    if at.stage == "messages" and not at.channels:
        return HistoryPage(met, None, at.records)
    total = at.records * at.total // at.done if at.done else None
    next_position: dict[str, Any] = msgspec.to_builtins(at)
    return HistoryPage(met, next_position, total, estimated=total is not None, waits_for=page.waits_for)


class _Page:
    """One page; *at* is moved on to the next."""

    def __init__(self, workspace: Workspace, at: HistoryPosition) -> None:
        self._workspace = workspace
        self._connection = workspace.connection
        self._client = workspace.client
        self._at = at
        self.waits_for: str | None = None

    async def _listed(self, method: str, **arguments: Any) -> JsonObject:
        """A page of a list; from its beginning, when the cursor has died since."""
        try:
            page = await self._client.call(method, **arguments, cursor=self._at.cursor)
        except RefusedError as error:
            if error.code != "invalid_cursor":
                raise
            self._at.cursor = None
            page = await self._client.call(method, **arguments)
        return page

    async def users(self) -> list[IngestionEvent]:
        asked_at = to_text(self._workspace.ports.clock())
        page = await self._listed("users.list", limit=USERS_A_PAGE, team_id=team_of(self._connection))
        for raw in page.get("members", []):
            await self._workspace.meet(raw, asked_at)
        self._at.cursor = next_cursor(page)
        if self._at.cursor is None:
            self._at.stage = "channels"
        return []

    async def channels(self) -> list[IngestionEvent]:
        if self._client.scopes is None:
            await self._client.call("auth.test")
        page = await self._listed(
            "conversations.list",
            types=channel_types(self._client),
            exclude_archived=False,
            limit=CHANNELS_A_PAGE,
            team_id=team_of(self._connection),
        )
        for raw in page.get("channels", []):
            if not is_wanted(self._connection, raw["id"]) or raw["id"] in self._at.channels:
                continue
            if not is_private(raw):
                # A private one comes with its members, when its turn is.
                facts = await self._workspace.read_channel(raw["id"], raw=raw)
                if facts is None:
                    continue
            self._at.channels.append(raw["id"])
        self._at.cursor = next_cursor(page)
        if self._at.cursor is None:
            self._at.stage = "messages"
            self._at.total = len(self._at.channels)
        return []

    async def messages(self) -> list[IngestionEvent]:
        at = self._at
        if not at.channels:
            return []
        channel_id = at.channels[0]
        if (standing := at.aside.get(channel_id)) is not None:
            at.cursor, at.opened = standing.cursor, standing.opened
            at.latest, at.lowest = standing.latest, standing.lowest
            at.threads, at.thread_cursor = list(standing.threads), standing.thread_cursor
        before = Standing(at.cursor, at.latest, at.lowest, at.opened, list(at.threads), at.thread_cursor)
        left, done = list(at.channels), at.done
        try:
            events = await self._of_channel(channel_id)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            self._leave()
            events = []
        except TransientError as error:
            if not is_of_channel(error):
                raise
            at.channels, at.done = left, done
            self._set_aside(channel_id, before, error)
            return []
        at.aside.pop(channel_id, None)
        at.failed = 0
        return events

    async def _of_channel(self, channel_id: str) -> list[IngestionEvent]:
        at = self._at
        if not at.opened or not is_wanted(self._connection, channel_id):
            at.opened = is_wanted(self._connection, channel_id) and await self._open(channel_id)
            if not at.opened:
                self._leave()
            return []
        if at.threads:
            return await self._thread(channel_id, at.threads[0])
        return await self._messages(channel_id)

    def _set_aside(self, channel_id: str, standing: Standing, error: TransientError) -> None:
        """Have the channel's turn come after the others', which is no matter of haste where they fail, too."""
        at = self._at
        at.channels.append(at.channels.pop(0))
        at.aside[channel_id] = standing
        self._begin_channel()
        at.failed += 1
        if at.failed > 1 or len(at.channels) == 1:
            self.waits_for = set_aside(channel_id, error, "after the other channels")

    async def _open(self, channel_id: str) -> bool:
        """Whether the channel can be read; it is met with those of its members who make out who reads it."""
        answer = await self._client.call("conversations.info", channel=channel_id, include_num_members=True)
        raw = dict(answer["channel"])
        readable = await make_readable(self._connection, self._client, raw)
        if is_private(raw) or readable:
            return await self._workspace.read_channel(channel_id, raw=raw, with_guests=True) is not None and readable
        return False

    async def _messages(self, channel_id: str) -> list[IngestionEvent]:
        asked_at = to_text(self._workspace.ports.clock())
        try:
            page = await history_page(self._workspace, channel_id, cursor=self._at.cursor, latest=self._at.latest)
        except RefusedError as error:
            if error.code != "invalid_cursor" or self._at.cursor is None:
                raise
            # By a call a minute there is none left for another now.
            self._at.cursor, self._at.latest = None, self._at.lowest
            return []
        messages = page.get("messages", [])
        if messages:
            self._at.lowest = min((one["ts"] for one in messages), key=ts_order)
        self._at.threads = [one["ts"] for one in messages if has_replies(one)]
        self._at.cursor = next_cursor(page)
        if self._at.cursor is None and not self._at.threads:
            self._leave()
        return await self._made(channel_id, messages, asked_at)

    async def _thread(self, channel_id: str, root: str) -> list[IngestionEvent]:
        asked_at = to_text(self._workspace.ports.clock())
        page: JsonObject = {"messages": []}
        try:
            page = await thread_page(self._workspace, channel_id, root, cursor=self._at.thread_cursor)
        except RefusedError as error:
            if error.code == "invalid_cursor" and self._at.thread_cursor is not None:
                self._at.thread_cursor = None
                return []
            if error.code != "thread_not_found":
                raise
        self._at.thread_cursor = next_cursor(page)
        if self._at.thread_cursor is None:
            self._at.threads.pop(0)
            if not self._at.threads and self._at.cursor is None:
                self._leave()
        replies = [one for one in page.get("messages", []) if one["ts"] != root]
        return await self._made(channel_id, replies, asked_at)

    async def _made(self, channel_id: str, messages: list[JsonObject], asked_at: str) -> list[IngestionEvent]:
        channel = await self._workspace.channel(channel_id)
        return [] if channel is None else await self._workspace.messages(channel, messages, asked_at)

    def _leave(self) -> None:
        """Go on to the next channel."""
        self._at.channels.pop(0)
        self._begin_channel()
        self._at.done += 1

    def _begin_channel(self) -> None:
        at = self._at
        at.cursor, at.latest, at.lowest, at.opened = None, None, None, False
        at.threads, at.thread_cursor = [], None
