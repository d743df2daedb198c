"""Reading again by id: messages, channels, threads and users, and the history of a channel page by page; and looking
again at who may read it."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from connections.slack_connection import SlackConnection
from ingestion.errors import BudgetExhaustedError, TransientError
from ingestion.slack.call_budget import RESTRICTED_PAGE
from ingestion.slack.channel_ends import channel_unseen
from ingestion.slack.client import next_cursor
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import send_events
from ingestion.slack.facts import ChannelFacts, JsonObject
from ingestion.slack.workspace import SHARED_AGAIN_AFTER, UNSEEN, Workspace
from ingestion.source import SourcePorts
from messaging.contracts import IngestionEvent, SourceWork
from messaging.queues import INGESTION_EVENTS, INGESTION_EVENTS_BULK, SOURCE_WORK
from messaging.times import from_text, to_text
from processors.mapping.slack import CHANNEL, MESSAGE
from processors.outcome import PermanentError
from shards.ordering import version_key

NO_CURSOR: Final = "-"
IDS_AT_ONCE: Final = 50
READ_BY: Final = timedelta(minutes=5)
"""How long after a channel was shared anew messages may still be sent as it was before: by work that was under way."""
COPIES_FOR: Final = timedelta(days=1)
"""How long events that wait for another try are taken for such messages."""


def history_request(channel_id: str, cursor: str | None = None) -> str:
    """The id under ``history`` that asks for a page of a channel, the newest first."""
    return f"{channel_id} {cursor or NO_CURSOR}"


async def ask_to_read(
    ports: SourcePorts, connection: SlackConnection, ids: Mapping[str, Sequence[str]], *, event_id: str | None
) -> None:
    """Ask for *ids*, by object type, to be read. The same *event_id* and ids ask once.

    Raises:
        BusUnavailableError: nothing was asked for.
    """
    works = [
        SourceWork(
            tenant_id=connection.tenant_id,
            connection_id=connection.connection_id,
            work="read",
            due_at=to_text(ports.clock()),
            ids={kind: list(named)},
            event_id=f"{event_id or to_text(ports.clock())}|{kind}|{named[0]}",
        )
        for kind, named in ids.items()
        if named
    ]
    await ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK) for work in works])


class Reads:
    """Reads by id for one piece of work."""

    def __init__(self, workspace: Workspace, work: SourceWork) -> None:
        self._workspace = workspace
        self._client = workspace.client
        self._ports = workspace.ports
        self._work = work

    async def take(self) -> int:
        """Read what the work names; how many events were sent.

        Raises:
            PermanentError: it names something else.
            TransientError, CredentialError: as they say.
        """
        takers = {
            "channel": self._channel,
            "user": self._user,
            "message": self._message,
            "thread": self._thread,
            "history": self._history,
            "sharing": self._sharing,
        }
        for kind in self._work.ids:
            if kind not in takers:
                raise PermanentError(
                    "invalid-message", f"{kind[:40]!r} can't be read by id; known: {', '.join(takers)}"
                )
        sent = 0
        named = [(kind, one) for kind, ids in self._work.ids.items() for one in ids]
        for place, (kind, one) in enumerate(named):
            try:
                sent += await takers[kind](one)
            except (TransientError, BudgetExhaustedError):
                if place == 0:
                    raise
                # Where a call a minute is all there is, who began anew would never come to the second.
                await self._ask_for_rest(named[place:])
                return sent
        return sent

    async def _ask_for_rest(self, named: Sequence[tuple[str, str]]) -> None:
        rest: dict[str, list[str]] = {}
        for kind, one in named:
            rest.setdefault(kind, []).append(one)
        for kind, ids in rest.items():
            await self._ask_next({kind: ids}, f"{kind} rest {ids[0]}")

    async def _sent(self, events: Sequence[IngestionEvent]) -> int:
        met, self._workspace.met = self._workspace.met, []
        return await send_events(self._ports.bus, [*met, *events])

    async def _channel(self, channel_id: str) -> int:
        self._workspace.forget_channel(channel_id)
        try:
            await self._workspace.read_channel(channel_id, with_guests=True)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            return await channel_unseen(self._workspace, channel_id)
        return await self._sent([])

    async def _user(self, user_id: str) -> int:
        asked_at = to_text(self._ports.clock())
        answer = await self._client.call("users.info", user=user_id)
        await self._workspace.meet(answer["user"], asked_at)
        return await self._sent([])

    async def _message(self, external_id: str) -> int:
        channel_id, _, ts = external_id.partition(":")
        channel = await self._workspace.channel(channel_id)
        if channel is None:
            return 0
        asked_at = to_text(self._ports.clock())
        try:
            message = await read_message(self._workspace, channel_id, ts)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            return await self._sent([])
        if message is None:
            return await self._sent(await self.gone(channel, external_id, asked_at))
        return await self._sent(await self._workspace.messages(channel, [message], asked_at))

    async def gone(self, channel: ChannelFacts, external_id: str, asked_at: str) -> list[IngestionEvent]:
        """The end of a stored message that was not to be found at *asked_at*: whatever is newer wins over it."""
        events = self._workspace.events
        shard = await self._ports.store.get(
            self._workspace.connection.tenant_id, events.shard_id(MESSAGE, external_id, channel.home)
        )
        if shard is None or not shard.is_live:
            return []
        version = max((one.source_version for one in shard.external_relationships), key=version_key)
        return [events.gone(MESSAGE, external_id, channel.home, version, asked_at)]

    async def _thread(self, request: str) -> int:
        """A page of a thread; the next is asked for by itself."""
        external_id, _, cursor = request.partition(" ")
        channel_id, _, root = external_id.partition(":")
        channel = await self._workspace.channel(channel_id)
        if channel is None:
            return 0
        asked_at = to_text(self._ports.clock())
        try:
            page = await thread_page(self._workspace, channel_id, root, cursor=cursor or None)
        except RefusedError as error:
            if error.code == "invalid_cursor" and cursor:
                await self._ask_next({"thread": [external_id]}, f"again {asked_at}")
                return 0
            if error.code not in UNSEEN | {"thread_not_found"}:
                raise
            return 0
        messages = replies_of(page, root, first=not cursor)
        sent = await self._sent(await self._workspace.messages(channel, messages, asked_at))
        after = next_cursor(page)
        if after is not None:
            await self._ask_next({"thread": [f"{external_id} {after}"]}, after)
        return sent

    async def _history(self, request: str) -> int:
        """A page of a channel with its threads; the next is asked for by itself, behind what waits already."""
        channel_id, _, cursor = request.partition(" ")
        channel = await self._workspace.channel(channel_id)
        if channel is None:
            return 0
        asked_at = to_text(self._ports.clock())
        try:
            page = await history_page(self._workspace, channel_id, cursor=None if cursor in ("", NO_CURSOR) else cursor)
        except RefusedError as error:
            if error.code == "invalid_cursor":
                await self._ask_next({"history": [history_request(channel_id)]}, f"again {asked_at}")
                return 0
            if error.code not in UNSEEN:
                raise
            return await self._sent([])
        messages = page.get("messages", [])
        events = await self._workspace.messages(channel, messages, asked_at)
        met, self._workspace.met = self._workspace.met, []
        sent = await send_events(self._ports.bus, [*met, *events], INGESTION_EVENTS_BULK)
        roots = [f"{channel_id}:{one['ts']}" for one in messages if has_replies(one)]
        for start in range(0, len(roots), IDS_AT_ONCE):
            await self._ask_next({"thread": roots[start : start + IDS_AT_ONCE]}, roots[start])
        after = next_cursor(page)
        if after is not None:
            await self._ask_next({"history": [history_request(channel_id, after)]}, after)
        return sent

    async def _sharing(self, request: str) -> int:
        """Who may read the messages of a channel, if it is still shared as it was."""
        channel_id, _, how = request.partition(" ")
        home = await self._workspace.stored_home(channel_id)
        shard_id = self._workspace.events.shard_id(CHANNEL, channel_id, home)
        shard = await self._ports.store.get(self._workspace.connection.tenant_id, shard_id)
        if shard is not None and shard.is_live:
            await self._workspace.share_messages(shard, only_scoped=how == "scoped")
            await self._look_again(request)
        return 0

    async def _look_again(self, request: str) -> None:
        """Have the last look at a channel's messages followed by another while some may still be on their way."""
        shared_at, now, pause = from_text(self._work.due_at), self._ports.clock(), SHARED_AGAIN_AFTER[-1]
        if now - shared_at < pause / 2:
            # One of the looks that are followed by the last anyway.
            return
        depths = await self._ports.bus.depths()
        for queue in (INGESTION_EVENTS, INGESTION_EVENTS_BULK):
            oldest = depths[queue].oldest_enqueued_at
            # A copy that waits for another try tells nothing of when its first was sent.
            may_be_copies = depths[queue].scheduled and now - shared_at < COPIES_FOR
            if may_be_copies or (oldest is not None and oldest <= shared_at + READ_BY):
                await self._workspace.look_at_sharing(request, self._work.due_at, pause)
                return

    async def _ask_next(self, ids: dict[str, list[str]], name: str) -> None:
        root_id = (self._work.event_id or self._work.due_at).partition("||")[0]
        await ask_to_read(self._ports, self._workspace.connection, ids, event_id=f"{root_id}||{name}")


