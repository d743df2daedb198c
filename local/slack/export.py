"""The workspace that a company directory describes: ``DIR/slack/``, an export of it, unpacked or as a .zip."""

import re
from pathlib import Path

from ingestion.slack.export import JsonObject, SlackExport, made_id
from ingestion.slack.export_archive import ExportError
from local.company import CompanyError, read_company_settings
from local.slack.channel import Channel
from local.slack.workspace import Workspace, tombstone

_TEAM_ID = re.compile(r"T[A-Z0-9]{2,20}")


def load_workspace(directory: Path) -> Workspace:
    """The workspace of the company in *directory*; without an export one with a channel ``general`` and one person.

    Its team id is ``slack.teamId`` of company.json, else the one that the export's users name, else made from the
    tenant's. The bot is a member of every channel, as if it had been invited to each.

    Raises:
        CompanyError: company.json or the export can't be read.
    """
    settings = read_company_settings(directory)
    tenant_id = str(settings["tenantId"])
    given = _given_team_id(settings)
    folder = directory / "slack"
    if not folder.exists() and not folder.is_symlink():
        return _empty_workspace(given or made_id("T", tenant_id), tenant_id)
    try:
        with SlackExport(folder, given) as export:
            team_id = given or export.team_id or made_id("T", tenant_id)
            workspace = _named_workspace(team_id, tenant_id)
            for user in export.users:
                own = user.get("team_id") in (export.team_id, "", None)
                workspace.put_user({**user, "team_id": team_id} if own else user)
            for described in export.channels:
                channel = workspace.put_channel(_channel(described, team_id))
                for message in export.messages(channel.id):
                    channel.put(message)
                for root in channel.orphaned_threads():
                    channel.put(tombstone(root))
                channel.members[workspace.bot_user_id] = None
            return workspace
    except ExportError as error:
        raise CompanyError(f"slack: {error}") from error


def _given_team_id(settings: JsonObject) -> str | None:
    given = settings.get("slack", {})
    if not isinstance(given, dict):
        raise CompanyError('company.json: "slack" is no JSON object; write {"teamId": "T…"} or leave it out')
    team_id = given.get("teamId")
    if team_id is not None and (not isinstance(team_id, str) or _TEAM_ID.fullmatch(team_id) is None):
        raise CompanyError(f"company.json: slack.teamId {team_id!r} is no team id; write T and capitals or digits")
    return team_id


def _named_workspace(team_id: str, tenant_id: str) -> Workspace:
    domain = re.sub(r"[^a-z0-9]+", "-", tenant_id.lower()).strip("-") or "sandbox"
    return Workspace(team_id, tenant_id, domain=domain, email_domain=f"{domain}.example")


def _empty_workspace(team_id: str, tenant_id: str) -> Workspace:
    workspace = _named_workspace(team_id, tenant_id)
    owner = workspace.put_user({"id": made_id("U", team_id, "owner"), "name": "owner", "real_name": "Owner"})["id"]
    began = int(workspace.clock().timestamp())
    general = Channel(made_id("C", team_id, "general"), "general", began, owner, team_id, began * 1000, is_general=True)
    general.members = {owner: None, workspace.bot_user_id: None}
    workspace.put_channel(general)
    return workspace


def _channel(described: JsonObject, team_id: str) -> Channel:
    """The channel of an export; what Slack shares it with is not in there."""
    return Channel(
        id=described["id"],
        name=described["name"],
        created=described["created"],
        creator=described["creator"],
        home_team=team_id,
        updated=max(described["created"], described["topic"]["last_set"], described["purpose"]["last_set"]) * 1000,
        is_private=described["is_private"],
        is_archived=bool(described["is_archived"]),
        is_general=bool(described["is_general"]),
        topic=described["topic"],
        purpose=described["purpose"],
        previous_names=[str(name) for name in described["previous_names"]],
        members=dict.fromkeys(described["members"]),
    )
