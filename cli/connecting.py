"""Commands that tie a tenant to its sources: connect, disconnect, backfill."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.home import DEFAULT_DATA, CommandError, DataOption, JsonOption, TenantOption, UsageError, run, settings_of
from cli.output import console, print_json, print_pairs, table
from composition import Services
from connections.connection import Connection, InvalidConnectionError
from connections.stored_connection import connection_data, connection_from
from ingestion import connecting
from ingestion.connecting import export_key
from ingestion.errors import SourceError
from ingestion.first_load import (
    FirstLoadPorts,
    HistoryNotes,
    LoadBusyError,
    history_key,
    load_pages,
    remaining_seconds,
    restart,
)
from ingestion.source import Checked, Pages
from messaging import codec
from messaging.contracts import is_tenant_id

SLICE_SECONDS = 20
"""How long a first load works between two looks at whether it is to stop."""

app = typer.Typer(help="Register and test a connection to a source.", no_args_is_help=True)

OfTenant = Annotated[str | None, typer.Option("--tenant", help="The tenant that the connection belongs to.")]
NameOption = Annotated[str | None, typer.Option("--name", help="What people call it.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="Start from the connection described in this JSON file.")
]
CheckOption = Annotated[bool, typer.Option("--check", help="Test only; register nothing.")]
BackfillOption = Annotated[bool, typer.Option("--backfill/--no-backfill", help="Ask for the first load too.")]
PollOption = Annotated[int | None, typer.Option("--poll-seconds", min=1, help="How often changes are asked for.")]


@app.command()
def salesforce(
    data: DataOption = DEFAULT_DATA,
    tenant: OfTenant = None,
    identifier: Annotated[str, typer.Option("--id", help="The connection's id.")] = "salesforce",
    name: NameOption = None,
    flow: Annotated[str | None, typer.Option(help="jwt-bearer, client-credentials or username-password.")] = None,
    domain: Annotated[str | None, typer.Option(help="login, test, or a My Domain such as acme.my.")] = None,
    username: Annotated[str | None, typer.Option(help="The user that logs in.")] = None,
    consumer_key: Annotated[str | None, typer.Option(help="The connected app's consumer key.")] = None,
    private_key_secret: Annotated[str | None, typer.Option(help="Name of the secret with the private key.")] = None,
    consumer_secret: Annotated[str | None, typer.Option(help="Name of the secret with the consumer secret.")] = None,
    password_secret: Annotated[str | None, typer.Option(help="Name of the secret with the password.")] = None,
    token_secret: Annotated[str | None, typer.Option(help="Name of the secret with the security token.")] = None,
    objects: Annotated[str | None, typer.Option(help="Objects to read, with commas between.")] = None,
    webhook_secret: Annotated[
        list[str] | None, typer.Option(help="Name of a secret in the webhook's address; two while one is replaced.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Currency of an org with a single one, such as EUR.")] = None,
    poll_seconds: PollOption = None,
    file: FileOption = None,
    check: CheckOption = False,
    backfill: BackfillOption = False,
    json: JsonOption = False,
) -> None:
    """Connect a Salesforce org. Its first poll reads all there is; --backfill loads large objects in bulk."""
    tenant = _tenant(tenant)
    described = _described(file)
    auth = described.get("auth", {})
    flow = flow or auth.get("flow") or _asked("Login flow (jwt-bearer, client-credentials, username-password)")
    wanted: dict[str, Any] = {"flow": flow, "domain": domain, "username": username, "consumerKey": consumer_key}
    secrets = {
        "privateKey": private_key_secret,
        "consumerSecret": consumer_secret,
        "password": password_secret,
        "securityToken": token_secret,
    }
    for key in _NEEDED.get(str(flow), ()):
        if not (wanted.get(key) or secrets.get(key) or auth.get(key)):
            if key in secrets:
                secrets[key] = _asked(f"Name of the secret with {_WORDS[key]}")
            else:
                wanted[key] = _asked(_WORDS[key])
    _finish(
        data,
        tenant,
        described
        | _given(
            connectionId=identifier,
            system="salesforce",
            name=name or described.get("name") or "Salesforce",
            auth=auth | _given(**wanted) | _references(tenant, secrets),
            objects=[{"name": one.strip()} for one in objects.split(",") if one.strip()] if objects else None,
            webhookSecrets=[_reference(tenant, one) for one in webhook_secret] if webhook_secret else None,
            defaultCurrency=currency,
            schedule=_schedule(described, poll_seconds),
        ),
        check=check,
        backfill=backfill,
        json=json,
    )


@app.command()
def slack(
    data: DataOption = DEFAULT_DATA,
    tenant: OfTenant = None,
    identifier: Annotated[str, typer.Option("--id", help="The connection's id.")] = "slack",
    name: NameOption = None,
    bot_token_secret: Annotated[
        str | None, typer.Option(help="Name of the secret with the bot token (xoxb-…).")
    ] = None,
    signing_secret: Annotated[str | None, typer.Option(help="Name of the secret with the signing secret.")] = None,
    channel: Annotated[list[str] | None, typer.Option(help="Id of a channel to read; none: all.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Id of a channel never to read.")] = None,
    join_public: Annotated[
        bool | None, typer.Option("--join-public/--no-join-public", help="Join public channels to read them.")
    ] = None,
    poll_seconds: PollOption = None,
    file: FileOption = None,
    check: CheckOption = False,
    backfill: BackfillOption = True,
    json: JsonOption = False,
) -> None:
    """Connect a Slack workspace."""
    tenant = _tenant(tenant)
    described = _described(file)
    auth = described.get("auth", {})
    secrets = {"botToken": bot_token_secret, "signingSecret": signing_secret}
    for key, words in (("botToken", "the bot token (xoxb-…)"), ("signingSecret", "the signing secret")):
        secrets[key] = secrets[key] or (None if auth.get(key) else _asked(f"Name of the secret with {words}"))
    _finish(
        data,
        tenant,
        described
        | _given(
            connectionId=identifier,
            system="slack",
            name=name or described.get("name") or "Slack",
            auth=auth | _references(tenant, secrets),
            channels=channel or None,
            leftOut=leave_out or None,
            joinPublic=join_public,
            schedule=_schedule(described, poll_seconds, default=900),
        ),
        check=check,
        backfill=backfill,
        json=json,
    )


@app.command()
def gdrive(
    data: DataOption = DEFAULT_DATA,
    tenant: OfTenant = None,
    identifier: Annotated[str, typer.Option("--id", help="The connection's id.")] = "gdrive",
    name: NameOption = None,
    service_account_secret: Annotated[
        str | None, typer.Option(help="Name of the secret with the service account's JSON key.")
    ] = None,
    subject: Annotated[
        list[str] | None, typer.Option(help="Address of a user to read as; several times for several.")
    ] = None,
    customer: Annotated[
        str | None, typer.Option(help="The Google customer id (C…), as the Admin console's account settings show it.")
    ] = None,
    folder: Annotated[list[str] | None, typer.Option(help="Id of a folder to read; none: all.")] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Id of a folder never to read.")] = None,
    push_address: Annotated[
        str | None, typer.Option(help="The https address of this app's webhooks/gdrive, for push notifications.")
    ] = None,
    channel_secret: Annotated[
        str | None, typer.Option(help="Name of the secret that the tokens of push channels are made with.")
    ] = None,
    poll_seconds: PollOption = None,
    file: FileOption = None,
    check: CheckOption = False,
    backfill: BackfillOption = True,
    json: JsonOption = False,
) -> None:
    """Connect the Drives of a Google domain."""
    tenant = _tenant(tenant)
    described = _described(file)
    auth = described.get("auth", {})
    if not (service_account_secret or auth.get("serviceAccount")):
        service_account_secret = _asked("Name of the secret with the service account's JSON key")
    _finish(
        data,
        tenant,
        described
        | _given(
            connectionId=identifier,
            system="gdrive",
            name=name or described.get("name") or "Google Drive",
            auth=auth
            | _references(tenant, {"serviceAccount": service_account_secret})
            | _given(subjects=subject or None),
            instance=customer,
            folders=folder or None,
            leftOut=leave_out or None,
            pushAddress=push_address,
            channelSecret=_reference(tenant, channel_secret) if channel_secret else None,
            schedule=_schedule(described, poll_seconds),
        ),
        check=check,
        backfill=backfill,
        json=json,
    )


_NEEDED = {
    "jwt-bearer": ("username", "consumerKey", "privateKey"),
    "client-credentials": ("domain", "consumerKey", "consumerSecret"),
    "username-password": ("username", "password", "securityToken"),
}
_WORDS = {
    "username": "User name",
    "domain": "My Domain, such as acme.my",
    "consumerKey": "Consumer key of the connected app",
    "privateKey": "the private key (PEM)",
    "consumerSecret": "the consumer secret",
    "password": "the password",
    "securityToken": "the security token",
}


def disconnect(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection's id.")],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take away every record, text and vector that the connection brought.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """End a connection: nothing is read by it any more. What it brought stays, unless --purge."""
    if purge and not yes and not json and not _confirmed(f"Take away everything that {connection} has brought?"):
        raise CommandError("nothing was done: say --yes, or answer y")

    async def work(services: Services) -> dict[str, Any]:
        known = await _the_connection(services, tenant, connection)
        left = await connecting.disconnect(known, services.ingestion, purge=purge)
        return {"tenantId": known.tenant_id, "connectionId": connection, "purge": purge, "left": left}

    answer = run(data, work)
    if json:
        print_json(answer)
        return
    out = console()
    out.print(f"{connection} of {answer['tenantId']} is disconnected.")
    if answer["left"]:
        out.print(f"Left at the source: {answer['left']}", soft_wrap=True)
    if purge:
        out.print("The running app takes away what it brought; 'shardline status' shows how much is left.")


def backfill(
    connection: Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection's id.")],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Load this export instead of asking the source: a Slack export (folder or .zip), Data Loader CSV "
            "files (several times for several), or a folder tree of Drive files.",
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--restart", help="Begin at the beginning.")] = False,
    json: JsonOption = False,
) -> None:
    """Load a connection's history now, as fast as the chain digests it; it goes on where it stopped."""
    for path in source or []:
        if not path.exists():
            raise UsageError(f"--from: there is no {path}")

    async def work(services: Services) -> HistoryNotes:
        known = await _the_connection(services, tenant, connection)
        if known.status != "active":
            raise CommandError(f"{connection} is {known.status}: {known.error_message or 'connect it again first'}")
        ports = services.ingestion
        loading = FirstLoadPorts(ports.bus, ports.states, ports.clock)
        key = history_key(known)
        pages: Pages = partial(connecting.source_of(known, ports).history, known)
        if source:
            key = f"{key}/{export_key(source)}"
            pages = connecting.history_of_export(known, source, ports)
        if anew:
            await restart(known, loading, key=key)
        with _progress(known) as seen:
            while True:
                deadline = ports.clock() + timedelta(seconds=SLICE_SECONDS)
                step = await load_pages(known, pages, loading, deadline=deadline, seen=seen, key=key)
                if step.again_in is None:
                    return step.notes
                await asyncio.sleep(step.again_in.total_seconds())

    try:
        notes = run(data, work)
    except (SourceError, LoadBusyError) as error:
        raise CommandError(str(error)) from None
    if json:
        print_json(codec.decode(codec.encode(notes)))
    else:
        console().print(f"Loaded {notes.records:,} records in {notes.pages:,} pages, {notes.seconds:,.0f} s of work.")


