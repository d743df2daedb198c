"""A workspace in which people do anything at any time, and the app that reads it on bad days.

What the app is told may come late, twice, in another order or never; Slack refuses calls, and its people go on while
the app asks page after page; workers end in the middle of their work.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

from chain_rig import CHAIN_QUEUES
from slack_source_rig import TEAM, SlackSourceRig
from source_rig import TENANT, KilledError
from working_rig import LANES, POLL

from api.reading import principals_in
from api.tokens import reader_principals
from connections.connection import Connection
from connections.slack_connection import SlackConnection
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.connecting import resume
from ingestion.work import NOT_ACTIVE
from local.simulator_faults import Fault
from local.slack.channel import Channel, JsonObject
from local.slack.workspace import WorkspaceError
from messaging.queues import SOURCE_WORK
from operations.replay import ReplaySelection, replay, select
from shards.identity import shard_id
from shards.model import Shard
from shards.store import ShardQuery

PARTNER = "T0PARTNER1"
OUTSIDER = "eve@acme.example"
"""One of the tenant's people who is not in the workspace."""
OLD = timedelta(days=4)
"""What is deleted or edited later than that is found by the event alone: :data:`ingestion.slack.sweep.WINDOW`."""
MOST_DAYS = 2
CALL_SECONDS = 3.0
"""How long a call takes: a run of thirty seconds ends in the middle."""
MOST_CHANNELS, MOST_USERS = 7, 8

Change = Callable[[Random], str]


