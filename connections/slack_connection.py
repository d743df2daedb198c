"""A connection to a Slack workspace."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from connections.connection import Connection, Reference, Schedule

CHANNEL_ID_PATTERN = r"^[CG][A-Z0-9]{5,}$"

ChannelId = Annotated[str, Meta(pattern=CHANNEL_ID_PATTERN)]


class SlackAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The app's secrets, by reference: *bot_token* (``xoxb-…``) for calls, *signing_secret* for what Slack sends."""

    bot_token: Reference
    signing_secret: Reference


class SlackConnection(Connection, frozen=True, kw_only=True, rename="camel"):
    """One tenant's way to one Slack workspace; *instance* is its team id.

    Attributes:
        enterprise: id of the Enterprise Grid organisation, for an app installed to all of it.
        channels: the channels to read; none: all that the bot may read.
        left_out: channels that are never read.
        join_public: whether the bot joins public channels that it is to read.
        calls_per_minute: the most calls a minute, by method; absent: by the method's published tier.
        history_page: messages a page of history and replies; 15 where Slack allows a call a minute.
        events_per_second: how many of the workspace's events one process takes at once; the rest waits in the queue.
        thread_days: how far back late replies and edits that no event told are looked for.
        bot_user, bot_id: who the app itself is, found at connect time; its own messages are left out.
    """

    vendor: ClassVar[str] = "Slack"

    auth: SlackAuth
    system: Literal["slack"] = "slack"
    enterprise: str | None = None
    channels: tuple[ChannelId, ...] = ()
    left_out: tuple[ChannelId, ...] = ()
    join_public: bool = False
    calls_per_minute: dict[str, Annotated[int, Meta(ge=1)]] = msgspec.field(default_factory=dict)
    history_page: Annotated[int, Meta(ge=1, le=999)] = 200
    events_per_second: Annotated[float, Meta(gt=0)] = 20
    thread_days: Annotated[int, Meta(ge=1)] = 90
    bot_user: str | None = None
    bot_id: str | None = None
    schedule: Schedule = Schedule(poll_seconds=900, sweep_hours=24)

    @property
    def selection(self) -> tuple[Any, ...]:
        return (self.channels, self.left_out, self.join_public)

    @property
    def what_is_read(self) -> str:
        return ", ".join(self.channels) or "all channels"
