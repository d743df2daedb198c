"""Listing a workspace: its users, and the channels that the app may see."""

from collections.abc import AsyncIterator
from typing import Final

from connections.slack_connection import SlackConnection
from ingestion.slack.client import SlackClient
from ingestion.slack.errors import RefusedError
from ingestion.slack.facts import JsonObject, is_conversation, is_private, is_wanted

CHANNELS_A_PAGE: Final = 200
USERS_A_PAGE: Final = 200
JOIN_REFUSED: Final = frozenset(
    {"is_archived", "channel_not_found", "method_not_supported_for_channel_type", "restricted_action"}
)


def channel_types(client: SlackClient) -> str:
    """The types of channels that the token may list; both while that is not known."""
    if client.scopes is not None and "groups:read" not in client.scopes:
        return "public_channel"
    return "public_channel,private_channel"


async def channel_pages(client: SlackClient, *, team_id: str | None) -> AsyncIterator[list[JsonObject]]:
    """All channels that the app may see, archived ones too; *team_id* where the token is an organisation's.

    Raises:
        RefusedError, TransientError, BudgetExhaustedError, CredentialError: as for the calls.
    """
    if client.scopes is None:
        await client.call("auth.test")
    async for page in client.pages(
        "conversations.list",
        types=channel_types(client),
        exclude_archived=False,
        limit=CHANNELS_A_PAGE,
        team_id=team_id,
    ):
        yield [one for one in page.get("channels", []) if not is_conversation(one)]


def team_of(connection: SlackConnection) -> str | None:
    """The team to name in calls with an organisation's token."""
    return (connection.instance or None) if connection.enterprise else None


async def make_readable(connection: SlackConnection, client: SlackClient, raw: JsonObject) -> bool:
    """Whether the channel's messages can be read, after joining it where the connection says so.

    Raises:
        RefusedError, TransientError, BudgetExhaustedError, CredentialError: as for the call.
    """
    if not is_wanted(connection, raw["id"]):
        return False
    if raw.get("is_member"):
        return True
    return may_join(connection, raw) and await join(client, raw["id"])


def may_join(connection: SlackConnection, raw: JsonObject) -> bool:
    """Whether the app may join the channel by itself."""
    return connection.join_public and not is_private(raw) and not raw.get("is_archived")


async def join(client: SlackClient, channel_id: str) -> bool:
    """Join a channel; whether Slack let the app in.

    Raises:
        RefusedError, TransientError, BudgetExhaustedError, CredentialError: as for the call.
    """
    try:
        await client.call("conversations.join", channel=channel_id)
    except RefusedError as error:
        if error.code in JOIN_REFUSED:
            return False
        raise
    return True
