"""Commands that tie a tenant to its sources: connect, disconnect, backfill."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.home import DEFAULT_DATA, CommandError, DataOption, JsonOption, TenantOption, UsageError, run, settings_of
from cli.output import console, print_json, print_pairs, table
from composition import Services
from connections.connection import Connection, InvalidConnectionError
from connections.registry import ConnectionContendedError
from connections.salesforce_connection import DEFAULT_OBJECTS
from connections.secrets import SecretError, environment_variable, secret_name
from connections.state import StateError, StateMovedError
from connections.stored_connection import KINDS, connection_data, connection_from
from ingestion import connecting
from ingestion.connecting import ConnectionStateError, export_key
from ingestion.errors import SourceError
from ingestion.first_load import FirstLoadPorts, LoadBusyError, load_pages, note_asked
from ingestion.history_memory import HistoryNotes, history_key, load_memory, records_per_second, remaining_seconds
from ingestion.source import Checked, Pages
from messaging import codec
from messaging.contracts import is_tenant_id
from messaging.times import from_text
from processors.outcome import PermanentError

T = TypeVar("T")

SLICE_SECONDS = 20
"""How long a first load works between two looks at whether it is to stop."""

LOOK_SECONDS = 1.0
"""How often a load is looked at that another worker drives."""

SAY_SECONDS = 2.0
"""Between two lines of progress in a log."""

REFUSALS = (
    ConnectionContendedError,
    ConnectionStateError,
    InvalidConnectionError,
    SourceError,
    StateError,
    StateMovedError,
)
"""What keeps a command about a connection from its end, in words for its user."""

app = typer.Typer(help="Register and test a connection to a source.", no_args_is_help=True)

OfTenant = Annotated[str | None, typer.Option("--tenant", help="The tenant that the connection belongs to.")]
IdOption = Annotated[
    str | None, typer.Option("--id", help="The connection's id; the source's name where none is given.")
]
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
    identifier: IdOption = None,
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

    def describe(known: "_Known") -> dict[str, Any]:
        chosen = flow or known.auth.get("flow")
        chosen = chosen or known.asked("flow", "Login flow (jwt-bearer, client-credentials, username-password)")
        given = {"flow": chosen, "domain": domain, "username": username, "consumerKey": consumer_key}
        secrets = {
            "privateKey": private_key_secret,
            "consumerSecret": consumer_secret,
            "password": password_secret,
            "securityToken": token_secret,
        }
        for key in _NEEDED.get(str(chosen), ()):
            option, words = _OPTIONS[key]
            if key in secrets:
                secrets[key] = secrets[key] or known.secret(key, option, words)
            else:
                given[key] = given[key] or known.auth.get(key) or known.asked(option, words)
        wanted = objects
        if known.walks and objects is None:
            wanted = known.offered("Objects to read, with commas between", ",".join(DEFAULT_OBJECTS))
        return _given(
            auth=known.auth | _given(**given) | known.references(secrets),
            objects=_objects(known, wanted),
            webhookSecrets=[known.reference(one) for one in webhook_secret if one] if webhook_secret else None,
            defaultCurrency=currency,
        )

    call = _Call("salesforce", data, tenant, identifier, name, file, poll_seconds)
    _connect(call, describe, check=check, backfill=backfill, json=json)


@app.command()
def slack(
    data: DataOption = DEFAULT_DATA,
    tenant: OfTenant = None,
    identifier: IdOption = None,
    name: NameOption = None,
    bot_token_secret: Annotated[
        str | None, typer.Option(help="Name of the secret with the bot token (xoxb-…).")
    ] = None,
    signing_secret: Annotated[str | None, typer.Option(help="Name of the secret with the signing secret.")] = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="Id of a channel to read, several times for several; '': all.")
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Id of a channel never to read; '': none.")] = None,
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

    def describe(known: "_Known") -> dict[str, Any]:
        secrets = {
            "botToken": bot_token_secret or known.secret("botToken", "bot-token-secret", "the bot token (xoxb-…)"),
            "signingSecret": signing_secret or known.secret("signingSecret", "signing-secret", "the signing secret"),
        }
        channels, joins = channel, join_public
        if known.walks:
            if channels is None:
                channels = known.offered("Ids of the channels to read, with commas between", "all").split(",")
                channels = [one for one in channels if one != "all"]
            if joins is None:
                joins = known.agreed("Shall the bot join public channels to read them?")
        return _given(
            auth=known.auth | known.references(secrets),
            channels=_listed(channels),
            leftOut=_listed(leave_out),
            joinPublic=joins,
        )

    call = _Call("slack", data, tenant, identifier, name, file, poll_seconds)
    _connect(call, describe, check=check, backfill=backfill, json=json)


@app.command()
def gdrive(
    data: DataOption = DEFAULT_DATA,
    tenant: OfTenant = None,
    identifier: IdOption = None,
    name: NameOption = None,
    service_account_secret: Annotated[
        str | None, typer.Option(help="Name of the secret with the service account's JSON key.")
    ] = None,
    subject: Annotated[
        list[str] | None,
        typer.Option(help="Address of a user to read as, several times for several; '': the account itself."),
    ] = None,
    customer: Annotated[
        str | None, typer.Option(help="The Google customer id (C…), as the Admin console's account settings show it.")
    ] = None,
    folder: Annotated[
        list[str] | None, typer.Option(help="Id of a folder to read, several times for several; '': all.")
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Id of a folder never to read; '': none.")] = None,
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

    def describe(known: "_Known") -> dict[str, Any]:
        account = service_account_secret or known.secret(
            "serviceAccount", "service-account-secret", "the service account's JSON key"
        )
        subjects, instance = subject, customer
        if known.walks and subjects is None:
            told = known.offered("Addresses of the users to read as, with commas between", "the account itself")
            subjects = [one for one in told.split(",") if "@" in one]
        if known.walks and instance is None:
            # It is part of each file's identity, and no call tells it.
            told = known.offered("Google customer id (C…), of the Admin console's account settings", _FIRST_DOMAIN)
            instance = None if told == _FIRST_DOMAIN else told
        return _given(
            auth=known.auth | known.references({"serviceAccount": account}) | _given(subjects=_listed(subjects)),
            instance=instance,
            folders=_listed(folder),
            leftOut=_listed(leave_out),
            pushAddress=push_address,
            channelSecret=known.reference(channel_secret) if channel_secret else None,
        )

    call = _Call("gdrive", data, tenant, identifier, name, file, poll_seconds)
    _connect(call, describe, check=check, backfill=backfill, json=json)


_NAMES = {"salesforce": "Salesforce", "slack": "Slack", "gdrive": "Google Drive"}
_NEEDED = {
    "jwt-bearer": ("username", "consumerKey", "privateKey"),
    "client-credentials": ("domain", "consumerKey", "consumerSecret"),
    "username-password": ("username", "password", "securityToken"),
}
_OPTIONS = {
    "username": ("username", "User name"),
    "domain": ("domain", "My Domain, such as acme.my"),
    "consumerKey": ("consumer-key", "Consumer key of the connected app"),
    "privateKey": ("private-key-secret", "the private key (PEM)"),
    "consumerSecret": ("consumer-secret", "the consumer secret"),
    "password": ("password-secret", "the password"),
    "securityToken": ("token-secret", "the security token"),
}
"""By field: the option that gives it, and what it is asked for as; of a secret, what is in it."""

_OF_MANY_LINES = ("privateKey", "serviceAccount")
"""Secrets that nobody types, nor pastes into a line."""

_FIRST_DOMAIN = "the first user's domain, for good"

_SECRETS_BEGIN = ("xoxb-", "xoxp-", "xoxe", "xapp-", "-----", "{")
_LONGEST_SECRET_NAME = 100


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
    if purge and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"--purge takes away everything that {connection} has brought: confirm it with --yes")
        if not typer.confirm(f"Take away everything that {connection} has brought?", err=True):
            raise CommandError("nothing was done")

    async def work(services: Services) -> dict[str, Any]:
        known = await the_connection(services, tenant, connection)
        left = await connecting.disconnect(known, services.ingestion, purge=purge)
        return {"tenantId": known.tenant_id, "connectionId": connection, "purge": purge, "left": left}

    answer = refusing(data, work)
    if json:
        print_json(answer)
        return
    out = console()
    out.print(f"{connection} of {answer['tenantId']} is disconnected.")
    if answer["left"]:
        out.print(f"Left at the source: {answer['left']}", soft_wrap=True)
    if purge:
        out.print(f"The {_host(data)} takes away what it brought; 'shardline status' shows how far it is.")


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

    began: datetime | None = None

    async def work(services: Services) -> HistoryNotes:
        nonlocal began
        began = services.clock()
        known = await the_connection(services, tenant, connection)
        _must_be_active(known)
        ports = services.ingestion
        loading = FirstLoadPorts(ports.bus, ports.states, ports.clock)
        key = history_key(known)
        pages: Pages = partial(connecting.source_of(known, ports).history, known)
        if source:
            key = f"{key}/{export_key(source)}"
            pages = connecting.history_of_export(known, source, ports)
        await note_asked(known, loading, anew=anew, key=key)
        with _LoadProgress(known, local=services.settings.home == "local") as seen:
            while True:
                deadline = ports.clock() + timedelta(seconds=SLICE_SECONDS)
                try:
                    step = await load_pages(known, pages, loading, deadline=deadline, seen=seen, key=key)
                except LoadBusyError:
                    # The app's own worker, or another command: what it does is as good.
                    seen((await load_memory(known, ports.states, key=key)).metadata)
                    await asyncio.sleep(LOOK_SECONDS)
                except StateMovedError:
                    await asyncio.sleep(LOOK_SECONDS)
                else:
                    if step.again_in is None:
                        return step.notes
                    await asyncio.sleep(step.again_in.total_seconds())
                _must_be_active(await ports.registry.get(known.tenant_id, known.connection_id) or known)

    notes = refusing(data, work)
    if json:
        print_json(codec.decode(codec.encode(notes)))
    elif began and notes.finished_at and from_text(notes.finished_at) < began:
        told = f"Nothing was left to load: {notes.records:,} records were, by {notes.finished_at}."
        console().print(f"{told} --restart begins at the beginning.", soft_wrap=True)
    else:
        console().print(f"Loaded {notes.records:,} records in {notes.pages:,} pages and {notes.seconds:,.0f} s.")


def _must_be_active(connection: Connection) -> None:
    if connection.status == "active":
        return
    remedy = {
        "paused": f"'shardline connections --resume {connection.connection_id}' lets it go on",
        "disconnected": f"'shardline connect {connection.system}' connects it again",
    }.get(connection.status, connection.error_message or "connect it again")
    raise CommandError(f"{connection.connection_id} is {connection.status}: {remedy}")


async def the_connection(services: Services, tenant: str | None, connection_id: str) -> Connection:
    """The connection of this id, which is one tenant's alone or that of *tenant*.

    Raises:
        UsageError: there is none, or several tenants have one.
        InvalidConnectionError: it can't be read.
    """
    connections, unreadable = await services.connections.listed(tenant)
    for broken in unreadable:
        if broken.connection_id == connection_id:
            raise InvalidConnectionError(f"{broken.problem}; connect it again")
    known = [one for one in connections if one.connection_id == connection_id]
    if len(known) == 1:
        return known[0]
    if known:
        tenants = ", ".join(sorted(one.tenant_id for one in known))
        raise UsageError(f"several tenants have a connection {connection_id}: name one with --tenant ({tenants})")
    there = ", ".join(sorted({one.connection_id for one in connections})) or "none"
    raise UsageError(f"there is no connection {connection_id!r} here; there are: {there}")


def refusing(data: Path, work: Callable[[Services], Awaitable[T]]) -> T:
    """As :func:`cli.home.run`, with what refuses the work as a failure of the command.

    Raises:
        CommandError: see :data:`REFUSALS`.
    """
    try:
        return run(data, work)
    except PermanentError as error:
        raise CommandError(error.detail) from None
    except REFUSALS as error:
        raise CommandError(str(error)) from None


@dataclass(frozen=True, slots=True)
class _Call:
    """What all kinds of connections are told of alike."""

    system: str
    data: Path
    tenant: str | None
    identifier: str | None
    name: str | None
    file: Path | None
    poll_seconds: int | None


@dataclass(slots=True)
class _Known:
    """What is known of a connection before its options are: its description so far, and what people answer.

    *walks*: somebody is led through it, since something that it needs was not given.
    """

    tenant: str
    identifier: str
    described: Mapping[str, Any]
    is_new: bool
    secrets_folder: Path | None = None
    """Where the secrets of a home on one machine are."""
    missing: list[str] = field(default_factory=list)
    walks: bool = False

    @property
    def auth(self) -> dict[str, Any]:
        """What is known of its login."""
        return dict(self.described.get("auth", {}))

    def asked(self, option: str, words: str, default: str | None = None) -> str | None:
        """What a person at a terminal answers; without one the option is missing."""
        if not sys.stdin.isatty():
            self.missing.append(f"--{option}")
            return None
        self.walks = self.is_new
        answer: str = typer.prompt(words, default=default, err=True)
        return answer.strip()

    def secret(self, key: str, option: str, words: str) -> str | None:
        """The name of the secret with *words*: that of the description, else asked for."""
        if self.auth.get(key):
            return None
        part = option.removesuffix("-secret")
        name = self.asked(option, f"Name of the secret with {words}", f"{self.identifier}-{part}")
        if name and self.secrets_folder:
            self._keep(self.secrets_folder, self.reference(name), words, in_a_file=key in _OF_MANY_LINES)
        return name

    def _keep(self, folder: Path, reference: str, words: str, *, in_a_file: bool) -> None:
        """Ask for the value that *reference* stands for where it has none yet, and put it where the app finds it.

        Raises:
            UsageError: it is no reference of the tenant's.
            CommandError: the file that is named can't be read.
        """
        try:
            variable = environment_variable(self.tenant, secret_name(self.tenant, reference))
        except SecretError as error:
            raise UsageError(str(error)) from None
        if os.environ.get(variable) or (folder / variable).exists():
            return
        later = f"Return: you put it into {folder / variable}"
        if in_a_file:
            told = typer.prompt(f"File with {words} ({later})", default="", show_default=False, err=True).strip()
            try:
                value = Path(told).expanduser().read_text() if told else ""
            except (OSError, UnicodeDecodeError) as error:
                raise CommandError(f"{told} can't be read: {getattr(error, 'strerror', error)}") from None
        else:
            asked = f"Its value (not shown; {later})"
            value = typer.prompt(asked, default="", show_default=False, hide_input=True, err=True).strip()
        if value:
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / variable).touch(mode=0o600, exist_ok=False)
            (folder / variable).write_text(value)

    def offered(self, words: str, default: str) -> str:
        """What a person chooses in place of *default*."""
        answer: str = typer.prompt(words, default=default, err=True)
        return answer.strip()

    def agreed(self, question: str) -> bool:
        """Whether a person says yes."""
        return typer.confirm(question, err=True)

    def references(self, secrets: Mapping[str, str | None]) -> dict[str, str]:
        """The references to those of *secrets* that are named."""
        return {key: self.reference(name) for key, name in secrets.items() if name}

    def reference(self, name: str) -> str:
        """The reference to the tenant's secret *name*.

        Raises:
            UsageError: it looks like the secret itself, which has no place in a connection.
        """
        if name.startswith("secret:"):
            return name
        if name.startswith(_SECRETS_BEGIN) or len(name) > _LONGEST_SECRET_NAME or len(name.split()) != 1:
            raise UsageError("what is given for the name of a secret looks like the secret itself: give its name alone")
        return f"secret:{self.tenant}/{name}"


def _connect(
    call: _Call,
    describe: Callable[[_Known], dict[str, Any]],
    *,
    check: bool,
    backfill: bool,
    json: bool,
) -> None:
    """Test what is described, and register it when the test found nothing that stops it."""
    of_file = _of_file(call)
    tenant = call.tenant or _asked_tenant()
    if not is_tenant_id(tenant) or "/" in tenant or len(tenant.split()) != 1:
        # A reference to one of its secrets is secret:<tenant>/<name>.
        raise UsageError("--tenant: no tenant can have this id: it is one word without a slash")
    identifier = call.identifier or of_file.get("connectionId") or call.system

    async def work(services: Services) -> tuple[Checked, Connection, Connection | None]:
        ports = services.ingestion
        standing = await _standing(services, tenant, identifier)
        if standing is not None and standing.system != call.system:
            raise UsageError(f"{identifier} is a connection of {standing.system}: choose another --id")
        before = of_file or (connection_data(standing) if standing else {})
        settings = services.settings
        folder = settings.secrets_folder if settings.home == "local" else None
        described = _description(call, _Known(tenant, identifier, before, not before, folder), describe)
        if standing and standing.instance and described.instance not in ("", standing.instance):
            raise UsageError(
                f"{identifier} is of the instance {standing.instance}, not {described.instance}: choose another --id"
            )
        checked = await connecting.check(described, ports, instance=standing.instance if standing else "")
        if check or not checked.is_usable:
            return checked, described, None
        anew = backfill and standing is not None and _reads(standing) != _reads(described)
        return checked, described, await connecting.establish(described, checked, ports, load=backfill, anew=anew)

    checked, described, established = refusing(call.data, work)
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
        _tell(call.data, described, checked, established, backfill=backfill)
    if not checked.is_usable:
        problems = "; ".join(
            ": ".join(filter(None, (one.what, one.detail, one.remedy)))
            for one in checked.findings
            if one.state == "error"
        )
        raise CommandError(f"{described.connection_id} can't be used: {problems}")


async def _standing(services: Services, tenant: str, identifier: str) -> Connection | None:
    """What is registered under the id; None also where that can't be read, since it is to be written anew."""
    try:
        return await services.connections.get(tenant, identifier)
    except InvalidConnectionError:
        return None


