"""A channel of the workspace: what it says of itself, its members, and its messages in order, with their threads."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ingestion.slack.export import ts_order

JsonObject = dict[str, Any]

_SHOWN_REPLY_USERS = 5
_THREAD_FIELDS = frozenset(
    {"reply_count", "reply_users_count", "latest_reply", "reply_users", "replies", "is_locked", "subscribed"}
)
"""What a root says of its thread; made from the replies, so it never disagrees with them."""


def _nothing_said() -> JsonObject:
    return {"value": "", "creator": "", "last_set": 0}


@dataclass
class Channel:
    """*home_team* is the workspace that hosts it; *teams* are the others that share it through Slack Connect.

    *created* is in seconds, *updated* in milliseconds, as Slack has them. *old_group* is a private channel from before
    2021, whose id begins with G.
    """

    id: str
    name: str
    created: int
    creator: str
    home_team: str
    updated: int
    is_private: bool = False
    is_archived: bool = False
    is_general: bool = False
    topic: JsonObject = field(default_factory=_nothing_said)
    purpose: JsonObject = field(default_factory=_nothing_said)
    previous_names: list[str] = field(default_factory=list)
    members: dict[str, None] = field(default_factory=dict)
    teams: list[str] = field(default_factory=list)
    _messages: dict[str, JsonObject] = field(default_factory=dict, repr=False)
    _order: list[tuple[tuple[int, int], str]] = field(default_factory=list, repr=False)
    _replies: dict[str, list[tuple[tuple[int, int], str]]] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> str:
        """Its type as ``conversations.list`` names it."""
        return "private_channel" if self.is_private else "public_channel"

    @property
    def scope_family(self) -> str:
        """The first half of the scopes that are for it."""
        return "groups" if self.is_private else "channels"

    def describe(self, team_id: str, bot_user_id: str, *, num_members: bool) -> JsonObject:
        """The channel object that the app of workspace *team_id* is answered with."""
        shared = bool(self.teams) or self.home_team != team_id
        old_group = self.is_private and self.id.startswith("G")
        described: JsonObject = {
            "id": self.id,
            "name": self.name,
            "is_channel": not old_group,
            "is_group": old_group,
            "is_im": False,
            "is_mpim": False,
            "is_private": self.is_private,
            "created": self.created,
            "is_archived": self.is_archived,
            "is_general": self.is_general,
            "unlinked": 0,
            "name_normalized": self.name,
            "is_shared": shared,
            "is_org_shared": False,
            "is_pending_ext_shared": False,
            "pending_shared": [],
            "context_team_id": team_id,
            "updated": self.updated,
            "parent_conversation": None,
            "creator": self.creator,
            "is_ext_shared": shared,
            "shared_team_ids": [self.home_team, *self.teams],
            "pending_connected_team_ids": [],
            "is_member": bot_user_id in self.members,
            "topic": dict(self.topic),
            "purpose": dict(self.purpose),
            "properties": {"tabs": [], "use_case": ""},
            "previous_names": list(self.previous_names),
        }
        if shared:
            described["conversation_host_id"] = self.home_team
        if described["is_member"]:
            described["last_read"] = "0000000000.000000"
        if num_members:
            described["num_members"] = 0 if self.is_archived else len(self.members)
        return described

    def put(self, message: JsonObject) -> None:
        """Add *message*, or take it in place of the one with its ts."""
        ts = message["ts"]
        key = (ts_order(ts), ts)
        if ts not in self._messages:
            bisect.insort(self._order, key)
            root = str(message.get("thread_ts") or ts)
            if root != ts:
                bisect.insort(self._replies.setdefault(root, []), key)
        self._messages[ts] = {name: value for name, value in message.items() if name not in _THREAD_FIELDS}

    def remove(self, ts: str) -> None:
        """Take a message out."""
        root = self._messages.pop(ts).get("thread_ts", ts)
        key = (ts_order(ts), ts)
        self._order.remove(key)
        if root != ts:
            self._replies[root].remove(key)
            if not self._replies[root]:
                del self._replies[root]

    def __contains__(self, ts: str) -> bool:
        return ts in self._messages

    def __len__(self) -> int:
        return len(self._messages)

    def root_of(self, ts: str) -> str:
        """The ts of the thread that message *ts* belongs to; its own where it is no reply."""
        return str(self._messages[ts].get("thread_ts") or ts)

    def replies_of(self, root: str) -> list[str]:
        """The ts of the replies, the oldest first."""
        return [ts for _, ts in self._replies.get(root, [])]

    def message(self, ts: str) -> JsonObject:
        """The message object as the API shows it, a root with what is known of its thread."""
        message = dict(self._messages[ts])
        replies = self.replies_of(ts)
        if replies:
            users = dict.fromkeys(self._messages[reply].get("user") for reply in replies)
            authors = [user for user in users if user]
            message |= {
                "thread_ts": ts,
                "reply_count": len(replies),
                "reply_users_count": len(authors),
                "latest_reply": replies[-1],
                "reply_users": authors[:_SHOWN_REPLY_USERS],
                "is_locked": False,
                "subscribed": False,
            }
        elif message.get("thread_ts") == ts:
            del message["thread_ts"]  # its replies are gone
        root = message.get("thread_ts", ts)
        if root != ts and root in self._messages and "user" in self._messages[root]:
            message["parent_user_id"] = self._messages[root]["user"]
        return message

    def history(self) -> Iterator[str]:
        """The ts of what is in the channel itself, the newest first: no replies but those that were sent there too."""
        for _, ts in reversed(self._order):
            if self.root_of(ts) == ts or self._messages[ts].get("subtype") == "thread_broadcast":
                yield ts

    def orphaned_threads(self) -> list[str]:
        """The roots that replies name and that are not there."""
        return sorted(root for root in self._replies if root not in self._messages)
