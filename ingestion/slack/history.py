"""The first load: users, channels, then each channel's messages page by page, each page's threads behind it.

A position is plain JSON, and a page is one call or a few; nothing is kept beside it.
"""

from typing import Any, Final

import msgspec

from ingestion.slack.client import next_cursor
from ingestion.slack.errors import RefusedError
from ingestion.slack.facts import JsonObject, is_private, is_wanted
from ingestion.slack.listing import CHANNELS_A_PAGE, USERS_A_PAGE, channel_types, make_readable, team_of
from ingestion.slack.reads import has_replies, history_page
from ingestion.slack.workspace import UNSEEN, Workspace
from ingestion.source import HistoryPage, Position
from messaging.contracts import IngestionEvent
from messaging.times import to_text

STAGES: Final = ("users", "channels", "messages")


class HistoryPosition(msgspec.Struct, rename="camel", omit_defaults=True):
    """Where the history stands.

    *cursor* is of the stage's list, in the last stage of the first of *channels*, which are those left. *threads* are
    roots of the last page whose replies come next, *thread_cursor* where in the first of them. *done* channels had
    *records*, of *total* channels.
    """

    stage: str = "users"
    cursor: str | None = None
    channels: list[str] = msgspec.field(default_factory=list)
    opened: bool = False
    threads: list[str] = msgspec.field(default_factory=list)
    thread_cursor: str | None = None
    done: int = 0
    total: int = 0
    records: int = 0


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
    return HistoryPage(met, next_position, total, estimated=total is not None)


class _Page:
    """One page; *at* is moved on to the next."""

    def __init__(self, workspace: Workspace, at: HistoryPosition) -> None:
        self._workspace = workspace
        self._connection = workspace.connection
        self._client = workspace.client
        self._at = at

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
            self._workspace.meet(raw, asked_at)
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
        try:
            if not at.opened:
                at.opened = await self._open(channel_id)
                if not at.opened:
                    self._leave()
                return []
            if at.threads:
                return await self._thread(channel_id, at.threads[0])
            return await self._messages(channel_id)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            self._leave()
            return []

    async def _open(self, channel_id: str) -> bool:
        """Whether the channel can be read; a private one is met with its members."""
        answer = await self._client.call("conversations.info", channel=channel_id, include_num_members=True)
        raw = dict(answer["channel"])
        readable = await make_readable(self._connection, self._client, raw)
        if is_private(raw):
            return await self._workspace.read_channel(channel_id, raw=raw) is not None and readable
        return readable

    async def _messages(self, channel_id: str) -> list[IngestionEvent]:
        asked_at = to_text(self._workspace.ports.clock())
        try:
            page = await history_page(self._workspace, channel_id, cursor=self._at.cursor)
        except RefusedError as error:
            if error.code != "invalid_cursor":
                raise
            page = await history_page(self._workspace, channel_id)
        messages = page.get("messages", [])
        self._at.threads = [one["ts"] for one in messages if has_replies(one)]
        self._at.cursor = next_cursor(page)
        if self._at.cursor is None and not self._at.threads:
            self._leave()
        return await self._made(channel_id, messages, asked_at)

    async def _thread(self, channel_id: str, root: str) -> list[IngestionEvent]:
        asked_at = to_text(self._workspace.ports.clock())
        method = "conversations.replies"
        limit = self._client.budget.history_page(method)
        arguments = {"channel": channel_id, "ts": root, "limit": limit}
        try:
            page = await self._client.call(method, **arguments, cursor=self._at.thread_cursor)
        except RefusedError as error:
            if error.code not in ("invalid_cursor", "thread_not_found"):
                raise
            page = (
                {"messages": []} if error.code == "thread_not_found" else await self._client.call(method, **arguments)
            )
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
        self._at.cursor, self._at.thread_cursor, self._at.threads, self._at.opened = None, None, [], False
        self._at.done += 1