def _description(call: _Call, known: _Known, describe: Callable[[_Known], dict[str, Any]]) -> Connection:
    """The connection that file, options, answers and what stands make together."""
    wanted = describe(known)
    if known.missing:
        verb = "is" if len(known.missing) == 1 else "are"
        raise UsageError(
            f"{', '.join(known.missing)} {verb} missing: give {'it' if verb == 'is' else 'them'}, or --file"
        )
    [default] = [one.default for one in msgspec.structs.fields(KINDS[call.system]) if one.name == "schedule"]
    schedule = {
        **codec.decode(codec.encode(default)),
        **known.described.get("schedule", {}),
        **_given(pollSeconds=call.poll_seconds),
    }
    try:
        return connection_from(
            {
                "name": _NAMES[call.system],
                **known.described,
                **_given(name=call.name),
                **wanted,
                "connectionId": known.identifier,
                "system": call.system,
                "schedule": schedule,
            },
            known.tenant,
        )
    except InvalidConnectionError as error:
        raise UsageError(str(error)) from None


def _reads(connection: Connection) -> dict[str, Any]:
    """What decides which records a connection reads."""
    data = connection_data(connection)
    names = ("objects", "channels", "leftOut", "joinPublic", "folders", "sharedDrives")
    return {name: data.get(name) for name in names} | {"subjects": data.get("auth", {}).get("subjects")}


