"""The test of a connection: the login, what it may see of each object, and a sample read, in plain words."""

from dataclasses import replace
from functools import partial

from connections.salesforce_connection import PolledObject, SalesforceConnection
from connections.secrets import SecretError, SecretStore, SecretsUnavailableError
from ingestion.errors import SourceError
from ingestion.patience import patiently
from ingestion.salesforce.errors import ObjectError
from ingestion.salesforce.fields import FieldList
from ingestion.salesforce.memory import ObjectNotes
from ingestion.salesforce.reader import ObjectReader
from ingestion.salesforce.session import PollingPorts, Session, opened
from ingestion.salesforce.soql import id_page_query
from ingestion.source import Checked, Finding

LOW = 0.1
"""Share of the day's calls below which few are left."""

SHORTEST_SECRET = 24
"""Characters of a webhook's secret."""

_SEEN_BY_ALL = {
    "Account": ("Name", "OwnerId", "Industry"),
    "Contact": ("Name", "Email", "AccountId"),
    "Opportunity": ("Name", "StageName", "Amount", "CloseDate", "AccountId"),
    "User": ("Name", "Email", "IsActive"),
}
"""Fields that the shards of these objects live on; hidden ones are a likely mistake of permissions."""


async def check(connection: SalesforceConnection, ports: PollingPorts) -> Checked:
    """Try the connection out.

    Raises:
        SourceError: the login fails; the message says what to do.
    """
    async with opened(connection, ports) as session:
        findings = [Finding("login", "ok", f"as org {session.instance} at {session.client.base_url}")]
        findings.append(await _limits(session))
        of_objects = [finding for polled in connection.objects for finding in await _object(session, polled)]
        if any(one.state != "error" for one in of_objects):
            # The others are read nevertheless.
            of_objects = [replace(one, state="warning") if one.state == "error" else one for one in of_objects]
        findings += of_objects
        findings += await _webhook(connection, ports.clients.secrets)
        return Checked(session.instance, session.client.base_url, findings)


async def _limits(session: Session) -> Finding:
    client = session.client
    try:
        answer = await patiently(f"{client.name}: limits", partial(client.call, "GET", "limits"))
        daily = answer.json()["DailyApiRequests"]
        most, left = int(daily["Max"]), int(daily["Remaining"])
    except (SourceError, KeyError, TypeError, ValueError) as error:
        return Finding("limits", "warning", f"the org does not tell its API limits ({type(error).__name__})")
    told = f"{left:,} of the org's {most:,} API calls of 24 hours are left"
    if left < most * LOW:
        return Finding(
            "limits", "warning", told, "polling pauses near the limit: find what else uses the API, or buy more calls"
        )
    return Finding("limits", "ok", told)


async def _object(session: Session, polled: PolledObject) -> list[Finding]:
    name, client = polled.name, session.client
    reader = ObjectReader(client, polled, ObjectNotes(object_type=name), page_size=1, clock=session.ports.clock)
    try:
        fields = await reader.with_fields(_fields)
        page = await patiently(
            f"{client.name}: sample of {name}",
            partial(client.query, id_page_query(name, fields[:1], None, 1), object_type=name),
        )
        sample = await reader.by_ids([str(record["Id"]) for record in page.records])
    except ObjectError as error:
        return [
            Finding(
                name,
                "error",
                str(error),
                f"give the user read access to {name} (View All on the object), or take it out of the connection",
            )
        ]
    findings = []
    told = f"{len(fields)} fields" + (", one record read" if sample.records else "")
    findings.append(Finding(name, "ok", told))
    if not sample.records:
        findings.append(
            Finding(
                name,
                "warning",
                "no record can be seen: the object is empty, or sharing hides its records",
                "if there are records, give the user View All on the object",
            )
        )
    hidden = [field for field in (*polled.fields, *_expected(polled)) if field not in fields]
    if hidden:
        findings.append(
            Finding(
                name,
                "warning",
                f"these fields are not to be seen: {', '.join(dict.fromkeys(hidden))}",
                "field-level security hides them, or there are none: make them visible in a permission set of the user",
            )
        )
    return findings


# What with_fields takes is awaited, since most of it asks Salesforce.
async def _fields(fields: FieldList) -> tuple[str, ...]:
    return fields.names


def _expected(polled: PolledObject) -> tuple[str, ...]:
    return () if polled.fields else _SEEN_BY_ALL.get(polled.name, ())


async def _webhook(connection: SalesforceConnection, secrets: SecretStore) -> list[Finding]:
    """Whether what stands in the webhook's address can be had."""
    findings: list[Finding] = []
    for reference in connection.webhook_secrets:
        try:
            secret = await secrets.get(connection.tenant_id, reference, fresh=True)
        except (SecretError, SecretsUnavailableError) as error:
            findings.append(Finding("webhook", "error", "the address can't be checked", str(error)))
            continue
        if len(secret.reveal()) < SHORTEST_SECRET:
            findings.append(
                Finding(
                    "webhook",
                    "warning",
                    f"{reference} is short: whoever guesses it can make the connection busy",
                    f"use at least {SHORTEST_SECRET} random letters and digits",
                )
            )
        else:
            findings.append(Finding("webhook", "ok", f"{reference} is set"))
    return findings
