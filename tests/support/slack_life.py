"""A workspace in which people do anything at any time, and the app that reads it on bad days.

What the app is told may come late, twice, in another order or never; Slack refuses calls, and its people go on while
the app asks page after page; workers end in the middle of their work.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from chain_rig import CHAIN_QUEUES
from slack_comparison import SlackComparison
from slack_past import SlackPast
from slack_people import SlackPeople
from slack_source_rig import SlackSourceRig
from source_rig import TENANT, KilledError
from working_rig import LANES, POLL

from connections.connection import Connection
from ingestion.asking import ask_for_history, ask_for_sweep
from ingestion.connecting import resume
from ingestion.work import NOT_ACTIVE
from local.simulator_faults import Fault
from messaging.queues import SOURCE_WORK
from operations.replay import ReplaySelection, replay, select

OLD = timedelta(days=4)
"""What is deleted or edited later than that is found by the event alone: :data:`ingestion.slack.sweep.WINDOW`."""
MOST_DAYS = 2
CALL_SECONDS = 3.0
"""How long a call takes: a run of thirty seconds ends in the middle."""


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
        self.restricted = restricted
        self.slack = rig.workspace
        self.past = SlackPast(rig.workspace)
        self.people = SlackPeople(rig, self.past)
        self.joins = joins
        self.loses = loses
        self.waiting: list[bytes] = []
        self.taken: list[bytes] = []
        self.told: set[tuple[str, str]] = set()
        """The kinds and channels of the events that the app has taken."""
        self.days = 0
        self.meanwhile: Random | None = None
        """While it is set, people go on while the app asks; :attr:`between` is what they do."""
        self.between: list[str] = []

    async def begin(self) -> None:
        """Let the first people and channels be there, and connect."""
        rig, slack = self.rig, self.slack
        strike = rig.simulator.api.faults.strike

        def struck(path: str) -> Fault | None:
            if path.startswith("/api/"):
                rig.wait(CALL_SECONDS)
                if self.meanwhile is not None and self.meanwhile.random() < 0.1:
                    self.between.append(self.people.change(self.meanwhile))
            return strike(path)

        rig.simulator.api.faults.strike = struck  # type: ignore[method-assign]  # what happens while the app asks
        # Under ids of their own making one life would not be like itself.
        del slack.channels[rig.channel], slack.users[rig.user]
        self.people.begin()
        await self.rig.pushes()
        rig.simulator.api.limits.restricted = self.restricted
        changes: dict[str, Any] = {"history_page": 40} if self.restricted else {}
        for tenant in self.tenants:
            await rig.connect(tenant, join_public=self.joins, **changes)

    # One step

    async def step(self, dice: Random) -> str:
        if dice.random() < 0.6:
            told = [self.people.change(dice) for _ in range(dice.choice((1, 1, 1, 2, 4)))]
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

    async def _look_for_leaks(self) -> None:
        for tenant in self.tenants:
            leaks = await self._comparison(tenant).leaks()
            assert not leaks, "\n".join(leaks)

    def _comparison(self, tenant: str) -> SlackComparison:
        return SlackComparison(self.rig, self.past, tenant, self.told)

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
            found += [f"{tenant}: {one}" for one in await self._comparison(tenant).differences(swept=swept)]
        return found