async def _the_connection(services: Services, tenant: str | None, connection_id: str) -> Connection:
    known = [
        one
        for one in await (services.connections.of_tenant(tenant) if tenant else services.connections.all())
        if one.connection_id == connection_id
    ]
    if len(known) == 1:
        return known[0]
    if known:
        raise UsageError(f"several tenants have a connection {connection_id}: name one with --tenant")
    raise UsageError(f"there is no connection {connection_id!r} here (see 'shardline connections')")


def _finish(
    data: Path, tenant: str, description: Mapping[str, Any], *, check: bool, backfill: bool, json: bool
) -> None:
    """Test what is described, and register it when the test found nothing that stops it."""
    try:
        described = connection_from(description, tenant)
    except InvalidConnectionError as error:
        raise UsageError(str(error)) from None

    async def work(services: Services) -> tuple[Checked, Connection | None]:
        ports = services.ingestion
        standing = await services.connections.get(tenant, described.connection_id)
        if standing is not None and standing.system != described.system:
            raise UsageError(f"{described.connection_id} is a connection of {standing.system}: choose another --id")
        checked = await connecting.check(described, ports)
        if check or not checked.is_usable:
            return checked, None
        established = await connecting.establish(described, checked, ports)
        if backfill:
            await connecting.ask_for_history(established, ports)
        return checked, established

    checked, established = run(data, work)
    if json:
        print_json(
            {
                "usable": checked.is_usable,
                "instance": checked.instance,
                "findings": [
                    {"what": one.what, "state": one.state, "detail": one.detail, "remedy": one.remedy}
                    for one in checked.findings
                ],
                "connection": connection_data(established) if established else None,
            }
        )
    else:
        _tell(data, described, checked, established, backfill=backfill)
    if not checked.is_usable:
        problems = "; ".join(
            f"{one.what}: {one.remedy or one.detail}" for one in checked.findings if one.state == "error"
        )
        raise CommandError(f"{described.connection_id} can't be used: {problems}")


