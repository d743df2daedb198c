"""Slack's channels, messages and users as shards.

The payload is the object as Slack's API has it (a message with the ``channel`` it is in), and under ``shardline`` what
the reader found out beside it:

==============  ======================================================================================================
``names``       names by id, of the users and channels that a message names
``author``      ``{name, email}`` of who wrote a message
``acl``         ``{principals, scope, inherited}``: who may read; absent: nobody
``home``        the team that hosts the channel
``workspace``   the address of the workspace that was asked, as ``https://acme.slack.com/``
``seenFrom``    the team that was asked, where the channel's home is another
``members``     ids of a private channel's members
``guest``       whether a user is another company's, who sees only the channels that they are in
``movedTo``     of a deleted record: the external id that it has now
==============  ======================================================================================================
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from messaging.contracts import EventType
from messaging.times import from_milliseconds, to_text
from processors.mapping.fields import Fields
from processors.mapping.record import INVALID_RECORD, UNKNOWN_OBJECT_TYPE, Mapped, MappingError
from processors.mapping.slack_text import SlackText, in_words, own_attachments, written_text
from processors.mapping.values import read_boolean, read_integer, read_text
from shards.model import TENANT_PRINCIPAL, Acl, guest_principal
from shards.ordering import version_key
from shards.types import fitting_name, shard_type

CHANNEL, MESSAGE, USER = "channel", "message", "user"
"""The object types."""

CLOSED = Acl.of()
_TENANT = Acl.of(TENANT_PRINCIPAL)

_TS = re.compile(r"([0-9]{1,11})\.([0-9]{1,6})\Z")
_ID = re.compile(r"[A-Z][A-Z0-9]{2,40}\Z")
_MESSAGE_ID = re.compile(r"(?P<channel>[A-Z][A-Z0-9]{2,40}):(?P<ts>[0-9]{1,11}\.[0-9]{1,6})\Z")
_PRINCIPAL = re.compile(r"user:\S+\Z")
_URL = re.compile(r"https://[A-Za-z0-9.-]+/\Z")
_NAME_CHARACTERS = 80
_MILLISECONDS_FROM = 10**11
"""A number of seconds above this is one of milliseconds: Slack has both in fields of one name."""

_SYSTEM = frozenset(
    {
        "channel_join", "channel_leave", "channel_topic", "channel_purpose", "channel_name", "channel_archive",
        "channel_unarchive", "channel_convert_to_private", "channel_convert_to_public", "channel_posting_permissions",
        "group_join", "group_leave", "group_topic", "group_purpose", "group_name", "group_archive", "group_unarchive",
        "bot_add", "bot_remove", "bot_enable", "bot_disable", "reminder_add", "pinned_item", "unpinned_item",
        "ekm_access_denied", "tombstone", "sh_room_created", "huddle_thread", "joiner_notification",
    }
)  # fmt: skip
_KEPT_OF_MESSAGES = ("subtype", "app_id", "bot_id", "topic", "purpose", "old_name", "inviter")
_KEPT_OF_CHANNELS = (
    "created", "creator", "previous_names", "is_general", "is_ext_shared", "is_org_shared", "shared_team_ids",
)  # fmt: skip
_KEPT_OF_USERS = ("team_id", "is_bot", "is_restricted", "is_ultra_restricted", "is_app_user")


def map_record(
    object_type: str | None,
    payload: Mapping[str, Any],
    event_type: EventType,
    source_id: str | None,
    default_currency: str | None,  # noqa: ARG001 - Slack knows no money
) -> Mapped:
    """A whole channel, message or user, or for a delete at least its id, as its shard needs it.

    The object type is *object_type*, else what the id says.

    Raises:
        MappingError: ``unknown-object-type`` or ``invalid-record``.
    """
    kind = object_type or _kind_of(payload, source_id)
    deleted = event_type == "delete"
    if kind == MESSAGE:
        return _message(payload, source_id, deleted)
    external_id = payload.get("id") or source_id
    if not isinstance(external_id, str) or not _ID.match(external_id):
        raise MappingError(INVALID_RECORD, f"{str(external_id)[:60]!r} is no id of a {kind}")
    fields = _Fields(f"{kind} {external_id}", payload)
    if kind == CHANNEL:
        return _channel(external_id, fields, deleted)
    if kind == USER:
        return _user(external_id, fields, deleted)
    raise MappingError(UNKNOWN_OBJECT_TYPE, f"{kind[:80]!r} is none of Slack's channel, message and user")


def _kind_of(payload: Mapping[str, Any], source_id: str | None) -> str:
    name = source_id or payload.get("id")
    if payload.get("ts") is not None or (isinstance(name, str) and ":" in name):
        return MESSAGE
    kinds = {"C": CHANNEL, "G": CHANNEL, "D": CHANNEL, "U": USER, "W": USER}
    kind = kinds.get(name[:1]) if isinstance(name, str) else None
    if kind is None:
        raise MappingError(UNKNOWN_OBJECT_TYPE, f"{str(name)[:60]!r} names no object type: send objectType")
    return kind


class _Fields(Fields):
    """The fields of one object of Slack's, and of what the reader found out beside it."""

    def texts(self, name: str) -> list[str] | None:
        """The list of texts of that name; None when there is none."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(name, "is no list of texts")
        return value

    def kept(self, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
        """What *names* say, as custom fields, and the exact numbers among them; what says nothing is left out."""
        custom: dict[str, Any] = {}
        exact: dict[str, str] = {}
        for name in names:
            value = self.fields.get(name)
            if value is None or value is False or value in ("", [], {}):
                continue
            stored = self.custom(name, exact)
            if stored is not None:
                custom[name] = stored
        return custom, exact

    def acl(self) -> Acl:
        """Who may read, as the reader found out."""
        told = self.fields.get("acl")
        if told is None:
            return CLOSED
        if not isinstance(told, Mapping):
            raise self.wrong("acl", "is no object")
        principals = told.get("principals")
        if not isinstance(principals, list) or not all(
            isinstance(one, str) and (one == TENANT_PRINCIPAL or _PRINCIPAL.match(one)) for one in principals
        ):
            raise self.wrong("acl", "its principals are no list of user:… and tenant")
        scope = told.get("scope")
        if scope is None:
            return _TENANT if principals == [TENANT_PRINCIPAL] else Acl.of(*principals)
        if not isinstance(scope, str) or not scope.startswith("slack:"):
            raise self.wrong("acl", "its scope is none of Slack's")
        return Acl(scope, tuple(sorted(set(principals))), inherited=told.get("inherited") is True)

    def workspace(self) -> str | None:
        """The address of the workspace."""
        value = self.text("workspace")
        return value if value and _URL.match(value) else None


def _moment_of(ts: str) -> str:
    """A ts as a moment; its last three digits are not in it."""
    match = _TS.match(ts)
    if match is None:
        raise ValueError(f"{ts[:40]!r} is no message time such as 1773301231.714899")
    try:
        return to_text(from_milliseconds(int(match[1]) * 1000 + int(match[2].ljust(6, "0")) // 1000))
    except OverflowError:
        raise ValueError(f"{ts[:40]!r} is beyond all time") from None


def _read_ts(value: Any) -> str:
    if not isinstance(value, str) or not _TS.match(value):
        raise ValueError(f"{str(value)[:40]!r} is no message time such as 1773301231.714899")
    _moment_of(value)
    return value


def _seconds(value: Any) -> int | None:
    seconds = read_integer(value)
    if seconds is None:
        return None
    if seconds >= _MILLISECONDS_FROM:
        seconds //= 1000
    _moment_of(f"{seconds}.0")
    return seconds


def _clean(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None and value not in ([], {})}


# Channels


def _channel(external_id: str, fields: _Fields, deleted: bool) -> Mapped:
    found = fields.inner("shardline")
    workspace = found.workspace()
    created = fields.read("created", _seconds)
    return Mapped(
        shard_type_id="c_channel",
        object_type=CHANNEL,
        external_id=external_id,
        structured_data={} if deleted else _channel_data(external_id, fields, found),
        acl=CLOSED if deleted else found.acl(),
        external_url=f"{workspace}archives/{external_id}" if workspace else None,
        created_at=_moment_of(f"{created}.0") if created else None,
        deleted=deleted,
        merged_into_external_id=found.text("movedTo") if deleted else None,
        source_version=str(fields.read("updated", _seconds) or ""),
    )


def _channel_data(external_id: str, fields: _Fields, found: _Fields) -> dict[str, Any]:
    private = bool(fields.read("is_private", read_boolean) or fields.read("is_group", read_boolean))
    direct, group = fields.read("is_im", read_boolean), fields.read("is_mpim", read_boolean)
    name = fields.text("name") or fields.text("name_normalized")
    members = found.texts("members")
    custom, exact = fields.kept(_KEPT_OF_CHANNELS)
    return _clean(
        {
            "name": (fitting_name(name) if name else "") or shard_type("c_channel").stand_in_name,
            "platform": "slack",
            "externalId": external_id,
            "type": "direct" if direct else "group" if group else "private" if private else "public",
            "teamExternalId": found.text("home") or fields.text("conversation_host_id"),
            "topic": fields.inner("topic").text("value"),
            "purpose": fields.inner("purpose").text("value"),
            "isPrivate": private,
            "isArchived": bool(fields.read("is_archived", read_boolean)),
            "members": sorted(members) if members is not None else None,
            "memberCount": len(members) if members is not None else fields.read("num_members", read_integer),
            "customFields": custom,
            "exactNumbers": exact,
        }
    )


# Users


def _user(external_id: str, fields: _Fields, deleted: bool) -> Mapped:
    workspace = fields.inner("shardline").workspace()
    return Mapped(
        shard_type_id="c_user",
        object_type=USER,
        external_id=external_id,
        structured_data={} if deleted else _user_data(fields),
        acl=CLOSED if deleted else _acl_of_user(fields),
        external_url=f"{workspace}team/{external_id}" if workspace else None,
        deleted=deleted,
        source_version=str(fields.read("updated", _seconds) or ""),
    )


def _acl_of_user(fields: _Fields) -> Acl:
    """Who may read a user: the tenant's own; and whether they are one of those."""
    email = fields.inner("profile").text("email")
    if email is None or not is_guest(fields.fields):
        return _TENANT
    return Acl.of(TENANT_PRINCIPAL, guest_principal(email.strip()))


