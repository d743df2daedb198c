"""Trying a connection: whose token it is, what it may do, and a sample read of each kind of record."""

from typing import Final

from ingestion.errors import BudgetExhaustedError, CredentialError, TransientError
from ingestion.slack.client import SlackClient
from ingestion.slack.errors import REINSTALL, RefusedError
from ingestion.slack.facts import JsonObject, is_private, is_wanted
from ingestion.slack.listing import channel_pages, may_join, team_of
from ingestion.slack.workspace import UNSEEN
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

NAMED_AT_MOST: Final = 20
PAGES_AT_MOST: Final = 10
"""How many channels that are named, and pages of channels, are looked at: a test is no walk."""
MEND: Final = "mend what Slack says, then test again"
LATER: Final = "nothing is wrong; Slack allows so many calls a minute, test again later"


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
        findings += await _channels(client)
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
        page = await client.call("users.list", limit=1, team_id=team_of(client.connection))
    except (RefusedError, CredentialError, TransientError) as error:
        return Finding("users", "error", str(error), MEND)
    except BudgetExhaustedError as error:
        return Finding("users", "warning", f"none was read as a sample: {error}", LATER)
    return Finding("users", "ok", f"read {len(page.get('members', []))} as a sample")


async def _channels(client: SlackClient) -> list[Finding]:
    """Each channel that is named and can't be read, and a message of one that can."""
    findings: list[Finding] = []
    try:
        if client.connection.channels:
            channels = await _named_channels(client, findings)
        else:
            channels = await _some_channels(client)
        joined = next((one for one in channels if one.get("is_member")), None)
        if joined is not None:
            read = await client.call("conversations.history", channel=joined["id"], limit=1)
            told = f"read {len(read.get('messages', []))} of #{joined.get('name')} as a sample"
            return [*findings, Finding("channels", "ok", told)]
    except (RefusedError, CredentialError, TransientError) as error:
        return [*findings, Finding("channels", "error", str(error), MEND)]
    except BudgetExhaustedError as error:
        return [*findings, Finding("channels", "warning", f"no message was read as a sample: {error}", LATER)]
    if channels and client.connection.join_public:
        return [*findings, Finding("channels", "ok", "the app is in no channel yet; it joins the public ones itself")]
    return findings or [
        Finding(
            "channels",
            "warning",
            "the app is in no channel, so there is nothing to read" if channels else "there is no channel to read",
            "invite it (/invite @Shardline) to each channel it should read, or connect with --join-public",
        )
    ]


async def _some_channels(client: SlackClient) -> list[JsonObject]:
    """Channels that the connection is to read, up to the first that the app is in."""
    found: list[JsonObject] = []
    pages = 0
    async for page in channel_pages(client, team_id=team_of(client.connection)):
        for raw in page:
            if is_wanted(client.connection, raw["id"]):
                found.append(raw)
                if raw.get("is_member"):
                    return found
        pages += 1
        if pages == PAGES_AT_MOST:
            break
    return found


async def _named_channels(client: SlackClient, findings: list[Finding]) -> list[JsonObject]:
    """Those of the channels that the connection names which can be read; *findings* are told of the others."""
    connection = client.connection
    found: list[JsonObject] = []
    for channel_id in [one for one in connection.channels if one not in connection.left_out][:NAMED_AT_MOST]:
        try:
            answer = await client.call("conversations.info", channel=channel_id)
        except RefusedError as error:
            if error.code not in UNSEEN:
                raise
            findings.append(
                Finding(
                    "channels",
                    "warning",
                    f"{channel_id} is no channel of this workspace, or a private one that the app is not in",
                    "compare the id (View channel details, at the bottom); a private channel has to invite the app"
                    " (/invite @Shardline)",
                )
            )
            continue
        raw = answer["channel"]
        if raw.get("is_member") or may_join(connection, raw):
            found.append(raw)
            continue
        remedy = "invite it (/invite @Shardline)" + ("" if is_private(raw) else ", or connect with --join-public")
        told = f"the app is not in #{raw.get('name')}, {channel_id}"
        findings.append(Finding("channels", "warning", told, remedy))
    return found
