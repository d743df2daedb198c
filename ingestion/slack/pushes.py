"""What Slack's events tell, as ingestion events: a message is whole in its event, all else is read again.

Events come late, twice, and in any order; so none of them says what is, only that something has changed.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from ingestion.errors import CredentialError
from ingestion.slack.channel_ends import channel_deleted, channel_moved, channel_unseen
from ingestion.slack.errors import RefusedError
from ingestion.slack.events import send_events, ts_of, ts_order
from ingestion.slack.facts import ChannelFacts, JsonObject, is_wanted
from ingestion.slack.reads import ask_to_read, history_request
from ingestion.slack.workspace import UNSEEN, Workspace, pushed_at
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_milliseconds, to_text
from processors.mapping.slack import MESSAGE
from processors.outcome import PermanentError

log = logging.getLogger(__name__)

END_WINS_FOR: Final = timedelta(minutes=10)
"""A channel's version is when it was read: how much later than its end a reading has to be that takes this back."""

_DIRECT: Final = frozenset({"im", "mpim", "app_home"})
_CHANGED: Final = frozenset({"message_changed", "message_replied"})

_REREAD: Final = frozenset(
    {
        "channel_created", "channel_rename", "channel_archive", "channel_unarchive", "channel_shared",
        "channel_unshared", "channel_convert_to_private", "channel_convert_to_public", "channel_open", "channel_close",
        "group_rename", "group_archive", "group_unarchive", "group_open", "group_close", "group_shared",
        "group_unshared", "shared_channel_invite_accepted",
    }
)  # fmt: skip
_USERS: Final = frozenset({"user_change", "team_join", "user_profile_changed"})
_TEAM: Final = frozenset({"team_rename", "team_domain_change", "team_profile_change"})
_ENDED: Final = frozenset({"tokens_revoked", "app_uninstalled", "team_access_revoked", "app_uninstalled_team"})
_MARKS: Final = frozenset({"reaction_added", "reaction_removed", "pin_added", "pin_removed"})
_NOTHING: Final = frozenset({"team_access_granted", "app_home_opened", "app_installed", "app_requested"})
"""Events that change nothing that is kept."""


