"""What must be known of a workspace to make events of its messages: who people are, and what a channel is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connections.slack_connection import SlackConnection
from shards.model import TENANT_PRINCIPAL, Shard

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """A user as messages name one; *name* None: Slack does not show who it is."""

    id: str
    name: str | None
    email: str | None
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """A channel as its messages need it.

    *home* is the workspace that hosts it; *readers* None: nobody knows who may read it, as it is private and was not
    read yet.
    """

    id: str
    name: str
    home: str
    is_private: bool
    readers: Sequence[str] | None

    @property
    def scope(self) -> str:
        """The scope that its readers are kept under."""
        return channel_scope(self.home, self.id)

    @property
    def own_acl(self) -> JsonObject:
        """Who may read the channel itself."""
        if not self.is_private:
            return {"principals": [TENANT_PRINCIPAL]}
        return {"scope": self.scope, "principals": list(self.readers or ())}

    @property
    def acl_of_messages(self) -> JsonObject:
        """Who may read what is in it: of a private channel whoever its scope says."""
        return {**self.own_acl, "inherited": True} if self.is_private else self.own_acl


def channel_scope(home: str, channel_id: str) -> str:
    """The scope of a private channel's readers."""
    return f"slack:{home}:{channel_id}"


def is_wanted(connection: SlackConnection, channel_id: str) -> bool:
    """Whether *connection* is to read the channel. Direct conversations never are."""
    if channel_id.startswith("D") or channel_id in connection.left_out:
        return False
    return not connection.channels or channel_id in connection.channels


def is_conversation(raw: Mapping[str, Any]) -> bool:
    """Whether a channel object is of people among themselves."""
    return bool(raw.get("is_im") or raw.get("is_mpim"))


def is_private(raw: Mapping[str, Any]) -> bool:
    """Whether only members see the channel."""
    return bool(raw.get("is_private") or raw.get("is_group"))


def home_of(raw: Mapping[str, Any], connection: SlackConnection) -> str:
    """The workspace that hosts a channel: its own instance, wherever Slack Connect shares it."""
    host = raw.get("conversation_host_id")
    return host if isinstance(host, str) and host.startswith(("T", "E")) else connection.instance


def person_of(raw: Mapping[str, Any]) -> Person:
    """The person in a user object."""
    profile = raw.get("profile")
    profile = profile if isinstance(profile, Mapping) else {}
    names = (raw.get("real_name"), profile.get("real_name"), profile.get("display_name"), raw.get("name"))
    name = next((one for one in names if isinstance(one, str) and one.strip()), None)
    email = profile.get("email")
    is_bot = bool(raw.get("is_bot")) or raw.get("id") == "USLACKBOT"
    return Person(str(raw["id"]), name, email.strip().lower() if isinstance(email, str) and email else None, is_bot)


def stored_person(user_id: str, shard: Shard) -> Person:
    """The person in a stored user."""
    data = shard.structured_data
    return Person(user_id, shard.name, data.get("email"), bool(data.get("customFields", {}).get("is_bot")))


def stored_channel(channel_id: str, home: str, shard: Shard) -> ChannelFacts:
    """The channel in its shard; one that was closed is as private as one that says so."""
    private = bool(shard.structured_data.get("isPrivate")) or TENANT_PRINCIPAL not in shard.acl.principals
    return ChannelFacts(channel_id, shard.name, home, private, shard.acl.principals if private else None)