class SlackLife:
    """See :class:`random_life.Life`. With *joins* the bot joins public channels by itself; unless it *loses* a
    share of what the app is told, nearly all has to be right before the first sweep. Where it is *restricted* Slack
    allows a call a minute of history and replies, most of the time. Each of *tenants* has the workspace connected."""

    def __init__(
        self,
        rig: SlackSourceRig,
        *,
        joins: bool,
        loses: float,
        restricted: bool = False,
        tenants: Sequence[str] = (TENANT,),
    ) -> None:
        self.rig = rig
        self.tenants = tenants
        self.tenant = tenants[0]
        """Whose shards are looked at now."""
        self.restricted = restricted
        self.slack = rig.workspace
        self.joins = joins
        self.loses = loses
        self.waiting: list[bytes] = []
        self.taken: list[bytes] = []
        self.told: set[tuple[str, str]] = set()
        """The kinds and channels of the events that the app has taken."""
        self.ended: set[str] = set()
        self.moved: dict[str, str] = {}
        self.addresses: set[str] = {OUTSIDER}
        self.guests: set[str] = set()
        """Users who have ever been guests."""
        self.may_have_read: dict[str, set[str]] = {}
        """Of channels that have never been public, the addresses of all who were ever in them."""
        self.was_out: set[str] = set()
        """Channels that the app was not in at some time: of what happened there meanwhile it was told nothing."""
        self.passed_on: set[str] = set()
        """Addresses that somebody has had, and somebody else may have."""
        self.days = 0
        self.number = 0
        self.meanwhile: Random | None = None
        """While it is set, people go on while the app asks; :attr:`between` is what they do."""
        self.between: list[str] = []
        self.changes: list[tuple[int, Change]] = [
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

    async def begin(self) -> None:
        """Let the first people and channels be there, and connect."""
        rig, slack = self.rig, self.slack
        strike = rig.simulator.api.faults.strike

        def struck(path: str) -> Fault | None:
            if path.startswith("/api/"):
                rig.wait(CALL_SECONDS)
                if self.meanwhile is not None and self.meanwhile.random() < 0.1:
                    self.between.append(self._change(self.meanwhile))
            return strike(path)

        rig.simulator.api.faults.strike = struck  # type: ignore[method-assign]  # what happens while the app asks
        # Under ids of their own making one life would not be like itself.
        del slack.channels[rig.channel], slack.users[rig.user]
        dice = Random(0)
        for _ in range(3):
            self._add_user(dice)
        people = self._people()
        slack.create_channel("board", user=people[0], members=people[1:3], private=True, channel_id="C0BOARD01")
        self.may_have_read["C0BOARD01"] = set()
        slack.create_channel("lobby", user=people[1], members=[slack.bot_user_id], channel_id="C0LOBBY01")
        for _ in range(6):
            self._post(dice)
        self._note_readers()
        await self.rig.pushes()
        rig.simulator.api.limits.restricted = self.restricted
        changes: dict[str, Any] = {"history_page": 40} if self.restricted else {}
        for tenant in self.tenants:
            await rig.connect(tenant, join_public=self.joins, **changes)

    # One step

    async def step(self, dice: Random) -> str:
        if dice.random() < 0.6:
            told = [self._change(dice) for _ in range(dice.choice((1, 1, 1, 2, 4)))]
            if dice.random() < 0.4:
                self.rig.wait(dice.choice((0.0004, 0.003, 0.7, 1.0, 20.0)))
        else:
            befalls: list[tuple[int, Any]] = [
                (10, self._deliver),
                (4, self._deliver_again),
                (5, self._poll),
                (2, self._sweep),
                (6, self._work_a_little),
                (4, self._pass_time),
                (3, self._fail_calls),
                (3, self._end_faults),
                (4, self._die),
                (2, self._give_back),
                (2, self._load),
                (1, self._expire_cursors),
            ]
            if self.restricted:
                befalls.append((2, self._restrict))
            if self.loses:
                befalls += [(1, self._rate_limit_events), (1, self._revoke)]
            befall = dice.choices([one for _, one in befalls], [weight for weight, _ in befalls])[0]
            self.meanwhile = dice
            try:
                told = [await befall(dice)]
            except KilledError:
                await self.rig.start_again()
                told = [f"{befall.__name__}: the worker died"]
            finally:
                self.meanwhile = None
            told += [f"meanwhile {one}" for one in self.between]
            self.between.clear()
        self.waiting += [request.body for request in await self.rig.pushes()]
        if dice.random() < 0.2:
            await self._look_for_leaks()
        return "; ".join(told)

    def _change(self, dice: Random) -> str:
        change = dice.choices([one for _, one in self.changes], [weight for weight, _ in self.changes])[0]
        self.rig.wait(0.001)  # nobody does two things in one of Slack's moments
        try:
            told = change(dice)
        except (WorkspaceError, IndexError):  # nothing there to do it with
            return f"no {change.__name__}"
        self._note_readers()
        return told

    def _note_readers(self) -> None:
        for channel in self.slack.channels.values():
            if self.slack.bot_user_id not in channel.members:
                self.was_out.add(channel.id)
            if not channel.is_private:
                self.may_have_read.pop(channel.id, None)
            elif channel.id in self.may_have_read:
                members = {address for one in channel.members if (address := self._address(one))}
                self.may_have_read[channel.id] |= members

    async def _look_for_leaks(self) -> None:
        """Whatever happens: what has always been private is read by none but those who were in it."""
        for tenant in self.tenants:
            self.tenant = tenant
            await self._look_for_leaks_of_tenant()

    async def _look_for_leaks_of_tenant(self) -> None:
        shards = [one for one in await self._stored() if one.is_live]
        reads = await self._readable(shards)
        for shard in shards:
            external_id = shard.external_relationships[0].external_id
            may = self.may_have_read.get(external_id.partition(":")[0])
            if may is not None:
                leaked = reads[shard.acl.scope] - may - self.passed_on
                assert not leaked, f"{external_id} is read by {sorted(leaked)}, who were never in it"

    # What people do

    def _people(self, *, guests: bool = True) -> list[str]:
        return [
            name
            for name, user in self.slack.users.items()
            if user.get("profile", {}).get("email")
            and not user["deleted"]
            and (guests or not (user.get("is_restricted") or user["team_id"] != TEAM))
        ]

    def _channel(self, dice: Random) -> Channel:
        return dice.choice(list(self.slack.channels.values()))

    def _message(self, dice: Random) -> tuple[Channel, str]:
        channel = self._channel(dice)
        own = [ts for _, ts in channel._order if channel.message(ts).get("subtype") != "tombstone"]
        written = [ts for ts in own if channel.message(ts).get("user") != self.slack.bot_user_id]
        replies = [ts for ts in written if channel.root_of(ts) != ts]
        if replies and dice.random() < 0.4:
            return channel, dice.choice(replies)
        return channel, dice.choice(written[-6:] if dice.random() < 0.7 else written)

    def _text(self, dice: Random) -> str:
        self.number += 1
        said = [f"word{self.number}"]
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
                said.append(f"<{self.slack.url}archives/{channel.id}/p{ts.replace('.', '')}>")
            elif kind == 4:
                said.append("<https://example.org/x|there> <!here>")
            else:
                said.append("\nanother line")
        return " ".join(said)

    def _post(self, dice: Random) -> str:
        channel = self._channel(dice)
        files = [{"name": f"f{self.number}.txt", "content": "x"}] if dice.random() < 0.15 else []
        user = dice.choice([one for one in self._people() if one in channel.members] or self._people(guests=False))
        ts = self.slack.post(channel.id, self._text(dice), user=user, files=files)
        return f"{user} posts {channel.id}:{ts}"

    def _post_as_bot(self, dice: Random) -> str:
        channel = self._channel(dice)
        ts = self.slack.post(channel.id, self._text(dice), bot_id="B0CRM00001", classic=dice.random() < 0.5)
        return f"a bot posts {channel.id}:{ts}"

    def _own_post(self, dice: Random) -> str:
        channel = self._channel(dice)
        ts = self.slack.post(channel.id, "mine", bot_id=self.slack.bot_id, classic=dice.random() < 0.5)
        return f"the app posts {channel.id}:{ts}"

    def _reply(self, dice: Random) -> str:
        channel, root = self._message(dice)
        if channel._replies and dice.random() < 0.5:
            root = dice.choice(sorted(channel._replies))
        user = dice.choice(self._people())
        broadcast = dice.random() < 0.2
        self.slack.message_replied = dice.random() < 0.3
        ts = self.slack.post(channel.id, self._text(dice), user=user, thread_ts=root, broadcast=broadcast)
        return f"{user} replies {channel.id}:{ts} to {root}{' broadcast' if broadcast else ''}"

    def _edit(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        self.slack.edit(channel.id, ts, self._text(dice) if dice.random() < 0.8 else "back to this")
        return f"edits {channel.id}:{ts}"

    def _delete(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        self.slack.delete_message(channel.id, ts)
        return f"deletes {channel.id}:{ts}"

    def _unfurl(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        self.slack.unfurl(channel.id, ts, [{"from_url": "https://example.org/x", "title": "Unfurled", "text": "no"}])
        return f"unfurls {channel.id}:{ts}"

    def _react(self, dice: Random) -> str:
        channel, ts = self._message(dice)
        message = channel._messages[ts]
        message["reactions"] = [{"name": "eyes", "count": dice.randint(1, 3), "users": []}]
        item = {"type": "message", "channel": channel.id, "ts": ts}
        if self.slack.bot_user_id in channel.members:
            self.slack.tell({"type": "reaction_added", "user": self._people()[0], "reaction": "eyes", "item": item})
        return f"reacts to {channel.id}:{ts}"

    def _create_channel(self, dice: Random) -> str:
        if len(self.slack.channels) >= MOST_CHANNELS:
            return "no channel more"
        self.number += 1
        members = dice.sample(self._people(), min(2, len(self._people())))
        if dice.random() < 0.5:
            members.append(self.slack.bot_user_id)
        private = dice.random() < 0.5
        user = dice.choice(self._people(guests=False))
        made = self.slack.create_channel(
            f"c{self.number}", user=user, members=members, private=private, channel_id=f"C0NEW{self.number:04d}"
        )
        if private:
            self.may_have_read[made.id] = set()
        return f"creates {made.id}{' private' if private else ''}, {sorted(made.members)}"

    def _rename_channel(self, dice: Random) -> str:
        channel = self._channel(dice)
        before = channel.previous_names[:1] if dice.random() < 0.4 else []
        name = before[0] if before else f"n{self.number}-{dice.randrange(1000)}"
        self.slack.rename_channel(channel.id, name)
        return f"renames {channel.id} to {name}"

    def _describe_channel(self, dice: Random) -> str:
        channel = self._channel(dice)
        self.slack.set_topic(channel.id, self._text(dice))
        return f"topic of {channel.id}"

    def _archive(self, dice: Random) -> str:
        channel = self._channel(dice)
        if channel.is_archived:
            self.slack.unarchive_channel(channel.id)
            return f"unarchives {channel.id}"
        self.slack.archive_channel(channel.id)
        return f"archives {channel.id}"

    def _turn(self, dice: Random) -> str:
        channel = self._channel(dice)
        with self.slack.lock:
            channel.is_private = not channel.is_private
            kind = "private" if channel.is_private else "public"
            self.slack._touch(channel)
            self.slack._say(channel, f"channel_convert_to_{kind}", self._people()[0], f"made this channel {kind}")
        return f"{channel.id} turns {kind}"

    def _delete_channel(self, dice: Random) -> str:
        if len(self.slack.channels) <= 2:
            return "no channel less"
        channel = self._channel(dice)
        self.slack.delete_channel(channel.id)
        self.ended.add(channel.id)
        return f"deletes channel {channel.id}"

    def _change_id(self, dice: Random) -> str:
        channel = self._channel(dice)
        self.number += 1
        old, new = channel.id, f"C0MOV{self.number:04d}"
        self.slack.change_channel_id(old, new)
        self.moved[old] = new
        if old in self.was_out:
            self.was_out.add(new)
        if old in self.may_have_read:
            self.may_have_read[new] = self.may_have_read[old]
        return f"{old} becomes {new}"

    def _share(self, dice: Random) -> str:
        channel = self._channel(dice)
        if channel.teams:
            self.slack.unshare_channel(channel.id, channel.teams[0])
            return f"unshares {channel.id}"
        self.slack.share_channel(channel.id, PARTNER)
        return f"shares {channel.id}"

    def _join(self, dice: Random) -> str:
        channel, user = self._channel(dice), dice.choice(self._people())
        self.slack.join(channel.id, user, inviter=self._people()[0])
        return f"{user} joins {channel.id}"

    def _leave(self, dice: Random) -> str:
        channel = self._channel(dice)
        user = dice.choice([one for one in channel.members if one != self.slack.bot_user_id])
        self.slack.leave(channel.id, user)
        return f"{user} leaves {channel.id}"

    def _invite_bot(self, dice: Random) -> str:
        channel = self._channel(dice)
        self.slack.join(channel.id, self.slack.bot_user_id, inviter=self._people()[0])
        return f"the bot joins {channel.id}"

    def _kick_bot(self, dice: Random) -> str:
        channel = self._channel(dice)
        self.slack.leave(channel.id, actor=self._people()[0])
        return f"the bot is removed from {channel.id}"

    def _add_user(self, dice: Random) -> str:
        if len(self._people()) >= MOST_USERS:
            return "nobody more"
        self.number += 1
        fields: dict[str, Any] = {"is_restricted": False, "is_ultra_restricted": False}
        if self.number > 5:
            fields |= dice.choice(({}, {}, {"is_restricted": True}, {"team_id": PARTNER}))
        made = self.slack.add_user(
            f"p{self.number}", user_id=f"U0P{self.number:04d}", real_name=f"Person {self.number}", **fields
        )
        self._note_user(made)
        return f"{made} comes, {fields}"

    def _note_user(self, user: str) -> None:
        known = self.slack.users[user]
        self.addresses.add(known["profile"]["email"])
        if known.get("is_restricted") or known["team_id"] != TEAM:
            self.guests.add(user)

    def _rename_user(self, dice: Random) -> str:
        user = dice.choice(self._people())
        name = f"Person {dice.randrange(20)}"
        self.slack.change_user(user, real_name=name, profile={"real_name": name, "title": f"t{dice.randrange(9)}"})
        return f"{user} is now {name}"

    def _change_address(self, dice: Random) -> str:
        user = dice.choice(self._people())
        free = sorted(self.addresses - {OUTSIDER} - {self._address(one) or "" for one in self.slack.users})
        address = (
            dice.choice(free) if free and dice.random() < 0.5 else f"a{self.number}-{dice.randrange(99)}@acme.example"
        )
        self.passed_on |= {self._address(user) or "", address}
        self.slack.change_user(user, profile={"email": address})
        self._note_user(user)
        return f"{user} has the address {address}"

    def _deactivate(self, dice: Random) -> str:
        gone = [name for name, user in self.slack.users.items() if user["deleted"]]
        if gone and dice.random() < 0.5:
            user = dice.choice(gone)
            self.slack.change_user(user, deleted=False, is_restricted=False, is_ultra_restricted=False)
            return f"{user} is active again"
        if len(self._people(guests=False)) <= 2:
            return "nobody less"
        user = dice.choice(self._people())
        if user in self._people(guests=False)[:1]:
            return "not the first"
        with self.slack.lock:
            for name in ("is_restricted", "is_ultra_restricted"):
                self.slack.users[user].pop(name, None)
            for channel in self.slack.channels.values():
                channel.members.pop(user, None)
            self.slack.change_user(user, deleted=True)
        return f"{user} is deactivated"

    def _change_guest(self, dice: Random) -> str:
        user = dice.choice([one for one in self._people()[1:] if self.slack.users[one]["team_id"] == TEAM])
        is_needed = len(self._people(guests=False)) <= 2
        restricted = not is_needed and not self.slack.users[user].get("is_restricted")
        self.slack.change_user(user, is_restricted=restricted)
        self._note_user(user)
        return f"{user} is {'a guest' if restricted else 'a member'}"

    def _address(self, user: str) -> str | None:
        return cast(str | None, self.slack.users[user]["profile"].get("email"))

    # What befalls the app

    async def _deliver(self, dice: Random) -> str:
        waiting, self.waiting = self.waiting, []
        if dice.random() < 0.5:
            dice.shuffle(waiting)
        lost = late = twice = 0
        for at, body in enumerate(waiting):
            fate = dice.random()
            if self._is_lost(dice, body):
                lost += 1
                continue
            if fate < 0.15:
                self.waiting.append(body)
                late += 1
                continue
            try:
                await self._take(body)
                if fate < 0.25:
                    twice += 1
                    await self._take(body)
            except KilledError:
                self.waiting += waiting[at:]
                raise
        if dice.random() < 0.6:
            await self._do(dice)
        return f"{len(waiting)} pushes: {lost} lost, {late} late, {twice} twice"

    def _is_lost(self, dice: Random, body: bytes) -> bool:
        return dice.random() < self.loses and not self._must_come(body)

    async def _take(self, body: bytes) -> None:
        answer = await self.rig.take_push(self.rig.signed(body))
        assert answer.status == 200, answer
        self.taken.append(body)
        event = json.loads(body).get("event", {})
        channel = event.get("old_channel_id") or event.get("channel")
        if isinstance(channel, str):
            self.told.add((event["type"], channel))

    def _must_come(self, body: bytes) -> bool:
        """Whether nothing else tells of it: a change of an old message, or where calls are few of a reply."""
        event = json.loads(body).get("event", {})
        if event.get("type") != "message" or event.get("subtype") not in ("message_deleted", "message_changed"):
            return False
        message = event.get("message") or event["previous_message"]
        if self.restricted and message.get("thread_ts", message["ts"]) != message["ts"]:
            return True
        ts = event.get("deleted_ts") or event["message"]["ts"]
        return datetime.fromtimestamp(float(ts), UTC) < self.rig.now - OLD

    async def _deliver_again(self, dice: Random) -> str:
        if not self.taken:
            return "nothing to deliver again"
        again = [dice.choice(self.taken) for _ in range(3)]
        for body in again:
            await self._take(body)
        await self._do(dice)
        return "old pushes again"

    async def _do(self, dice: Random) -> None:
        """Do most of the work that there is, now and a little later: while Slack fails there is no end to it."""
        for seconds in dice.choice(((0,), (0, 2, 8), (0, 2, 2, 2, 10, 30))):
            self.rig.wait(seconds)
            await self.rig.work(most=60)
            await self.rig.drain(*LANES)

    async def _poll(self, dice: Random) -> str:
        self.rig.wait(POLL.total_seconds() + 1)
        await self.rig.tick()
        await self._do(dice)
        return "a poll"

    async def _sweep(self, dice: Random) -> str:
        await ask_for_sweep(await self._some_connections(dice), self.rig.services.ingestion)
        await self._do(dice)
        return "a sweep"

    async def _some_connections(self, dice: Random) -> list[Connection]:
        tenants = self.tenants if len(self.tenants) == 1 else dice.sample(self.tenants, dice.choice((1, 2)))
        return [await self.rig.connection(one) for one in tenants]

    async def _work_a_little(self, dice: Random) -> str:
        done = await self.rig.work(most=dice.randint(1, 3))
        for queue in dice.sample(CHAIN_QUEUES, 2):
            await self.rig.step(queue, max_messages=dice.randint(1, 4))
        return f"{done} works"

    async def _pass_time(self, dice: Random) -> str:
        seconds = dice.choice((61, 700, 3700, 7 * 3600, 86400))
        if seconds == 86400:
            self.days += 1
            seconds = seconds if self.days <= MOST_DAYS else 60
        self.rig.wait(seconds)
        await self.rig.tick()
        return f"{seconds} seconds pass"

    async def _fail_calls(self, dice: Random) -> str:
        kind = dice.choice(
            ("ratelimited", "internal-error", "server-error", "service-unavailable", "unavailable-html", "html-200")
        )
        paths = (
            "/api/",
            "conversations.info",
            "conversations.history",
            "conversations.replies",
            "conversations.members",
        )
        more: dict[str, Any] = {"headers": {"Retry-After": str(dice.choice((1, 30)))}} if kind == "ratelimited" else {}
        path, times = dice.choice((*paths, "users.info", "users.list")), dice.choice((1, 3, 8, None))
        self.rig.simulator.api.faults.add(kind, path=path, times=times, skip=dice.choice((0, 0, 2)), **more)
        return f"{kind} for {path}, {times} times"

    async def _end_faults(self, _: Random) -> str:
        self.rig.simulator.api.faults.clear()
        return "the faults end"

    async def _die(self, dice: Random) -> str:
        self.rig.die_before_write(dice.randrange(12))
        if dice.random() < 0.3:
            self.rig.die_after_events()
        try:
            befall = dice.choice((self._deliver, self._poll, self._sweep, self._work_a_little, self._load))
            told: str = await befall(dice)
            await self.rig.drain()
        finally:
            if not self.rig.process.is_dead:
                self.rig.process.writes_left = None
                self.rig.process.dies_after_events = False
        return f"about to die: {told}"

    async def _give_back(self, dice: Random) -> str:
        queue = dice.choice((SOURCE_WORK, *CHAIN_QUEUES))
        await self.rig.give_back(queue, 1)
        return f"what waits on {queue} is given back"

    async def _load(self, dice: Random) -> str:
        anew = dice.random() < 0.5
        await ask_for_history(await self._some_connections(dice), self.rig.services.ingestion, anew=anew)
        await self.rig.work(most=dice.randint(1, 3))
        return f"a first load{' anew' if anew else ''}"

    async def _rate_limit_events(self, _: Random) -> str:
        kept = [body for body in self.waiting if self._must_come(body)]
        lost, self.waiting = len(self.waiting) - len(kept), kept
        self.rig.simulator.sender.send_rate_limited()
        return f"{lost} events are dropped, and it is said so"

    async def _revoke(self, dice: Random) -> str:
        self.slack.revoke_token()
        await self._do(dice)
        return "the token is revoked"

    async def _restrict(self, dice: Random) -> str:
        limits = self.rig.simulator.api.limits
        limits.restricted = dice.random() < 0.7
        return f"a call a minute: {limits.restricted}"

    async def _expire_cursors(self, dice: Random) -> str:
        cursors = self.rig.simulator.api.cursors
        cursors.expire()
        cursors.short_pages = dice.random() < 0.5
        return "cursors die"

    # In the end

    async def settle(self) -> None:
        rig = self.rig
        rig.simulator.api.faults.clear()
        if self.slack.installation != "active":
            self.slack.reinstall()
        self.waiting += [request.body for request in await rig.pushes()]
        dice = Random(len(self.taken))
        dice.shuffle(self.waiting)
        for body in self.waiting:
            if not self._is_lost(dice, body):
                await self._take(body)
        self.waiting = []
        await self._work_off()
        for tenant in self.tenants:
            connection = await rig.connection(tenant)
            if connection.status != "active":
                await resume(connection, rig.services.ingestion)
                ports = rig.services.replay
                rig.wait(2)
                async for page in select(ports, ReplaySelection(tenant_id=tenant, reason=NOT_ACTIVE)):
                    await replay(ports, page)
                await self._work_off()
        await self._let_pass(POLL.total_seconds() + 1)
        if not self.loses:
            early = await self.differences(swept=False)
            assert not early, "\n".join(["before the sweep, though no event was lost:", *early])
        for hours in (25, 25, 2):
            await self._let_pass(hours * 3600.0)

    async def _work_off(self) -> None:
        """Do all that there is to do within twenty minutes, or what a call a minute allows in a day."""
        rig = self.rig
        until = rig.now + (timedelta(days=1) if self.restricted else timedelta(minutes=20))
        while True:
            await rig.settle(timedelta(0))
            depths = await rig.bus.depths()
            if rig.now >= until or not any(depths[queue].scheduled for queue in (SOURCE_WORK, *CHAIN_QUEUES)):
                return
            rig.wait(30)

    async def _let_pass(self, seconds: float) -> None:
        rig = self.rig
        rig.wait(seconds)
        await rig.tick()
        await self._work_off()
        # That it has joined a channel it is told, too.
        for request in await rig.pushes():
            await self._take(request.body)
        await self._work_off()
        await rig.drain()

    async def differences(self, *, swept: bool = True) -> list[str]:
        found = [f"parked: {one.reason}: {one.detail}" for one in await self.rig.parked()]
        depths = await self.rig.bus.depths()
        found += [
            f"{queue} is not empty: {left}"
            for queue in (SOURCE_WORK, *CHAIN_QUEUES)
            if (left := depths[queue]).active or left.locked or (swept and left.scheduled)
        ]
        for tenant in self.tenants:
            self.tenant = tenant
            found += [f"{tenant}: {one}" for one in await self._differences_of_tenant(swept=swept)]
        return found

    async def _differences_of_tenant(self, *, swept: bool) -> list[str]:
        found: list[str] = []
        connection = cast(SlackConnection, await self.rig.connection(self.tenant))
        memory = await self.rig.memory(self.tenant)
        if connection.status != "active" or memory.last_sync_status != "success":
            found.append(f"the connection is {connection.status}, {memory.last_sync_status}: {memory.error_message}")
        shards = {
            (one.external_relationships[0].object_type, one.external_relationships[0].external_id): one
            for one in await self._stored()
        }
        reads = await self._readable(shards.values())
        expected = self._expected(swept=swept)
        for key in sorted(expected.keys() | shards.keys()):
            if not swept and key[0] == "message" and key[1].partition(":")[0] in self.was_out:
                continue
            found += self._compared(key, shards.get(key), expected.get(key), reads, swept=swept)
        return found

    async def _stored(self) -> list[Shard]:
        query = ShardQuery(self.tenant, system="slack", include_deleted=True)
        found: list[Shard] = []
        cursor: str | None = None
        while True:
            page = await self.rig.store.query(query, limit=500, cursor=cursor)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                return found

    async def _readable(self, shards: Iterable[Shard]) -> dict[str, set[str]]:
        """By scope, who reads it."""
        scopes = sorted({one.acl.scope for one in shards if one.is_live})
        reads: dict[str, set[str]] = {scope: set() for scope in scopes}
        for address in sorted(self.addresses):
            principals = await principals_in(self.rig.store, self.tenant, address, reader_principals(address))
            for start in range(0, len(scopes), 50):
                for scope in await self.rig.store.readable_scopes(self.tenant, scopes[start : start + 50], principals):
                    reads[scope].add(address)
        return reads

    def _compared(
        self,
        key: tuple[str, str],
        shard: Shard | None,
        expected: "Expected | None",
        reads: dict[str, set[str]],
        *,
        swept: bool,
    ) -> list[str]:
        told = f"{key[0]} {key[1]}"
        if expected is None:
            return self._of_nothing(key, shard, reads)
        if shard is None or not shard.is_live:
            if expected.may_be_absent:
                return []
            return [f"{told} is {'not there' if shard is None else shard.status}"]
        found = []
        data = dict(shard.structured_data)
        if not expected.is_closed_to_bot:
            data["files"] = [one["name"] for one in data.get("files", [])] or None
            for name, value in expected.data.items():
                if data.get(name) != value and (swept or name not in expected.swept):
                    found.append(f"{told}: {name} is {data.get(name)!r}, not {value!r}")
            links = {
                (one.relationship_type, one.target_shard_id)
                for one in shard.internal_relationships
                if one.method == "structured-field"
            }
            if links != expected.links:
                found.append(f"{told}: links {sorted(links)}, not {sorted(expected.links)}")
        undecided = self._undecided() if swept else {self._address(one) or "" for one in self.guests} | self.passed_on
        mine = reads[shard.acl.scope] - undecided
        # Who comes into a public channel that the app is not in is not followed; who leaves is.
        if mine != expected.readers - undecided and not expected.least - undecided <= mine <= expected.readers:
            found.append(f"{told} is read by {sorted(mine)}, not {sorted(expected.readers)}")
        return found

    def _of_nothing(self, key: tuple[str, str], shard: Shard | None, reads: dict[str, set[str]]) -> list[str]:
        """What is stored of what is there no more."""
        if shard is None or not shard.is_live:
            return []
        channel_id, _, ts = key[1].partition(":")
        told = f"{key[0]} {key[1]}"
        known = self.slack.channels.get(channel_id)
        if known is not None and ts and self.slack.bot_user_id not in known.members:
            # Of a channel that the app is not in it can't be seen that a message is gone.
            readers = self._readers(known)
            mine = reads[shard.acl.scope]
            return [f"{told} is read by {sorted(mine)}"] if mine - readers - self._undecided() else []
        if known is None and (channel_id in self.ended or channel_id in self.moved):
            kinds = ("channel_deleted", "group_deleted", "channel_id_changed")
            if any((kind, channel_id) in self.told for kind in kinds):
                return [f"{told} is still {shard.status}, read by {sorted(reads[shard.acl.scope])}"]
            # Documented: until Slack says that it is deleted it is kept, and nobody reads it.
            return [f"{told} is read by {sorted(reads[shard.acl.scope])}"] if reads[shard.acl.scope] else []
        return [f"{told} is {shard.status}, and not there at Slack"]

    def _undecided(self) -> set[str]:
        """The addresses of who is deactivated and has been a guest: Slack says no more whether they were."""
        return {
            self._address(name) or ""
            for name, user in self.slack.users.items()
            if user["deleted"] and name in self.guests
        }

    # What there is at Slack

    def _is_guest(self, user: str) -> bool:
        known = self.slack.users[user]
        return bool(known.get("is_restricted") or known.get("is_ultra_restricted") or known["team_id"] != TEAM)

    def _own_people(self) -> set[str]:
        guests = {self._address(one) for one in self.slack.users if self._is_guest(one)}
        members = {self._address(one) for one in self.slack.users if not self._is_guest(one)}
        return {one for one in self.addresses if one not in guests or one in members}

    def _readers(self, channel: Channel) -> set[str]:
        members = {address for one in channel.members if (address := self._address(one))}
        if channel.is_private:
            return members if self.slack.bot_user_id in channel.members else set()
        return self._own_people() | members

    def _id(self, kind: str, external_id: str) -> str:
        return shard_id(self.tenant, "slack", TEAM, kind, external_id)

    def _expected(self, *, swept: bool) -> "dict[tuple[str, str], Expected]":
        found: dict[tuple[str, str], Expected] = {}
        for user in self.slack.users.values():
            found["user", user["id"]] = self._expected_user(user)
            found["user", user["id"]].may_be_absent = not swept
        for channel in self.slack.channels.values():
            is_in = self.slack.bot_user_id in channel.members
            hidden = channel.is_private and not is_in
            readers = self._readers(channel)
            found["channel", channel.id] = self._expected_channel(channel, readers, hidden=hidden)
            least = readers if is_in or channel.is_private else self._own_people() - self._undecided()
            found["channel", channel.id].least = least
            for _, ts in channel._order:
                message = channel.message(ts)
                if self.slack.bot_user_id == message.get("user") or self.slack.bot_id == message.get("bot_id"):
                    continue
                one = self._expected_message(channel, message, readers)
                one.may_be_absent = one.is_closed_to_bot = not is_in
                one.least = least
                found["message", f"{channel.id}:{ts}"] = one
        return found

    def _expected_user(self, user: JsonObject) -> "Expected":
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

    def _expected_channel(self, channel: Channel, readers: set[str], *, hidden: bool) -> "Expected":
        described = self.slack.describe(channel, num_members=True)
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

    def _expected_message(self, channel: Channel, message: JsonObject, readers: set[str]) -> "Expected":
        ts, root = message["ts"], message.get("thread_ts", message["ts"])
        is_reply, is_tombstone = root != ts, message.get("subtype") == "tombstone"
        content, users, channels, messages = self._said(message.get("text", ""))
        files = message.get("files", [])
        if not content:
            content = ", ".join(one["title"] for one in files)
        user = message.get("user")
        author: JsonObject | None = None
        if user and not is_tombstone:
            known = self.slack.users.get(user)
            name = known["real_name"] if known else (message.get("bot_profile") or {}).get("name") or user
            author = {"id": user, "name": name}
            if known and self._address(user):
                author["email"] = self._address(user)
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
                return f"@{self.slack.users[target[1:]]['real_name']}"
            if target.startswith("#"):
                channels[target[1:]] = None
                known = self.slack.channels.get(target[1:])
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


def _moment(ts: str) -> str:
    seconds, _, micros = ts.partition(".")
    moment = datetime.fromtimestamp(int(seconds), UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{micros[:3].ljust(3, '0')}Z"