def has_replies(message: JsonObject) -> bool:
    """Whether a message of a listing is the root of a thread."""
    replies = message.get("reply_count")
    return isinstance(replies, int) and replies > 0 and message.get("thread_ts", message.get("ts")) == message.get("ts")


async def history_page(
    workspace: Workspace,
    channel_id: str,
    *,
    cursor: str | None = None,
    oldest: str | None = None,
    latest: str | None = None,
) -> JsonObject:
    """A page of a channel's own messages, the newest first.

    Raises:
        RefusedError, TransientError, CredentialError: as for the call.
    """
    method = "conversations.history"
    limit = workspace.client.budget.history_page(method)
    window = {"oldest": oldest, "latest": latest}
    return await workspace.client.call(method, channel=channel_id, cursor=cursor, **window, limit=limit)


async def thread_page(workspace: Workspace, channel_id: str, root: str, *, cursor: str | None = None) -> JsonObject:
    """A page of a thread, the oldest first.

    Raises:
        RefusedError, TransientError, CredentialError, BudgetExhaustedError: as for the call.
    """
    method = "conversations.replies"
    limit = workspace.client.budget.history_page(method)
    return await workspace.client.call(method, channel=channel_id, ts=root, cursor=cursor, limit=limit)


def replies_of(page: JsonObject, root: str, *, first: bool) -> list[JsonObject]:
    """The messages of a page of a thread; the root, which Slack puts on every page, with the *first* alone."""
    messages: list[JsonObject] = page.get("messages", [])
    return messages if first else [one for one in messages if one["ts"] != root]


async def read_message(workspace: Workspace, channel_id: str, ts: str) -> JsonObject | None:
    """One message as it is now, a reply too; None when it is not there.

    Raises:
        RefusedError, TransientError, CredentialError, BudgetExhaustedError: as for the calls.
    """
    window = {"channel": channel_id, "oldest": ts, "latest": ts, "inclusive": True}
    page = await workspace.client.call("conversations.history", **window, limit=1)
    found = _named(page, ts)
    if found is not None:
        return found
    try:
        async for page in workspace.client.pages("conversations.replies", **window, ts=ts, limit=RESTRICTED_PAGE):
            found = _named(page, ts)
            if found is not None:
                return found
    except RefusedError as error:
        if error.code != "thread_not_found":
            raise
    return None


def _named(page: JsonObject, ts: str) -> JsonObject | None:
    return next((one for one in page.get("messages", []) if one.get("ts") == ts), None)