def is_guest(user: Mapping[str, Any]) -> bool:
    """Whether a user object is of one who sees only the channels that they are in."""
    told = user.get("shardline")
    if isinstance(told, Mapping) and told.get("guest") is True:
        return True
    return bool(user.get("is_restricted") or user.get("is_ultra_restricted"))


def _user_data(fields: _Fields) -> dict[str, Any]:
    profile = fields.inner("profile")
    shown = profile.text("display_name")
    username = fields.text("name")
    name = fields.text("real_name") or profile.text("real_name") or shown or username
    email = profile.text("email")
    custom, exact = fields.kept(_KEPT_OF_USERS)
    return _clean(
        {
            "name": (fitting_name(name) if name else "") or shard_type("c_user").stand_in_name,
            "firstName": profile.text("first_name"),
            "lastName": profile.text("last_name"),
            "email": email.strip().lower() if email else None,
            "username": username,
            "nickname": shown,
            "title": profile.text("title"),
            "phone": profile.text("phone"),
            "isActive": not fields.read("deleted", read_boolean),
            "timeZone": fields.text("tz"),
            "customFields": custom,
            "exactNumbers": exact,
        }
    )


# Messages


def _message(payload: Mapping[str, Any], source_id: str | None, deleted: bool) -> Mapped:
    channel, ts = _named_place(payload, source_id)
    external_id = f"{channel}:{ts}"
    fields = _Fields(f"message {external_id}", payload)
    found = fields.inner("shardline")
    edited = fields.inner("edited").read("ts", _read_ts)
    root = fields.read("thread_ts", _read_ts)
    if root == ts:
        root = None
    try:
        sent_at = _moment_of(ts)
    except ValueError as error:
        raise fields.wrong("ts", error) from None
    workspace = found.workspace()
    url = f"{workspace}archives/{channel}/p{ts.replace('.', '')}" if workspace else None
    if url and root:
        url += f"?thread_ts={root}&cid={channel}"
    return Mapped(
        shard_type_id="c_message",
        object_type=MESSAGE,
        external_id=external_id,
        structured_data={} if deleted else _message_data(_Place(channel, ts, root, sent_at, edited), fields, found),
        acl=CLOSED if deleted else found.acl(),
        external_url=url,
        last_activity_at=_moment_of(edited) if edited else sent_at,
        created_at=sent_at,
        deleted=deleted,
        merged_into_external_id=found.text("movedTo") if deleted else None,
        # Of an edit Slack tells whole seconds, which may lie before the message.
        source_version=max(edited or ts, ts, key=version_key),
    )