def _tell(
    data: Path, described: Connection, checked: Checked, established: Connection | None, *, backfill: bool
) -> None:
    out = console()
    rows = [[one.what, one.state, one.detail, one.remedy] for one in checked.findings]
    out.print(table(f"Test of {described.connection_id}", ["what", "is", "found", "remedy"], rows))
    if established is None:
        return
    print_pairs(
        {
            "Connected": f"{established.connection_id} of {established.tenant_id}",
            "Instance": established.instance,
            "First load": "asked for"
            if backfill
            else f"not asked for: 'shardline backfill {established.connection_id}'",
            "Done by": f"the {_host(data)}",
            "See": "shardline status",
        }
    )


def _host(data: Path) -> str:
    """Who does the work that a command asks for."""
    return "running host ('shardline up')" if settings_of(data).home == "local" else "app on Azure"


def _asked_tenant() -> str:
    if not sys.stdin.isatty():
        raise UsageError("--tenant is missing: a connection belongs to one tenant")
    answer: str = typer.prompt("Tenant", err=True)
    return answer.strip()


def _of_file(call: _Call) -> dict[str, Any]:
    """The connection that a file describes, as far as it does.

    Raises:
        UsageError: it describes one of another source.
        CommandError: it holds none.
    """
    if call.file is None:
        return {}
    content = description_in(call.file)
    if content.get("system", call.system) != call.system:
        raise UsageError(f"{call.file} describes a connection of another source than {call.system}")
    return content


