"""Trying a connection: whose token it is, what it may do, and a sample read of each kind of record."""

from typing import Final

from ingestion.errors import CredentialError, TransientError
from ingestion.slack.client import SlackClient
from ingestion.slack.errors import REINSTALL, RefusedError
from ingestion.slack.facts import is_wanted
from ingestion.slack.listing import channel_types
from ingestion.source import Checked, Finding

NEEDED: Final = {
    "channels:read": "to see public channels",
    "channels:history": "to read what is written in public channels",
    "users:read": "to name who wrote",
    "users:read.email": "to tell which of your people may read a private channel",
}
"""Scopes without which a connection is of no use, and why."""

WANTED: Final = {
    "groups:read": "private channels can't be seen, even where the app is invited",
    "groups:history": "private channels can't be read, even where the app is invited",
    "team:read": "the workspace can't be named by itself",
}
"""Scopes that something stays away without, and what."""


async def check(client: SlackClient) -> Checked:
    """Try the connection of *client*.

    Raises:
        CredentialError, TransientError, BudgetExhaustedError: Slack lets nobody in.
    """
    connection = client.connection
    answer = await client.call("auth.test")
    team, url = str(answer.get("team_id") or ""), str(answer.get("url") or "")
    findings = [Finding("login", "ok", f"as {answer.get('user')} of {answer.get('team')}, {team}")]
    found = {"bot_user": answer.get("user_id"), "bot_id": answer.get("bot_id")}
    if not answer.get("bot_id"):
        findings.append(Finding("token", "error", "the token is not a bot's", "store the Bot User OAuth Token, xoxb-…"))
    findings += _scope_findings(client)
    if all(finding.state != "error" for finding in findings):
        findings.append(await _users(client))
        findings.append(await _channels(client))
    if connection.enterprise is not None and answer.get("enterprise_id") not in (None, connection.enterprise):
        findings.append(
            Finding(
                "organisation",
                "error",
                f"the token is of the organisation {answer['enterprise_id']}, not {connection.enterprise}",
                "give the organisation's own id, or leave it out for an app installed in one workspace",
            )
        )
    instance = connection.instance if connection.enterprise and connection.instance else team
    return Checked(instance, url, findings, {name: value for name, value in found.items() if value})


def _scope_findings(client: SlackClient) -> list[Finding]:
    scopes = client.scopes
    if scopes is None:
        return [Finding("scopes", "warning", "Slack did not say which scopes the token has")]
    findings = [
        Finding("scopes", "error", f"{scope} is missing: it is needed {why}", _remedy(scope))
        for scope, why in NEEDED.items()
        if scope not in scopes
    ]
    findings += [
        Finding("scopes", "warning", f"{scope} is missing: {why}", _remedy(scope))
        for scope, why in WANTED.items()
        if scope not in scopes
    ]
    if client.connection.join_public and "channels:join" not in scopes:
        findings.append(
            Finding(
                "scopes",
                "error",
                "channels:join is missing: it is needed to join public channels",
                _remedy("channels:join"),
            )
        )
    return findings or [Finding("scopes", "ok", ", ".join(sorted(scopes)))]


def _remedy(scope: str) -> str:
    return f"add {scope} under OAuth & Permissions in the app's settings, then {REINSTALL}"


async def _users(client: SlackClient) -> Finding:
    try:
        page = await client.call("users.list", limit=1)
    except (RefusedError, CredentialError, TransientError) as error:
        return Finding("users", "error", str(error), "mend what Slack says, then test again")
    return Finding("users", "ok", f"read {len(page.get('members', []))} as a sample")


async def _channels(client: SlackClient) -> Finding:
    """A channel whose messages can be read, and a message of it."""
    connection = client.connection
    try:
        page = await client.call("conversations.list", types=channel_types(client), exclude_archived=True, limit=200)
        channels = [one for one in page.get("channels", []) if is_wanted(connection, one["id"])]
        joined = next((one for one in channels if one.get("is_member")), None)
        if joined is not None:
            read = await client.call("conversations.history", channel=joined["id"], limit=1)
            return Finding(
                "channels", "ok", f"read {len(read.get('messages', []))} of #{joined.get('name')} as a sample"
            )
    except (RefusedError, CredentialError, TransientError) as error:
        return Finding("channels", "error", str(error), "mend what Slack says, then test again")
    if channels and connection.join_public:
        return Finding("channels", "ok", "the app is in no channel yet; it joins the public ones itself")
    return Finding(
        "channels",
        "warning",
        "the app is in no channel, so there is nothing to read" if channels else "there is no channel to read",
        "invite it (/invite @Shardline) to each channel it should read, or connect with --join-public",
    )