def _tell(
    data: Path, described: Connection, checked: Checked, established: Connection | None, *, backfill: bool
) -> None:
    out = console()
    rows = [[one.what, one.state, one.detail, one.remedy] for one in checked.findings]
    out.print(table(f"Test of {described.connection_id}", ["what", "is", "found", "remedy"], rows))
    if established is None:
        return
    local = settings_of(data).home == "local"
    print_pairs(
        {
            "Connected": f"{established.connection_id} of {established.tenant_id}",
            "Instance": established.instance,
            "First load": "asked for"
            if backfill
            else f"not asked for: 'shardline backfill {established.connection_id}'",
            "Done by": "the running host ('shardline up')" if local else "the app on Azure",
            "See": "shardline status",
        }
    )


def _tenant(named: str | None) -> str:
    tenant = named or _asked("Tenant", option="--tenant")
    if not is_tenant_id(tenant):
        raise UsageError("--tenant: no tenant can have this id")
    return tenant


def _described(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = codec.decode(file.read_bytes())
    except codec.DecodeError as error:
        raise CommandError(f"{file} is no JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("auth", {}), dict):
        raise CommandError(f"{file} holds no connection: it must be a JSON object with an object auth")
    return content


def _asked(words: str, *, option: str | None = None) -> str:
    """What a person at a terminal answers.

    Raises:
        UsageError: nobody is there to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"{option or words}: is missing; give it by its option or in --file (see --help)")
    answer: str = typer.prompt(words, err=True)
    return answer.strip()


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and typer.confirm(question, err=True)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _references(tenant: str, secrets: Mapping[str, str | None]) -> dict[str, str]:
    return {key: _reference(tenant, name) for key, name in secrets.items() if name}


def _reference(tenant: str, name: str) -> str:
    return name if name.startswith("secret:") else f"secret:{tenant}/{name}"


def _schedule(described: Mapping[str, Any], poll_seconds: int | None, *, default: int = 60) -> dict[str, Any]:
    return {"pollSeconds": default, **described.get("schedule", {}), **_given(pollSeconds=poll_seconds)}


class _progress:  # noqa: N801 - used as a function that gives a context
    """Tells of each page and wait: a bar on a terminal, now and then a line in a log."""

    def __init__(self, connection: Connection) -> None:
        self._name = connection.connection_id
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._said = 0

    def __enter__(self) -> Callable[[HistoryNotes], None]:
        if not self._err.is_terminal:
            return self._say
        columns = (SpinnerColumn(), BarColumn(bar_width=14), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._err, transient=True)
        self._bar.start()
        task = self._bar.add_task(f"loading {self._name}", total=None)
        bar = self._bar

        def advance(notes: HistoryNotes) -> None:
            bar.update(task, total=notes.total, completed=notes.records, description=_standing(notes))

        return advance

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _say(self, notes: HistoryNotes) -> None:
        if notes.waiting_for is not None or notes.records >= self._said + 1000 or notes.finished_at:
            self._said = notes.records
            self._err.print(f"{self._name}: {_standing(notes)}", markup=False)


def _standing(notes: HistoryNotes) -> str:
    """Where a first load stands, in words."""
    words = f"{notes.records:,} records"
    if notes.total:
        about = "about " if notes.estimated else ""
        words += f" of {about}{notes.total:,} ({min(100, round(100 * notes.records / notes.total))} %)"
    left = remaining_seconds(notes)
    if left:
        words += f", some {left / 60:,.0f} min left" if left > 90 else f", some {left:,.0f} s left"
    if notes.waiting_for:
        words += f"; waiting for {notes.waiting_for}"
    return words