def _named_place(payload: Mapping[str, Any], source_id: str | None) -> tuple[str, str]:
    """Channel and ts of a message: its own fields, else the id that the event names."""
    named = _MESSAGE_ID.match(source_id) if source_id else None
    channel = payload.get("channel") or (named["channel"] if named else None)
    ts = payload.get("ts") or (named["ts"] if named else None)
    if not isinstance(channel, str) or not _ID.match(channel):
        raise MappingError(INVALID_RECORD, f"message {str(source_id)[:60]!r}: channel: {str(channel)[:40]!r} is no id")
    if not isinstance(ts, str) or not _TS.match(ts):
        raise MappingError(
            INVALID_RECORD,
            f"message {str(source_id)[:60]!r}: ts: {str(ts)[:40]!r} is no message time such as 1773301231.714899",
        )
    return channel, ts


class _Place(NamedTuple):
    """Where and when a message was written: *root* of a reply, *edited* of one that was."""

    channel: str
    ts: str
    root: str | None
    sent_at: str
    edited: str | None


def _message_data(place: _Place, fields: _Fields, found: _Fields) -> dict[str, Any]:
    payload = fields.fields
    channel, ts, root, sent_at, edited = place
    names = {key: value for key, value in found.inner("names").fields.items() if isinstance(value, str)}
    said = in_words(written_text(payload), names, found.workspace())
    files = _files(fields)
    content = read_text(said.text) or ", ".join(file.get("title") or file.get("name") or file["id"] for file in files)
    custom, exact = fields.kept(_KEPT_OF_MESSAGES)
    reactions = fields.objects("reactions")
    replies = fields.read("reply_count", read_integer) or None
    return _clean(
        {
            "name": _beginning(content) or shard_type("c_message").stand_in_name,
            "content": content or "",
            "channelId": channel,
            "sentAt": sent_at,
            "author": _author(fields, found),
            "threadId": f"{channel}:{root or ts}",
            "parentMessageId": f"{channel}:{root}" if root else None,
            "editedAt": _moment_of(edited) if edited else None,
            "isEdited": True if edited else None,
            "isPinned": True if payload.get("pinned_to") else None,
            "reactionCount": sum(_count(fields, one) for one in reactions) or None,
            "replyCount": replies if root is None else None,
            "hasAttachments": True if files or own_attachments(payload) else None,
            "files": files,
            "messageType": _message_type(payload, root, replies, files),
            **_named(said),
            "workspaceExternalId": found.text("seenFrom"),
            "customFields": custom,
            "exactNumbers": exact,
        }
    )


