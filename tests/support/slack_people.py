"""What people do in a Slack workspace, drawn by lot."""

from collections.abc import Callable
from random import Random
from typing import Any

from slack_past import OUTSIDER, SlackPast
from slack_source_rig import TEAM, SlackSourceRig

from local.slack.channel import Channel
from local.slack.workspace import WorkspaceError

PARTNER = "T0PARTNER1"
MOST_CHANNELS, MOST_USERS = 7, 8

Change = Callable[[Random], str]


class SlackPeople:
    """At work in the workspace of *rig*; *past* keeps what is to be remembered of it."""

    def __init__(self, rig: SlackSourceRig, past: SlackPast) -> None:
        self._rig = rig
        self._slack = rig.workspace
        self._past = past
        self._number = 0
        self._changes: list[tuple[int, Change]] = [
            (14, self._post),
            (9, self._reply),
            (9, self._edit),
            (10, self._delete),
            (2, self._unfurl),
            (2, self._react),
            (2, self._post_as_bot),
            (2, self._own_post),
            (3, self._create_channel),
            (3, self._rename_channel),
            (3, self._archive),
            (3, self._describe_channel),
            (2, self._turn),
            (2, self._delete_channel),
            (1, self._change_id),
            (2, self._share),
            (6, self._join),
            (5, self._leave),
            (3, self._invite_bot),
            (3, self._kick_bot),
            (2, self._add_user),
            (3, self._rename_user),
            (2, self._change_address),
            (2, self._deactivate),
            (3, self._change_guest),
        ]

    def begin(self) -> None:
        """Let the first people, channels and messages be there."""
        dice = Random(0)
        for _ in range(3):
            self._add_user(dice)
        slack, people = self._slack, self._people()
        slack.create_channel("board", user=people[0], members=people[1:3], private=True, channel_id="C0BOARD01")
        self._past.may_have_read["C0BOARD01"] = set()
        slack.create_channel("lobby", user=people[1], members=[slack.bot_user_id], channel_id="C0LOBBY01")
        for _ in range(6):
            self._post(dice)
        self._past.note_readers()

    def change(self, dice: Random) -> str:
        """Have somebody do something; what it was."""
        change = dice.choices([one for _, one in self._changes], [weight for weight, _ in self._changes])[0]
        self._rig.wait(0.001)  # nobody does two things in one of Slack's moments
        try:
            told = change(dice)
        except (WorkspaceError, IndexError):  # nothing there to do it with
            return f"no {change.__name__}"
        self._past.note_readers()
        return told

    def _people(self, *, guests: bool = True) -> list[str]:
        return [
            name
            for name, user in self._slack.users.items()
            if user.get("profile", {}).get("email")
            and not user["deleted"]
            and (guests or not (user.get("is_restricted") or user["team_id"] != TEAM))
        ]

    def _channel(self, dice: Random) -> Channel:
        return dice.choice(list(self._slack.channels.values()))

    def _message(self, dice: Random) -> tuple[Channel, str]:
        channel = self._channel(dice)
        own = [ts for _, ts in channel._order if channel.message(ts).get("subtype") != "tombstone"]
        written = [ts for ts in own if channel.message(ts).get("user") != self._slack.bot_user_id]
        replies = [ts for ts in written if channel.root_of(ts) != ts]
        if replies and dice.random() < 0.4:
            return channel, dice.choice(replies)
        return channel, dice.choice(written[-6:] if dice.random() < 0.7 else written)

    def _text(self, dice: Random) -> str:
        self._number += 1
        said = [f"word{self._number}"]
        for _ in range(dice.choice((0, 0, 1, 2))):
            kind = dice.randrange(6)
            if kind == 0:
                said.append(f"<@{dice.choice(self._people())}>")
            elif kind == 1:
                channel = self._channel(dice)
                said.append(dice.choice((f"<#{channel.id}>", f"<#{channel.id}|{channel.name}>")))
            elif kind == 2:
                said.append("a &amp; b &lt;c&gt; 🚀")
            elif kind == 3:
                channel, ts = self._message(dice)
                said.append(f"<{self._slack.url}archives/{channel.id}/p{ts.replace('.', '')}>")
            elif kind == 4:
                said.append("<https://example.org/x|there> <!here>")
            else:
                said.append("\nanother line")
        return " ".join(said)

    def _post(self, dice: Random) -> str:
        channel = self._channel(dice)
        files = [{"name": f"f{self._number}.txt", "content": "x"}] if dice.random() < 0.15 else []
        user = dice.choice([one for one in self._people() if one in channel.members] or self._people(guests=False))
        ts = self._slack.post(channel.id, self._text(dice), user=user, files=files)
        return f"{user} posts {channel.id}:{ts}"

    def _post_as_bot(self, dice: Random) -> str:
        channel = self._channel(dice)
        ts = self._slack.post(channel.id, self._text(dice), bot_id="B0CRM00001", classic=dice.random() < 0.5)
        return f"a bot posts {channel.id}:{ts}"

    def _own_post(self, dice: Random) -> str:
        channel = self._channel(dice)
        ts = self._slack.post(channel.id, "mine", bot_id=self._slack.bot_id, classic=dice.random() < 0.5)
        return f"the app posts {channel.id}:{ts}"

    def _reply(self, dice: Random) -> str:
        channel, root = self._message(dice)
        if channel._replies and dice.random() < 0.5:
            root = dice.choice(sorted(channel._replies))
        user = dice.choice(self._people())
        broadcast = dice.random() < 0.2
        self._slack.message_replied = dice.random() < 0.3
        ts = self._slack.post(channel.id, self._text(dice), user=user, thread_ts=root, broadcast=broadcast)
        return f"{user} replies {channel.id}:{ts} to {root}{' broadcast' if broadcast else ''}"

    def _edit(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        self._slack.edit(channel.id, ts, self._text(dice) if dice.random() < 0.8 else "back to this")
        return f"edits {channel.id}:{ts}"

    def _delete(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        self._slack.delete_message(channel.id, ts)
        return f"deletes {channel.id}:{ts}"

    def _unfurl(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        self._slack.unfurl(channel.id, ts, [{"from_url": "https://example.org/x", "title": "Unfurled", "text": "no"}])
        return f"unfurls {channel.id}:{ts}"

    def _react(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        message = channel._messages[ts]
        message["reactions"] = [{"name": "eyes", "count": dice.randint(1, 3), "users": []}]
        item = {"type": "message", "channel": channel.id, "ts": ts}
        if self._slack.bot_user_id in channel.members:
            self._slack.tell({"type": "reaction_added", "user": self._people()[0], "reaction": "eyes", "item": item})
        return f"reacts to {channel.id}:{ts}"

    def _create_channel(self, dice: Random) -> str:
        if len(self._slack.channels) >= MOST_CHANNELS:
            return "no channel more"
        self._number += 1
        members = dice.sample(self._people(), min(2, len(self._people())))
        if dice.random() < 0.5:
            members.append(self._slack.bot_user_id)
        private = dice.random() < 0.5
        user = dice.choice(self._people(guests=False))
        made = self._slack.create_channel(
            f"c{self._number}", user=user, members=members, private=private, channel_id=f"C0NEW{self._number:04d}"
        )
        if private:
            self._past.may_have_read[made.id] = set()
        return f"creates {made.id}{' private' if private else ''}, {sorted(made.members)}"

    def _rename_channel(self, dice: Random) -> str:
        channel = self._channel(dice)
        before = channel.previous_names[:1] if dice.random() < 0.4 else []
        name = before[0] if before else f"n{self._number}-{dice.randrange(1000)}"
        self._slack.rename_channel(channel.id, name)
        return f"renames {channel.id} to {name}"

    def _describe_channel(self, dice: Random) -> str:
        channel = self._channel(dice)
        self._slack.set_topic(channel.id, self._text(dice))
        return f"topic of {channel.id}"

    def _archive(self, dice: Random) -> str:
        channel = self._channel(dice)
        if channel.is_archived:
            self._slack.unarchive_channel(channel.id)
            return f"unarchives {channel.id}"
        self._slack.archive_channel(channel.id)
        return f"archives {channel.id}"

    def _turn(self, dice: Random) -> str:
        channel = self._channel(dice)
        with self._slack.lock:
            channel.is_private = not channel.is_private
            kind = "private" if channel.is_private else "public"
            self._slack._touch(channel)
            self._slack._say(channel, f"channel_convert_to_{kind}", self._people()[0], f"made this channel {kind}")
        return f"{channel.id} turns {kind}"

    def _delete_channel(self, dice: Random) -> str:
        if len(self._slack.channels) <= 2:
            return "no channel less"
        channel = self._channel(dice)
        self._slack.delete_channel(channel.id)
        self._past.ended.add(channel.id)
        return f"deletes channel {channel.id}"

    def _change_id(self, dice: Random) -> str:
        channel = self._channel(dice)
        self._number += 1
        old, new = channel.id, f"C0MOV{self._number:04d}"
        self._slack.change_channel_id(old, new)
        self._past.moved[old] = new
        if old in self._past.was_out:
            self._past.was_out.add(new)
        if old in self._past.may_have_read:
            self._past.may_have_read[new] = self._past.may_have_read[old]
        return f"{old} becomes {new}"

    def _share(self, dice: Random) -> str:
        channel = self._channel(dice)
        if channel.teams:
            self._slack.unshare_channel(channel.id, channel.teams[0])
            return f"unshares {channel.id}"
        self._slack.share_channel(channel.id, PARTNER)
        return f"shares {channel.id}"

    def _join(self, dice: Random) -> str:
        channel, user = self._channel(dice), dice.choice(self._people())
        self._slack.join(channel.id, user, inviter=self._people()[0])
        return f"{user} joins {channel.id}"

    def _leave(self, dice: Random) -> str:
        channel = self._channel(dice)
        user = dice.choice([one for one in channel.members if one != self._slack.bot_user_id])
        self._slack.leave(channel.id, user)
        return f"{user} leaves {channel.id}"

    def _invite_bot(self, dice: Random) -> str:
        channel = self._channel(dice)
        self._slack.join(channel.id, self._slack.bot_user_id, inviter=self._people()[0])
        return f"the bot joins {channel.id}"

    def _kick_bot(self, dice: Random) -> str:
        channel = self._channel(dice)
        self._slack.leave(channel.id, actor=self._people()[0])
        return f"the bot is removed from {channel.id}"

    def _add_user(self, dice: Random) -> str:
        if len(self._people()) >= MOST_USERS:
            return "nobody more"
        self._number += 1
        fields: dict[str, Any] = {"is_restricted": False, "is_ultra_restricted": False}
        if self._number > 5:
            fields |= dice.choice(({}, {}, {"is_restricted": True}, {"team_id": PARTNER}))
        made = self._slack.add_user(
            f"p{self._number}", user_id=f"U0P{self._number:04d}", real_name=f"Person {self._number}", **fields
        )
        self._past.note_user(made)
        return f"{made} comes, {fields}"

    def _rename_user(self, dice: Random) -> str:
        user = dice.choice(self._people())
        name = f"Person {dice.randrange(20)}"
        self._slack.change_user(user, real_name=name, profile={"real_name": name, "title": f"t{dice.randrange(9)}"})
        return f"{user} is now {name}"

    def _change_address(self, dice: Random) -> str:
        user = dice.choice(self._people())
        free = sorted(self._past.addresses - {OUTSIDER} - {self._past.address(one) or "" for one in self._slack.users})
        address = (
            dice.choice(free) if free and dice.random() < 0.5 else f"a{self._number}-{dice.randrange(99)}@acme.example"
        )
        self._past.passed_on |= {self._past.address(user) or "", address}
        self._slack.change_user(user, profile={"email": address})
        self._past.note_user(user)
        return f"{user} has the address {address}"

    def _deactivate(self, dice: Random) -> str:
        gone = [name for name, user in self._slack.users.items() if user["deleted"]]
        if gone and dice.random() < 0.5:
            user = dice.choice(gone)
            self._slack.change_user(user, deleted=False, is_restricted=False, is_ultra_restricted=False)
            return f"{user} is active again"
        if len(self._people(guests=False)) <= 2:
            return "nobody less"
        user = dice.choice(self._people())
        if user in self._people(guests=False)[:1]:
            return "not the first"
        with self._slack.lock:
            for name in ("is_restricted", "is_ultra_restricted"):
                self._slack.users[user].pop(name, None)
            for channel in self._slack.channels.values():
                channel.members.pop(user, None)
            self._slack.change_user(user, deleted=True)
        return f"{user} is deactivated"

    def _change_guest(self, dice: Random) -> str:
        user = dice.choice([one for one in self._people()[1:] if self._slack.users[one]["team_id"] == TEAM])
        is_needed = len(self._people(guests=False)) <= 2
        restricted = not is_needed and not self._slack.users[user].get("is_restricted")
        self._slack.change_user(user, is_restricted=restricted)
        self._past.note_user(user)
        return f"{user} is {'a guest' if restricted else 'a member'}"