def description_in(file: Path) -> dict[str, Any]:
    """What *file* says of a connection.

    Raises:
        CommandError: it holds no JSON object, or one whose parts are none where they must be.
    """
    try:
        content = codec.decode(file.read_bytes())
    except codec.DecodeError as error:
        raise CommandError(f"{file} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise CommandError(f"{file} holds no JSON object")
    for part in ("auth", "schedule"):
        if not isinstance(content.get(part, {}), dict):
            raise CommandError(f"{file}: {part} must be a JSON object")
    return content


def _objects(known: _Known, names: str | None) -> list[dict[str, Any]] | None:
    """The objects of *names*, each with the fields that were chosen for it before."""
    if not names:
        return None
    before = known.described.get("objects")
    chosen = {one.get("name"): one for one in before if isinstance(one, dict)} if isinstance(before, list) else {}
    return [chosen.get(name, {"name": name}) for one in names.split(",") if (name := one.strip())]


def _listed(values: Sequence[str] | None) -> list[str] | None:
    """*values* without empty ones; None where none were given."""
    return None if values is None else [one.strip() for one in values if one.strip()]


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


class _LoadProgress:
    """Tells of each page and wait: a bar on a terminal, now and then a line in a log."""

    def __init__(self, connection: Connection, *, local: bool) -> None:
        self._name = connection.connection_id
        self._local = local
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._say_at = 0.0
        self._pauses = logging.getLogger("ingestion.patience")
        self._stuck: tuple[str | None, int] = (None, 0)

    def __enter__(self) -> Callable[[HistoryNotes], None]:
        # A line for each short pause of a call would bury what is told here.
        self._pauses.setLevel(logging.ERROR)
        if not self._err.is_terminal:
            return self._say
        columns = (SpinnerColumn(), BarColumn(bar_width=14), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._err, transient=True)
        self._bar.start()
        task = self._bar.add_task(f"loading {self._name}", total=None)
        bar = self._bar

        def advance(notes: HistoryNotes) -> None:
            bar.update(task, total=notes.total, completed=notes.records, description=self._words(notes))

        return advance

    def __exit__(self, *_: object) -> None:
        self._pauses.setLevel(logging.NOTSET)
        if self._bar is not None:
            self._bar.stop()

    def _say(self, notes: HistoryNotes) -> None:
        words = self._words(notes)
        now = time.monotonic()
        if notes.finished_at or now >= self._say_at:
            self._say_at = now + SAY_SECONDS
            self._err.print(f"{self._name}: {words}", markup=False)

    def _words(self, notes: HistoryNotes) -> str:
        """Where the load stands; when the chain stands still too, what may be the reason."""
        before, times = self._stuck
        self._stuck = (notes.waiting_for, times + 1 if notes.waiting_for == before else 0)
        words = standing(notes)
        if notes.waiting_for and self._local and self._stuck[1] >= STUCK_TIMES:
            words += " (nothing is digested: does 'shardline up' run?)"
        return words


STUCK_TIMES = 10
"""So many looks at the chain that show it as it was: about as many seconds."""


def standing(notes: HistoryNotes) -> str:
    """Where a first load stands, in words."""
    words = f"{notes.records:,} records"
    if notes.total:
        about = "about " if notes.estimated else ""
        words += f" of {about}{notes.total:,} ({min(100, int(100 * notes.records / notes.total))} %)"
    if notes.finished_at:
        return f"{words}, finished"
    rate = records_per_second(notes)
    if rate:
        words += f", {rate:,.0f} a second" if rate >= 1 else f", {rate * 60:,.1f} a minute"
    left = remaining_seconds(notes)
    if left:
        words += f", some {left / 60:,.0f} min left" if left > 90 else f", some {left:,.0f} s left"
    if notes.waiting_for:
        words += f"; waiting for {notes.waiting_for}"
    return words