def _named(said: SlackText) -> dict[str, list[str]]:
    return {
        "mentions": said.users,
        "referencedChannels": said.channels,
        "referencedMessages": said.messages,
    }


def _beginning(text: str) -> str:
    """What a message goes by: its first line, cut after a word when it is long."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if len(line) <= _NAME_CHARACTERS:
        return line
    head = line[: _NAME_CHARACTERS - 1]
    space = head.rfind(" ", _NAME_CHARACTERS // 2)
    return (head[:space] if space > 0 else head).rstrip() + "…"


def _author(fields: _Fields, found: _Fields) -> dict[str, Any] | None:
    """Who wrote it: the user, else the program by the name it goes by."""
    user = fields.text("user")
    if user and fields.fields.get("subtype") == "tombstone":
        return None
    told = found.inner("author")
    profile = fields.inner("bot_profile")
    name = told.text("name") or fields.text("username") or profile.text("name") or user or fields.text("bot_id")
    if name is None:
        return None
    return _clean({"id": user, "name": fitting_name(name) or name, "email": told.text("email")})


def _count(fields: _Fields, reaction: Mapping[str, Any]) -> int:
    try:
        return int(read_integer(reaction.get("count", 0)) or 0)
    except ValueError as error:
        raise fields.wrong("reactions", error) from None


def _files(fields: _Fields) -> list[dict[str, Any]]:
    """The files as they are kept. One that was deleted, or that the app may not see, has hardly more than its id."""
    kept = []
    for file in fields.objects("files"):
        one = _Fields(fields.whose, file, "files.")
        identifier = one.text("id")
        if identifier is None:
            raise fields.wrong("files", "a file has no id")
        url = one.text("permalink")
        kept.append(
            _clean(
                {
                    "id": identifier,
                    "name": one.text("name"),
                    "title": one.text("title"),
                    "mimeType": one.text("mimetype"),
                    "size": one.read("size", read_integer),
                    "url": url if url and url.startswith("https://") else None,
                }
            )
        )
    return kept


def _message_type(payload: Mapping[str, Any], root: str | None, replies: int | None, files: list[Any]) -> str:
    subtype = payload.get("subtype")
    if isinstance(subtype, str) and subtype in _SYSTEM:
        return "system"
    if subtype == "bot_message" or payload.get("bot_id"):
        return "bot"
    if root:
        return "reply"
    if files:
        return "file_share"
    return "thread_starter" if replies else "message"
