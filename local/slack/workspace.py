"""The workspace: its channels, messages and users, every way they change, and what the app is told of each change.

The app is a bot user. It is told what Slack would tell it: of public channels everything but what is said in them, of
what is said and who comes and goes where the bot is a member, of private channels nothing until it is invited.
"""

import secrets
import string
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ingestion.slack.export import SLACKBOT, made_id
from local.simulator_clock import SimulatorClock
from local.slack.channel import Channel, JsonObject

Installation = Literal["active", "revoked", "uninstalled"]

_MICROSECONDS = 1_000_000
_LONGEST_STANDSTILL = 60 * _MICROSECONDS
_LONGEST_NAME = 80
_ID_LETTERS = string.ascii_uppercase + string.digits


class WorkspaceError(Exception):
    """A change that the workspace refuses: an unknown channel, message or user, a name that is taken."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that the app is told of.

    *subscription* is the event's name in an app's settings (``message.channels``), *scope* what a token needs to be
    told, *team_id* the workspace of who did it: another one's in a channel that is shared.
    """

    event: JsonObject
    subscription: str
    scope: str | None
    team_id: str
    is_ext_shared: bool = False


class Workspace:
    """One workspace and one app in it. ``listeners`` are called with each :class:`Occurrence`, under :attr:`lock`.

    *message_replied* says whether a reply is told of at its root, too: without the subtype, as Slack has done.
    """

    def __init__(
        self,
        team_id: str,
        name: str = "Sandbox",
        *,
        domain: str = "sandbox",
        email_domain: str = "sandbox.example",
        clock: SimulatorClock | None = None,
    ) -> None:
        self.team_id = team_id
        self.name = name
        self.domain = domain
        self.email_domain = email_domain
        self.clock = clock or SimulatorClock()
        self.lock = threading.RLock()
        self.listeners: list[Callable[[Occurrence], None]] = []
        self.installation: Installation = "active"
        self.message_replied = False
        self.app_id = made_id("A", team_id, "shardline")
        self.bot_id = made_id("B", team_id, "shardline")
        self.bot_user_id = made_id("U", team_id, "shardline")
        self.channels: dict[str, Channel] = {}
        self.users: dict[str, JsonObject] = {}
        self.bots: dict[str, JsonObject] = {}
        self.files: dict[str, bytes] = {}
        self._last_micros = 0
        self.put_bot(self.bot_id, "shardline", app_id=self.app_id, user_id=self.bot_user_id)
        self.put_user({"id": self.bot_user_id, "name": "shardline", "real_name": "Shardline", "is_bot": True})
        self.put_user({"id": SLACKBOT, "name": "slackbot", "real_name": "Slackbot"})

    @property
    def url(self) -> str:
        """The workspace's own address."""
        return f"https://{self.domain}.slack.com/"

    def channel(self, channel_id: str) -> Channel:
        """The channel of that id.

        Raises:
            WorkspaceError: there is none.
        """
        try:
            return self.channels[channel_id]
        except KeyError:
            raise WorkspaceError(f"there is no channel {channel_id}") from None

    def channel_named(self, name: str) -> Channel:
        """The channel of that name.

        Raises:
            WorkspaceError: there is none.
        """
        for channel in self.channels.values():
            if channel.name == name:
                return channel
        raise WorkspaceError(f"there is no channel {name}")

    def describe(self, channel: Channel, *, num_members: bool = False) -> JsonObject:
        """The channel object that the app is shown."""
        return channel.describe(self.team_id, self.bot_user_id, num_members=num_members)

    # What is there before anything happens; the app is told nothing of it.

    def put_user(self, user: Mapping[str, Any]) -> JsonObject:
        """Add a user, or take it in place of the one of its id, with what every user has."""
        name = str(user.get("name", user["id"]))
        real_name = str(user.get("real_name", name))
        profile = {"real_name": real_name, "display_name": name, "email": f"{name}@{self.email_domain}"}
        if user.get("is_bot") or user["id"] == SLACKBOT:
            del profile["email"]
        made = {
            "team_id": self.team_id,
            "name": name,
            "deleted": False,
            "real_name": real_name,
            "tz": "Etc/UTC",
            "is_bot": False,
            "is_app_user": False,
            "updated": 0,
            **user,
            "profile": {**profile, **user.get("profile", {})},
        }
        self.users[made["id"]] = made
        return made

    def put_bot(self, bot_id: str, name: str, *, app_id: str = "", user_id: str = "") -> JsonObject:
        """Add an app's bot."""
        bot = {"id": bot_id, "deleted": False, "name": name, "updated": 0, "app_id": app_id, "user_id": user_id}
        self.bots[bot_id] = {field: value for field, value in bot.items() if value != ""}
        return self.bots[bot_id]

    def put_channel(self, channel: Channel) -> Channel:
        """Add a channel."""
        self.channels[channel.id] = channel
        return channel

    # Channels

    def create_channel(
        self,
        name: str,
        *,
        user: str | None = None,
        private: bool = False,
        members: Sequence[str] = (),
        channel_id: str | None = None,
    ) -> Channel:
        """Make a channel; *members* are invited by who makes it. A private one is told of only where the bot is."""
        with self.lock:
            creator = self._actor(user)
            self._check_name(name)
            seconds = int(self.clock().timestamp())
            channel = Channel(
                id=channel_id or _fresh_id("C"),
                name=name,
                created=seconds,
                creator=creator,
                home_team=self.team_id,
                updated=seconds * 1000,
                is_private=private,
            )
            self.put_channel(channel)
            if not private:
                described = self.describe(channel)
                for field in ("is_member", "last_read", "properties", "parent_conversation"):
                    described.pop(field, None)
                self._tell_of(channel, {"type": "channel_created", "channel": described})
            for member in dict.fromkeys((creator, *members)):
                self.join(channel.id, member, inviter=None if member == creator else creator)
            return channel

    def rename_channel(self, channel_id: str, name: str, *, user: str | None = None) -> None:
        """Give it another name; the old one is kept among its previous names."""
        with self.lock:
            channel = self.channel(channel_id)
            self._check_name(name)
            old, channel.name = channel.name, name
            channel.previous_names.insert(0, old)
            self._touch(channel)
            said = {"id": channel.id, "is_channel": True, "is_mpim": False, "name": name, "name_normalized": name}
            event = {"type": self._event_type(channel, "rename"), "channel": {**said, "created": channel.created}}
            self._tell_of(channel, event)
            text = f'has renamed the channel from "{old}" to "{name}"'
            self._say(channel, "channel_name", self._actor(user), text, old_name=old, name=name)

    def archive_channel(self, channel_id: str, *, user: str | None = None) -> None:
        """Close it for writing."""
        with self.lock:
            channel = self._open(channel_id)
            actor = self._actor(user)
            self._say(channel, "channel_archive", actor, f"<@{actor}> archived the channel")
            channel.is_archived = True
            self._touch(channel)
            event = {"type": self._event_type(channel, "archive"), "channel": channel.id, "user": actor}
            self._tell_of(channel, {**event, "is_moved": 0})

    def unarchive_channel(self, channel_id: str, *, user: str | None = None) -> None:
        """Open it again."""
        with self.lock:
            channel = self.channel(channel_id)
            if not channel.is_archived:
                raise WorkspaceError(f"{channel_id} is not archived")
            actor = self._actor(user)
            channel.is_archived = False
            self._touch(channel)
            event = {"type": self._event_type(channel, "unarchive"), "channel": channel.id, "user": actor}
            self._tell_of(channel, event)
            self._say(channel, "channel_unarchive", actor, f"<@{actor}> un-archived the channel")

    def delete_channel(self, channel_id: str, *, user: str | None = None) -> None:
        """Remove it with all that is in it."""
        with self.lock:
            channel = self.channel(channel_id)
            del self.channels[channel_id]
            event = {"type": self._event_type(channel, "deleted"), "channel": channel.id}
            self._tell_of(channel, {**event, "actor_id": self._actor(user)})

    def change_channel_id(self, channel_id: str, new_id: str) -> None:
        """Give it another id, as sharing and moving do at times; the old one leads nowhere."""
        with self.lock:
            channel = self.channel(channel_id)
            if new_id in self.channels:
                raise WorkspaceError(f"there is a channel {new_id} already")
            del self.channels[channel_id]
            channel.id = new_id
            self.put_channel(channel)
            self._touch(channel)
            event = {"type": "channel_id_changed", "old_channel_id": channel_id, "new_channel_id": new_id}
            self._tell_of(channel, event)

    def share_channel(self, channel_id: str, team_id: str, *, hosted_there: bool = False) -> None:
        """Share it with another workspace through Slack Connect; *hosted_there* makes that one its home."""
        with self.lock:
            channel = self.channel(channel_id)
            if hosted_there:
                channel.home_team, team_id = team_id, channel.home_team
            if team_id not in channel.teams:
                channel.teams.append(team_id)
            self._touch(channel)
            other = channel.home_team if hosted_there else team_id
            event = {"type": "channel_shared", "connected_team_id": other, "channel": channel.id}
            self._tell_of(channel, event)

    def unshare_channel(self, channel_id: str, team_id: str) -> None:
        """End the sharing with a workspace."""
        with self.lock:
            channel = self.channel(channel_id)
            if team_id == self.team_id or team_id not in (channel.home_team, *channel.teams):
                raise WorkspaceError(f"{channel_id} is not shared with {team_id}")
            channel.home_team = self.team_id
            channel.teams = [team for team in channel.teams if team not in (team_id, self.team_id)]
            self._touch(channel)
            event = {"type": "channel_unshared", "previously_connected_team_id": team_id, "channel": channel.id}
            self._tell_of(channel, {**event, "is_ext_shared": bool(channel.teams)})

    def set_topic(self, channel_id: str, value: str, *, user: str | None = None) -> None:
        """Say what the channel is about now."""
        self._set_about(channel_id, "topic", value, user)

    def set_purpose(self, channel_id: str, value: str, *, user: str | None = None) -> None:
        """Say what the channel is for."""
        self._set_about(channel_id, "purpose", value, user)

    def _set_about(self, channel_id: str, about: Literal["topic", "purpose"], value: str, user: str | None) -> None:
        with self.lock:
            channel, actor = self._open(channel_id), self._actor(user)
            setattr(channel, about, {"value": value, "creator": actor, "last_set": int(self.clock().timestamp())})
            self._touch(channel)
            text = f"<@{actor}> set the channel {about}: {value}"
            self._say(channel, f"channel_{about}", actor, text, **{about: value})

    # Members

    def join(self, channel_id: str, user: str | None = None, *, inviter: str | None = None) -> None:
        """Let *user* in, the bot where none is named. Others come into a private channel by invitation only."""
        with self.lock:
            channel = self._open(channel_id)
            member = self._known(user or self.bot_user_id)
            if member in channel.members:
                return
            if channel.is_private and inviter is None and member != channel.creator:
                raise WorkspaceError(f"{channel_id} is private; say who invites (inviter)")
            channel.members[member] = None
            event = {"type": "member_joined_channel", "user": member, "channel": channel.id}
            event |= {"channel_type": "G" if channel.is_private else "C", "team": self.team_id}
            by = {"inviter": self._known(inviter)} if inviter is not None else {}
            self._tell_of(channel, {**event, **by}, members_only=True)
            self._say(channel, "channel_join", member, f"<@{member}> has joined the channel", **by)

    def leave(self, channel_id: str, user: str | None = None, *, actor: str | None = None) -> None:
        """Let *user* out, the bot where none is named; *actor* is who removes them."""
        with self.lock:
            channel = self.channel(channel_id)
            member = user or self.bot_user_id
            if member not in channel.members:
                raise WorkspaceError(f"{member} is not in {channel_id}")
            del channel.members[member]
            if member == self.bot_user_id:
                event = {"type": self._event_type(channel, "left"), "channel": channel.id}
                self._tell_of(channel, {**event, "actor_id": actor or member}, always=True)
                return
            event = {"type": "member_left_channel", "user": member, "channel": channel.id}
            event |= {"channel_type": "G" if channel.is_private else "C", "team": self.team_id}
            self._tell_of(channel, event, members_only=True)
            self._say(channel, "channel_leave", member, f"<@{member}> has left the channel")

    # Messages

    def post(
        self,
        channel_id: str,
        text: str = "",
        *,
        user: str | None = None,
        thread_ts: str | None = None,
        broadcast: bool = False,
        files: Sequence[Mapping[str, Any]] = (),
        bot_id: str | None = None,
        classic: bool = False,
        user_team: str | None = None,
        ts: str | None = None,
        **fields: Any,
    ) -> str:
        """Write a message, or with *thread_ts* a reply, which *broadcast* shows in the channel, too. Its ts.

        *files* are ``{name, content?, mimetype?, title?}``. With *bot_id* an app writes, *classic* in the old way,
        with the subtype ``bot_message``. *user_team* is the other workspace of who writes in a shared channel.
        *fields* come into the message as they are.
        """
        with self.lock:
            channel = self._open(channel_id)
            if thread_ts is not None:
                if thread_ts not in channel:
                    raise WorkspaceError(f"there is no message {thread_ts} in {channel_id}")
                thread_ts = channel.root_of(thread_ts)
            message: JsonObject = {"type": "message", "text": text, "ts": ts or self._next_ts(channel)}
            if message["ts"] in channel:
                raise WorkspaceError(f"there is a message {message['ts']} in {channel_id} already")
            message |= self._author(user, bot_id, classic, user_team)
            if text and not classic:
                message["blocks"] = _blocks(text)
            if files:
                shared = [self._file(file, str(message.get("user", ""))) for file in files]
                message |= {"files": shared, "upload": False, "display_as_bot": False, "subtype": "file_share"}
            if thread_ts is not None:
                message["thread_ts"] = thread_ts
                if broadcast:
                    message |= {"subtype": "thread_broadcast", "root": channel.message(thread_ts)}
            message |= fields
            channel.put(message)
            self._tell_message(channel, channel.message(message["ts"]), team_id=user_team)
            if thread_ts is not None and self.message_replied:
                event = {"message": channel.message(thread_ts), "hidden": True, "ts": message["ts"]}
                self._tell_message(channel, {"type": "message", **event})
            return str(message["ts"])

    def edit(self, channel_id: str, ts: str, text: str, *, user: str | None = None) -> None:
        """Change a message's text, as its author."""
        with self.lock:
            channel = self._open(channel_id)
            before = self._message(channel, ts)
            when = self._next_ts(channel)
            edited = {"user": user or before.get("user", self.bot_user_id), "ts": f"{when.partition('.')[0]}.000000"}
            self._change(channel, before, {"text": text, "blocks": _blocks(text), "edited": edited}, when)

    def unfurl(self, channel_id: str, ts: str, attachments: Sequence[Mapping[str, Any]]) -> None:
        """Show what a link in a message leads to: a change without an edit."""
        with self.lock:
            channel = self._open(channel_id)
            before = self._message(channel, ts)
            self._change(channel, before, {"attachments": [dict(item) for item in attachments]}, self._next_ts(channel))

    def delete_message(self, channel_id: str, ts: str) -> None:
        """Take a message back. A root with replies leaves a tombstone, which goes with the last of them."""
        with self.lock:
            channel = self._open(channel_id)
            before = self._message(channel, ts)
            when = self._next_ts(channel)
            if channel.replies_of(ts):
                channel.put(tombstone(ts))
                self._tell_change(channel, before, when)
                return
            root = channel.root_of(ts)
            root_before = channel.message(root) if root != ts and root in channel else None
            channel.remove(ts)
            event = {"subtype": "message_deleted", "previous_message": before, "deleted_ts": ts, "hidden": True}
            self._tell_message(channel, {"type": "message", **event, "ts": when})
            if root_before is None:
                return
            if root_before.get("subtype") == "tombstone" and not channel.replies_of(root):
                self.delete_message(channel_id, root)
            else:
                self._tell_change(channel, root_before, self._next_ts(channel))

    def change_history(self, channel_id: str) -> None:
        """Tell that much of a channel has changed at once; what has, a caller changes beforehand."""
        with self.lock:
            channel = self.channel(channel_id)
            ts = self._next_ts(channel)
            kind = "group" if channel.is_private else "channel"
            event = {"type": f"{kind}_history_changed", "channel": channel.id, "latest": ts, "ts": ts}
            self._tell_of(channel, event, members_only=True)

    # Users, the app, and anything else

    def add_user(self, name: str, *, user_id: str | None = None, **fields: Any) -> str:
        """Let someone into the workspace; their id."""
        with self.lock:
            user = self.put_user({"id": user_id or _fresh_id("U"), "name": name, **fields})
            self._tell({"type": "team_join", "user": dict(user)}, scope="users:read")
            return str(user["id"])

    def change_user(self, user_id: str, **fields: Any) -> None:
        """Change a user's fields, those of ``profile`` one by one."""
        with self.lock:
            user = self.users[self._known(user_id)]
            profile = {**user["profile"], **fields.pop("profile", {})}
            changed = {**user, **fields, "profile": profile, "updated": int(self.clock().timestamp())}
            self.users[user_id] = changed
            event = {"type": "user_change", "user": dict(changed), "cache_ts": changed["updated"]}
            self._tell(event, scope="users:read")

    def rename_team(self, name: str) -> None:
        """Give the workspace another name."""
        with self.lock:
            self.name = name
            self._tell({"type": "team_rename", "name": name}, scope="team:read")

    def revoke_token(self) -> None:
        """Take the app's bot token back."""
        with self.lock:
            self._tell({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [self.bot_user_id]}}, scope=None)
            self.installation = "revoked"

    def uninstall(self) -> None:
        """Take the app out of the workspace, its token and all."""
        with self.lock:
            self._tell({"type": "tokens_revoked", "tokens": {"oauth": [], "bot": [self.bot_user_id]}}, scope=None)
            self._tell({"type": "app_uninstalled"}, scope=None)
            self.installation = "uninstalled"

    def reinstall(self) -> None:
        """Let the app in again."""
        with self.lock:
            self.installation = "active"

    def tell(self, event: Mapping[str, Any]) -> None:
        """Tell the app anything: events of other kinds, known or not."""
        with self.lock:
            self._tell(dict(event), scope=None)

    # How the app is told

    def _tell_of(
        self, channel: Channel, event: JsonObject, *, members_only: bool = False, always: bool = False
    ) -> None:
        """Tell of a channel: where the bot is no member only of a public one, and that not of its members' doings."""
        visible = self.bot_user_id in channel.members or not (channel.is_private or members_only)
        if visible or always:
            self._tell(event, scope=f"{channel.scope_family}:read", channel=channel)

    def _tell_message(self, channel: Channel, message: JsonObject, *, team_id: str | None = None) -> None:
        if self.bot_user_id not in channel.members:
            return
        kind = "group" if channel.is_private else "channel"
        event = {**message, "channel": channel.id, "event_ts": message["ts"], "channel_type": kind}
        scope = f"{channel.scope_family}:history"
        self._tell(event, scope=scope, channel=channel, subscription=f"message.{kind}s", team_id=team_id)

    def _tell_change(self, channel: Channel, before: JsonObject, when: str) -> None:
        event = {"subtype": "message_changed", "message": channel.message(before["ts"]), "previous_message": before}
        self._tell_message(channel, {"type": "message", **event, "hidden": True, "ts": when})

    def _tell(
        self,
        event: JsonObject,
        *,
        scope: str | None,
        channel: Channel | None = None,
        subscription: str | None = None,
        team_id: str | None = None,
    ) -> None:
        if self.installation != "active":
            return
        event.setdefault("event_ts", self._next_ts(channel))
        shared = channel is not None and (bool(channel.teams) or channel.home_team != self.team_id)
        occurrence = Occurrence(event, subscription or event["type"], scope, team_id or self.team_id, shared)
        for listener in self.listeners:
            listener(occurrence)

    # Parts of the above

    def _change(self, channel: Channel, before: JsonObject, changes: JsonObject, when: str) -> None:
        channel.put({**before, **changes})
        self._tell_change(channel, before, when)

    def _say(self, channel: Channel, subtype: str, user: str, text: str, **fields: Any) -> None:
        """Write a message that Slack itself writes about what has been done."""
        ts = self._next_ts(channel)
        channel.put({"type": "message", "subtype": subtype, "user": user, "text": text, "ts": ts, **fields})
        self._tell_message(channel, channel.message(ts))

    def _author(self, user: str | None, bot_id: str | None, classic: bool, user_team: str | None) -> JsonObject:
        if bot_id is None:
            author = {"user": user if user_team else self._actor(user), "client_msg_id": str(uuid.uuid4())}
            other = {"user_team": user_team, "source_team": user_team} if user_team else {}
            return {**author, "team": user_team or self.team_id, **other}
        bot = self.bots.get(bot_id) or self.put_bot(bot_id, "other-app", app_id=made_id("A", self.team_id, bot_id))
        if classic:
            return {"subtype": "bot_message", "bot_id": bot_id, "username": bot["name"]}
        profile = {**{name: value for name, value in bot.items() if name != "user_id"}, "team_id": self.team_id}
        author = {"user": bot.get("user_id") or made_id("U", self.team_id, bot_id), "bot_id": bot_id}
        return {**author, "team": self.team_id, "app_id": bot.get("app_id"), "bot_profile": profile}

    def _file(self, given: Mapping[str, Any], user: str) -> JsonObject:
        file_id = _fresh_id("F")
        name = str(given.get("name", "file.txt"))
        content = given.get("content", "")
        data = content if isinstance(content, bytes) else str(content).encode()
        self.files[file_id] = data
        stamp = int(self.clock().timestamp())
        place = f"https://files.slack.com/files-pri/{self.team_id}-{file_id}"
        return {
            "id": file_id,
            "created": stamp,
            "timestamp": stamp,
            "name": name,
            "title": str(given.get("title", name)),
            "mimetype": str(given.get("mimetype", "text/plain")),
            "filetype": name.rpartition(".")[2].lower(),
            "user": user,
            "editable": False,
            "size": len(data),
            "mode": "hosted",
            "is_external": False,
            "is_public": True,
            "url_private": f"{place}/{name}",
            "url_private_download": f"{place}/download/{name}",
            "permalink": f"{self.url}files/{user}/{file_id}/{name}",
        }

    def _next_ts(self, channel: Channel | None) -> str:
        """The present as a ts that nothing has yet: the clock may stand still."""
        now = self.clock()
        micros = int(now.timestamp()) * _MICROSECONDS + now.microsecond
        if 0 <= self._last_micros - micros < _LONGEST_STANDSTILL:  # else the clock was set back, and is followed
            micros = self._last_micros + 1
        while channel is not None and _ts(micros) in channel:
            micros += 1
        self._last_micros = micros
        return _ts(micros)

    def _open(self, channel_id: str) -> Channel:
        channel = self.channel(channel_id)
        if channel.is_archived:
            raise WorkspaceError(f"{channel_id} is archived")
        return channel

    def _message(self, channel: Channel, ts: str) -> JsonObject:
        if ts not in channel:
            raise WorkspaceError(f"there is no message {ts} in {channel.id}")
        return channel.message(ts)

    def _actor(self, user: str | None) -> str:
        """Who does it: *user*, or where none is named the first person of the workspace."""
        if user is not None:
            return self._known(user)
        people = (name for name, known in self.users.items() if not known["is_bot"] and not known["deleted"])
        return next((name for name in people if name != SLACKBOT), SLACKBOT)

    def _known(self, user: str) -> str:
        if user not in self.users:
            raise WorkspaceError(f"there is no user {user}")
        return user

    def _check_name(self, name: str) -> None:
        if not name or len(name) > _LONGEST_NAME or name != name.lower() or any(letter in name for letter in " ,.#@"):
            raise WorkspaceError(f"{name!r} is no channel name: up to {_LONGEST_NAME} lower-case letters, no spaces")
        if any(channel.name == name for channel in self.channels.values()):
            raise WorkspaceError(f"the name {name} is taken")

    def _touch(self, channel: Channel) -> None:
        channel.updated = int(self.clock().timestamp() * 1000)

    def _event_type(self, channel: Channel, what: str) -> str:
        return f"{'group' if channel.is_private else 'channel'}_{what}"


def tombstone(ts: str) -> JsonObject:
    """What stands in place of a deleted root while it has replies."""
    said = {"type": "message", "subtype": "tombstone", "text": "This message was deleted.", "user": SLACKBOT}
    return {**said, "hidden": True, "ts": ts, "thread_ts": ts}


def _blocks(text: str) -> list[JsonObject]:
    section = {"type": "rich_text_section", "elements": [{"type": "text", "text": text}]}
    return [{"type": "rich_text", "block_id": secrets.token_urlsafe(4)[:5], "elements": [section]}]


def _fresh_id(prefix: str) -> str:
    return prefix + "0" + "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


def _ts(micros: int) -> str:
    return f"{micros // _MICROSECONDS}.{micros % _MICROSECONDS:06d}"
