"""What has to be stored of a Slack workspace: read off the simulator, by nothing that the product does."""

import re
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from slack_past import SlackPast
from slack_source_rig import TEAM

from local.slack.channel import Channel, JsonObject
from local.slack.workspace import Workspace
from shards.identity import shard_id


class Expected:
    """A record as it has to be stored: its *data*, its *links* (kind and target), and the addresses that read it.

    *least* are those that have to, where the app can't know of the others. *is_closed_to_bot*: the app sees nothing of
    how it is now; *may_be_absent*: nor need it have seen it before. *swept* are data that a sweep alone sees.
    """

    def __init__(
        self,
        data: dict[str, Any],
        links: set[tuple[str, str]],
        readers: set[str],
        *,
        is_closed_to_bot: bool = False,
        may_be_absent: bool = False,
        swept: Collection[str] = (),
    ) -> None:
        self.data = data
        self.swept = swept
        self.links = links
        self.readers = self.least = readers
        self.is_closed_to_bot = is_closed_to_bot
        self.may_be_absent = may_be_absent


class SlackTruth:
    """What *tenant* has to have of the workspace, of which *past* tells what Slack does not."""

    def __init__(self, slack: Workspace, past: SlackPast, tenant: str) -> None:
        self._slack = slack
        self._past = past
        self._tenant = tenant

    def records(self, *, swept: bool) -> dict[tuple[str, str], Expected]:
        """What has to be stored, by object type and external id; before a sweep, or once it is *swept*."""
        found: dict[tuple[str, str], Expected] = {}
        for user in self._slack.users.values():
            found["user", user["id"]] = self._expected_user(user)
            found["user", user["id"]].may_be_absent = not swept
        for channel in self._slack.channels.values():
            is_in = self._slack.bot_user_id in channel.members
            hidden = channel.is_private and not is_in
            readers = self.readers(channel)
            found["channel", channel.id] = self._expected_channel(channel, readers, hidden=hidden)
            least = readers if is_in or channel.is_private else self._own_people() - self.undecided()
            found["channel", channel.id].least = least
            for _, ts in channel._order:
                message = channel.message(ts)
                if self._slack.bot_user_id == message.get("user") or self._slack.bot_id == message.get("bot_id"):
                    continue
                one = self._expected_message(channel, message, readers)
                one.may_be_absent = one.is_closed_to_bot = not is_in
                one.least = least
                found["message", f"{channel.id}:{ts}"] = one
        return found

    def readers(self, channel: Channel) -> set[str]:
        """The addresses of who may read a channel."""
        members = {address for one in channel.members if (address := self._past.address(one))}
        if channel.is_private:
            return members if self._slack.bot_user_id in channel.members else set()
        return self._own_people() | members

    def undecided(self, *, swept: bool = True) -> set[str]:
        """The addresses of who is deactivated and has been a guest: Slack says no more whether they were.

        Before a sweep, those of all who have ever been guests, and those that somebody else may have had.
        """
        if not swept:
            return {self._past.address(one) or "" for one in self._past.guests} | self._past.passed_on
        return {
            self._past.address(name) or ""
            for name, user in self._slack.users.items()
            if user["deleted"] and name in self._past.guests
        }

    def _is_guest(self, user: str) -> bool:
        known = self._slack.users[user]
        return bool(known.get("is_restricted") or known.get("is_ultra_restricted") or known["team_id"] != TEAM)

    def _own_people(self) -> set[str]:
        guests = {self._past.address(one) for one in self._slack.users if self._is_guest(one)}
        members = {self._past.address(one) for one in self._slack.users if not self._is_guest(one)}
        return {one for one in self._past.addresses if one not in guests or one in members}

    def _id(self, kind: str, external_id: str) -> str:
        return shard_id(self._tenant, "slack", TEAM, kind, external_id)

    def _expected_user(self, user: JsonObject) -> Expected:
        profile = user["profile"]
        data = {
            "name": user["real_name"],
            "email": profile.get("email"),
            "username": user["name"],
            "nickname": profile["display_name"],
            "title": profile.get("title"),
            "isActive": not user["deleted"],
            "timeZone": user["tz"],
        }
        return Expected(data, set(), self._own_people())

    def _expected_channel(self, channel: Channel, readers: set[str], *, hidden: bool) -> Expected:
        described = self._slack.describe(channel, num_members=True)
        data: dict[str, Any] = {
            "name": channel.name,
            "externalId": channel.id,
            "type": "private" if channel.is_private else "public",
            "teamExternalId": TEAM,
            "topic": channel.topic["value"] or None,
            "isPrivate": channel.is_private,
            "isArchived": channel.is_archived,
            "members": sorted(channel.members) or None if channel.is_private else None,
            "memberCount": len(channel.members) if channel.is_private else described["num_members"],
        }
        return Expected(data, set(), readers, is_closed_to_bot=hidden, may_be_absent=hidden)

    def _expected_message(self, channel: Channel, message: JsonObject, readers: set[str]) -> Expected:
        ts, root = message["ts"], message.get("thread_ts", message["ts"])
        is_reply, is_tombstone = root != ts, message.get("subtype") == "tombstone"
        content, users, channels, messages = self._said(message.get("text", ""))
        files = message.get("files", [])
        if not content:
            content = ", ".join(one["title"] for one in files)
        user = message.get("user")
        author: JsonObject | None = None
        if user and not is_tombstone:
            known = self._slack.users.get(user)
            name = known["real_name"] if known else (message.get("bot_profile") or {}).get("name") or user
            author = {"id": user, "name": name}
            if known and self._past.address(user):
                author["email"] = self._past.address(user)
        elif message.get("username"):
            author = {"name": message["username"]}
        subtype = str(message.get("subtype", ""))
        replies = message.get("reply_count")
        kind = (
            "system"
            if is_tombstone or subtype.startswith("channel_")
            else "bot"
            if "bot_id" in message
            else "reply"
            if is_reply
            else "file_share"
            if files
            else "thread_starter"
            if replies
            else "message"
        )
        edited = message.get("edited", {}).get("ts")
        data = {
            "content": content,
            "channelId": channel.id,
            "sentAt": _moment(ts),
            "author": author,
            "threadId": f"{channel.id}:{root}",
            "parentMessageId": f"{channel.id}:{root}" if is_reply else None,
            "editedAt": _moment(edited) if edited else None,
            "isEdited": True if edited else None,
            "replyCount": None if is_reply else replies,
            "reactionCount": sum(one["count"] for one in message.get("reactions", [])) or None,
            "hasAttachments": True if files else None,
            "messageType": kind,
            "mentions": users or None,
            "referencedChannels": channels or None,
            "referencedMessages": messages or None,
            "files": [one["name"] for one in files] or None,
        }
        links = {("message_in_channel", self._id("channel", channel.id))}
        if is_reply:
            links.add(("replies_to", self._id("message", f"{channel.id}:{root}")))
        if author and "id" in author:
            links.add(("has_owner", self._id("user", author["id"])))
        links |= {("mentions", self._id("user", one)) for one in users}
        links |= {("references", self._id("channel", one)) for one in channels}
        links |= {("references", self._id("message", one)) for one in messages if one != f"{channel.id}:{ts}"}
        # What people and channels are called now, and how many replies and reactions there are, a sweep sees.
        names = {"content"} if users or channels else set()
        return Expected(data, links, readers, swept={"author", "replyCount", "reactionCount", "messageType", *names})

    def _said(self, text: str) -> tuple[str, list[str], list[str], list[str]]:
        """What people read in Slack for *text*, and the users, channels and messages that it names."""
        users: dict[str, None] = {}
        channels: dict[str, None] = {}
        messages: dict[str, None] = {}

        def shown(mark: re.Match[str]) -> str:
            target, _, label = mark[1].partition("|")
            if target.startswith("@"):
                users[target[1:]] = None
                return f"@{self._slack.users[target[1:]]['real_name']}"
            if target.startswith("#"):
                channels[target[1:]] = None
                known = self._slack.channels.get(target[1:])
                return f"#{label or (known.name if known and not known.is_private else target[1:])}"
            if target == "!here":
                return "@here"
            if place := re.search(r"/archives/(C\w+)/p(\d+)(\d{6})$", target):
                messages[f"{place[1]}:{place[2]}.{place[3]}"] = None
            return f"{label} ({target})" if label else target

        words = re.sub(r"<([^<>\n]*)>", shown, text)
        for escaped, plain in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            words = words.replace(escaped, plain)
        return words, list(users), list(channels), list(messages)


def _moment(ts: str) -> str:
    seconds, _, micros = ts.partition(".")
    moment = datetime.fromtimestamp(int(seconds), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{micros[:3].ljust(3, '0')}Z"
