"""What must be known of a workspace to make events of its messages: who people are, and what a channel is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connections.slack_connection import SlackConnection
from processors.mapping.slack import is_guest
from shards.model import TENANT_PRINCIPAL, Shard

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """A user as messages name one; *name* None: Slack does not show who it is. A guest sees only the channels that they
    are in."""

    id: str
    name: str | None
    email: str | None
    is_bot: bool = False
    is_guest: bool = False


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """A channel as its messages need it.

    *home* is the workspace that hosts it. *readers* may read it: of a public one guests who are in it, beside the
    tenant's own. None: of a private one nobody knows them, as it was not read yet; to a public one no guest has come.
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
    def is_scoped(self) -> bool:
        """Whether its scope says who may read it and what is in it. It does for good once a guest has come: one who
        has left must not read what still names the scope."""
        return self.is_private or self.readers is not None

    @property
    def own_acl(self) -> JsonObject:
        """Who may read the channel itself."""
        everybody = [] if self.is_private else [TENANT_PRINCIPAL]
        if not self.is_scoped:
            return {"principals": everybody}
        return {"scope": self.scope, "principals": [*everybody, *(self.readers or ())]}

    @property
    def acl_of_messages(self) -> JsonObject:
        """Who may read what is in it: of a channel with a scope whoever that says."""
        return {**self.own_acl, "inherited": True} if self.is_scoped else self.own_acl


def channel_scope(home: str, channel_id: str) -> str:
    """The scope of a channel's readers, where it has one."""
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
    address = email.strip().lower() if isinstance(email, str) and email else None
    return Person(str(raw["id"]), name, address, is_bot, is_guest(raw))


def is_of_others(raw: Mapping[str, Any], connection: SlackConnection, own: Collection[str]) -> bool:
    """Whether a user object is of another company's workspace, seen through Slack Connect. *own* are the workspaces
    that the tenant has other connections to."""
    team, organisation = raw.get("team_id"), raw.get("enterprise_user")
    if isinstance(organisation, Mapping):
        teams = organisation.get("teams")
        if connection.enterprise is not None and organisation.get("enterprise_id") == connection.enterprise:
            return False
        if isinstance(teams, list) and any(one == connection.instance or one in own for one in teams):
            return False
    if team in own:
        return False
    if raw.get("is_stranger"):
        return True
    mine = ("", connection.instance, connection.enterprise)
    return bool(connection.instance) and isinstance(team, str) and team not in mine


def stored_person(user_id: str, shard: Shard) -> Person:
    """The person in a stored user."""
    data = shard.structured_data
    guest = any(one != TENANT_PRINCIPAL for one in shard.acl.principals)
    return Person(user_id, shard.name, data.get("email"), bool(data.get("customFields", {}).get("is_bot")), guest)


def stored_channel(channel_id: str, home: str, shard: Shard) -> ChannelFacts:
    """The channel in its shard; one that was closed is as private as one that says so."""
    private = bool(shard.structured_data.get("isPrivate")) or TENANT_PRINCIPAL not in shard.acl.principals
    named = [one for one in shard.acl.principals if one != TENANT_PRINCIPAL]
    is_scoped = private or shard.acl.scope == channel_scope(home, channel_id)
    return ChannelFacts(channel_id, shard.name, home, private, named if is_scoped else None)