class Pushed:
    """One push, taken. *work* holds the envelope as it came."""

    def __init__(self, workspace: Workspace, work: SourceWork) -> None:
        self._workspace = workspace
        self._connection = workspace.connection
        self._ports = workspace.ports
        self._work = work
        envelope = work.push or {}
        self._envelope = envelope
        event = envelope.get("event")
        self._event: JsonObject = event if isinstance(event, dict) else {}
        self._read_at = pushed_at(self._event, work.due_at)
        self._id = work.event_id

    async def take(self) -> int:
        """Make events of it; how many were sent.

        Raises:
            PermanentError: nobody here knows what to make of it.
            TransientError, CredentialError, StateMovedError: as they say.
            BusUnavailableError, StoreUnavailableError: the same push works later.
        """
        if self._envelope.get("type") == "app_rate_limited":
            return await self._catch_up()
        kind = self._event.get("type")
        take = self._taker(kind) if isinstance(kind, str) else None
        if take is None:
            raise PermanentError(
                "unknown-event",
                f"{str(kind or self._envelope.get('type'))[:80]!r} is no event of Slack's that this version knows: "
                "subscribe the app to those of its manifest alone, or deploy a version that knows it, then replay",
            )
        return await take()

    def _taker(self, kind: str) -> Callable[[], Awaitable[int]] | None:  # noqa: PLR0911 - one a kind
        if kind == "message":
            return self._message
        if kind in _REREAD:
            return self._channel
        if kind in ("channel_deleted", "group_deleted"):
            return self._channel_deleted
        if kind in ("channel_left", "group_left"):
            return self._left
        if kind in ("member_joined_channel", "member_left_channel"):
            return self._membership
        taker = {
            "channel_id_changed": self._channel_moved,
            "channel_history_changed": self._history_changed,
            "group_history_changed": self._history_changed,
        }.get(kind)
        if taker is not None:
            return taker
        groups: tuple[tuple[frozenset[str], Callable[[], Awaitable[int]]], ...] = (
            (_USERS, self._user),
            (_TEAM, self._team),
            (_ENDED, self._ended),
            (_MARKS, self._marked),
            (_NOTHING, self._nothing),
        )
        return next((taker for kinds, taker in groups if kind in kinds), None)

    async def _nothing(self) -> int:
        return 0

    # Messages

    async def _message(self) -> int:
        event = self._event
        channel_id = self._channel_id()
        if str(event.get("channel_type")) in _DIRECT or not is_wanted(self._connection, channel_id):
            return 0
        channel = await self._workspace.channel(channel_id)
        if channel is not None and self._turned_private(channel):
            # No other event tells of it, and what is remembered would show the message to all.
            self._workspace.forget_channel(channel_id)
            closed = replace(channel, is_private=True, readers=None)
            try:
                channel = await self._workspace.read_channel(channel_id)
            except RefusedError as error:
                if error.code not in UNSEEN:
                    raise
                channel = closed
        if channel is None:
            return await self._hand_over(channel_id)
        if event.get("subtype") == "message_deleted":
            ts = self._ts(event.get("deleted_ts") or self._inner("previous_message").get("ts"))
            version = self._ts(event.get("event_ts") or event.get("ts"))
            gone = self._workspace.events.gone(
                MESSAGE, f"{channel.id}:{ts}", channel.home, version, self._read_at, event_id=self._id
            )
            return await self._send([gone])
        message = dict(event)
        if str(event.get("subtype")) in _CHANGED or (isinstance(event.get("message"), dict) and "user" not in event):
            before = self._inner("previous_message")
            message = {**self._inner("message")}
            message.setdefault("ts", before.get("ts"))
        self._ts(message.get("ts"))
        sent = await self._send(await self._workspace.messages(channel, [message], self._read_at, self._id))
        await self._ask_for_root(channel, message)
        return sent

    async def _hand_over(self, channel_id: str) -> int:
        """Have the connection that reads a shared channel take what this one was told: Slack tells an app of it once,
        wherever it is installed."""
        reader = self._workspace.left_to.get(channel_id)
        if reader is not None:
            work = self._work.model_copy(update={"connection_id": reader})
            await self._ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])
        return 0

    async def _ask_for_root(self, channel: ChannelFacts, message: JsonObject) -> None:
        """Have the root of a late reply read where it is not stored: its text is the one that the reply is found by."""
        root = message.get("thread_ts")
        if not isinstance(root, str) or root == message.get("ts"):
            return
        external_id = f"{channel.id}:{self._ts(root)}"
        shard_id = self._workspace.events.shard_id(MESSAGE, external_id, channel.home)
        if await self._ports.store.get(self._connection.tenant_id, shard_id) is None:
            ids = {"message": [external_id]}
            await ask_to_read(self._ports, self._connection, ids, event_id=f"root of {self._id}")

    def _turned_private(self, channel: ChannelFacts) -> bool:
        event = self._event
        return not channel.is_private and (
            event.get("channel_type") == "group" or event.get("subtype") == "channel_convert_to_private"
        )

    def _inner(self, name: str) -> JsonObject:
        value = self._event.get(name)
        return value if isinstance(value, dict) else {}

    def _ts(self, value: object) -> str:
        try:
            ts_order(value if isinstance(value, str) else "")
        except ValueError:
            raise PermanentError(
                "invalid-record", f"{self._event.get('type')}: {str(value)[:40]!r} is no message time"
            ) from None
        return str(value)

    async def _marked(self) -> int:
        """A reaction or pin: the message is read again."""
        item = self._inner("item")
        channel, ts = item.get("channel") or self._event.get("channel_id"), item.get("ts")
        if ts is None and isinstance(item.get("message"), dict):
            ts = item["message"].get("ts")
        if not isinstance(channel, str) or not isinstance(ts, str) or not is_wanted(self._connection, channel):
            return 0
        await ask_to_read(self._ports, self._connection, {"message": [f"{channel}:{ts}"]}, event_id=self._id)
        return 0

    # Channels

    def _channel_id(self) -> str:
        """Some events name their channel, some bring it."""
        channel = self._event.get("channel")
        value = channel.get("id") if isinstance(channel, Mapping) else channel
        if not isinstance(value, str) or not value:
            raise PermanentError("invalid-record", f"{self._event.get('type')}: the event names no channel")
        return value

    async def _channel(self, *, with_guests: bool = False) -> int:
        """Read the channel again: what comes first, a creation, a rename or an archiving, makes it."""
        channel_id = self._channel_id()
        self._workspace.forget_channel(channel_id)
        try:
            await self._workspace.read_channel(channel_id, event_id=self._id, with_guests=with_guests)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            # Private, and the bot is not in it, or gone meanwhile: another event or the next listing says which.
            log.info("channel %s of %s is not shown: %s", channel_id, self._connection.connection_id, error)
        await self._hand_over(channel_id)
        return await self._send([])

    async def _channel_deleted(self) -> int:
        if await self._workspace.ends_here_alone(self._channel_id()):
            return 0
        return await channel_deleted(
            self._workspace, self._channel_id(), self._version_of_end(), self._read_at, self._id
        )

    def _version_of_end(self) -> str:
        """The version of a channel's end: above that of any reading which did not see it, or closed the channel because
        it saw none, and was faster."""
        latest = ts_of(self._ports.clock() + END_WINS_FOR)
        return max(self._ts(self._event.get("event_ts") or "0.0"), latest, key=ts_order)

    async def _channel_moved(self) -> int:
        old, new = self._event.get("old_channel_id"), self._event.get("new_channel_id")
        if not isinstance(old, str) or not isinstance(new, str) or not old or not new:
            raise PermanentError("invalid-record", "channel_id_changed: the event does not name both ids")
        if await self._workspace.ends_here_alone(old):
            return 0
        version = self._version_of_end()
        sent = await channel_moved(self._workspace, old, new, version=version, read_at=self._read_at, event_id=self._id)
        await ask_to_read(
            self._ports, self._connection, {"channel": [new], "history": [history_request(new)]}, event_id=self._id
        )
        return sent

    async def _left(self) -> int:
        """The bot was removed: nobody can say any more who reads a private channel."""
        return await channel_unseen(self._workspace, self._channel_id())

    async def _membership(self) -> int:
        channel_id = self._channel_id()
        if not is_wanted(self._connection, channel_id):
            return 0
        mine = self._event.get("user") == self._own_user()
        if mine and self._event.get("type") == "member_left_channel":
            return await self._left()
        if mine:
            # From now on the channel can be read, with what was said in it before.
            sent = await self._channel(with_guests=True)
            await ask_to_read(
                self._ports, self._connection, {"history": [history_request(channel_id)]}, event_id=self._id
            )
            return sent
        if self._event.get("channel_type") == "C":
            known = await self._workspace.channel(channel_id)
            if known is not None and not known.is_private and not await self._is_of_guest():
                # Which of the tenant's own are in a public channel changes nothing of who may read it.
                return await self._send([])
        return await self._channel(with_guests=True)

    async def _is_of_guest(self) -> bool:
        user = self._event.get("user")
        people = await self._workspace.people([user] if isinstance(user, str) else [])
        return any(one.is_guest for one in people.values())

    def _own_user(self) -> str | None:
        if self._connection.bot_user is not None:
            return self._connection.bot_user
        authorizations = self._envelope.get("authorizations")
        first = authorizations[0] if isinstance(authorizations, list) and authorizations else None
        user = first.get("user_id") if isinstance(first, dict) and first.get("is_bot") else None
        return user if isinstance(user, str) else None

    async def _history_changed(self) -> int:
        channel = self._event.get("channel")
        if isinstance(channel, str) and channel:
            if is_wanted(self._connection, channel):
                await ask_to_read(
                    self._ports, self._connection, {"history": [history_request(channel)]}, event_id=self._id
                )
            return 0
        return await self._catch_up()

    # The rest

    async def _user(self) -> int:
        user = self._event.get("user")
        if isinstance(user, str):
            await ask_to_read(self._ports, self._connection, {"user": [user]}, event_id=self._id)
            return 0
        if not isinstance(user, dict) or not isinstance(user.get("id"), str):
            raise PermanentError("invalid-record", f"{self._event.get('type')}: the event brings no user")
        await self._workspace.meet(user, self._read_at, self._id)
        return await self._send([])

    async def _team(self) -> int:
        """The workspace goes by another name or address."""
        answer = await self._workspace.client.call("auth.test")
        url = answer.get("url")
        if isinstance(url, str) and url and answer.get("team_id") == self._connection.instance:
            await self._ports.registry.set_instance(self._connection, self._connection.instance, url)
        return 0

    async def _ended(self) -> int:
        """The app was removed, or its token revoked, unless it has been installed again since."""
        tokens = self._inner("tokens")
        if self._event.get("type") == "tokens_revoked" and not tokens.get("bot") and tokens.get("oauth"):
            return 0  # tokens of users, of which none is used here
        try:
            await self._workspace.client.call("auth.test")
        except CredentialError as error:
            told = (
                "the app was uninstalled" if self._event.get("type") == "app_uninstalled" else "its token was revoked"
            )
            resume = f"'shardline connections --resume {self._connection.connection_id}'"
            message = f"Slack says that {told}. {error}; then {resume}"
            log.warning("connection %s of %s: %s", self._connection.connection_id, self._connection.tenant_id, message)
            await self._ports.registry.set_status(self._connection, "failed", error_message=message, only_from="active")
        return 0

    async def _catch_up(self) -> int:
        """Have the workspace compared with what is stored: events were dropped from some minute on."""
        minute = self._envelope.get("minute_rate_limited")
        since = int(minute) if isinstance(minute, int) and 0 < minute < 10**11 else None
        now = self._ports.clock()
        # The minute itself may still be under way, and so may what Slack has not dropped.
        over = from_milliseconds((since + 60) * 1000) if since is not None else now
        delay = min(max(over - now, timedelta(0)), timedelta(minutes=2))
        work = SourceWork(
            tenant_id=self._connection.tenant_id,
            connection_id=self._connection.connection_id,
            work="poll",
            due_at=to_text(now + delay),
            ids={"since": [str(since if since is not None else int(now.timestamp()))]},
            event_id=self._id,
        )
        await self._ports.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)], delay=delay or None)
        return 0

    async def _send(self, events: list[Any]) -> int:
        """Send *events* behind what was met on the way."""
        return await send_events(self._ports.bus, [*self._workspace.met, *events])
