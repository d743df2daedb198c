"""Channels and the messages in them."""

from typing import Literal

import msgspec

from shards.types.definition import Link, Moment, ShardType, StructuredData
from shards.types.text import Fact, LongText, TextTemplate

Platform = Literal["slack", "teams", "discord"]
ChannelType = Literal["public", "private", "direct", "group"]
MessageType = Literal["message", "file_share", "thread_starter", "reply", "system", "bot"]


class Author(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Who wrote a message: *id* at the platform, absent for a bot that has none."""

    id: str | None = None
    name: str
    email: str | None = None


class SharedFile(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A file that hangs on a message: *id* at the platform; its content is not read."""

    id: str
    name: str | None = None
    title: str | None = None
    mime_type: str | None = None
    size: int | None = None
    url: str | None = None


class ChannelData(StructuredData):
    """A channel, group or direct conversation."""

    platform: Platform
    external_id: str
    type: ChannelType
    team_external_id: str | None = None
    topic: str | None = None
    purpose: str | None = None
    description: str | None = None
    is_private: bool | None = None
    is_archived: bool | None = None
    members: list[str] | None = None
    member_count: int | None = None


class MessageData(StructuredData):
    """One message of a channel."""

    content: str
    channel_id: str
    sent_at: Moment
    author: Author | None = None
    thread_id: str | None = None
    parent_message_id: str | None = None
    edited_at: Moment | None = None
    is_edited: bool | None = None
    is_pinned: bool | None = None
    reaction_count: int | None = None
    reply_count: int | None = None
    has_attachments: bool | None = None
    files: list[SharedFile] | None = None
    message_type: MessageType | None = None
    mentions: list[str] | None = None
    referenced_channels: list[str] | None = None
    referenced_messages: list[str] | None = None
    workspace_external_id: str | None = None


CHANNEL = ShardType(
    id="c_channel",
    noun="channel",
    data=ChannelData,
    chunking="own",
    text=TextTemplate(
        facts=(Fact("topic", "Topic"), Fact("purpose", "Purpose")),
        texts=(LongText("description", "Description"),),
    ),
)

MESSAGE = ShardType(
    id="c_message",
    noun="message",
    data=MessageData,
    chunking="thread",
    links=(
        Link("channelId", "message_in_channel", "c_channel", {"slack": "channel"}, {"slack": "channel"}),
        Link("parentMessageId", "replies_to", "c_message", {"slack": "message"}, {"slack": "thread_ts"}),
        Link(
            "author.id",
            "has_owner",
            "c_user",
            {"slack": "user"},
            {"slack": "user"},
            instance_field="workspaceExternalId",
        ),
        Link(
            "mentions",
            "mentions",
            "c_user",
            {"slack": "user"},
            {"slack": "text"},
            instance_field="workspaceExternalId",
        ),
        Link("referencedChannels", "references", "c_channel", {"slack": "channel"}, {"slack": "text"}),
        Link("referencedMessages", "references", "c_message", {"slack": "message"}, {"slack": "text"}),
    ),
    text=TextTemplate(texts=(LongText("content", None, by_field="author"),)),
)
