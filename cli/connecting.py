"""Commands that tie a tenant to its sources: connect, disconnect."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.home import DEFAULT_DATA, CommandError, DataOption, JsonOption, TenantOption, UsageError, settings_of
from cli.named_connection import refusing, the_connection, the_host
from cli.output import console, counted, print_json, print_pairs, table
from composition import Services
from connections.connection import Connection, InvalidConnectionError
from connections.salesforce_connection import DEFAULT_OBJECTS
from connections.secrets import SecretError, environment_variable, keep_secret, secret_name
from connections.stored_connection import KINDS, connection_data, described_connection, secret_references
from ingestion import connecting
from ingestion.history_memory import load_memory
from ingestion.purge import came_by, purge_notes
from ingestion.source import Checked
from ingestion.work import NOT_ACTIVE
from local.interrupts import raised_interrupts
from messaging import codec
from messaging.contracts import is_tenant_id
from messaging.queues import SOURCE_WORK
from operations.replay import ReplaySelection, replay, select

app = typer.Typer(help="Register and test a connection to a source.", invoke_without_command=True)

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


@app.callback()
def which(context: typer.Context) -> None:
    """Refuse a call that names no source."""
    if context.invoked_subcommand is None:
        raise UsageError(f"say which source to connect: {', '.join(KINDS)}")


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

    async def work(services: Services) -> tuple[dict[str, Any], bool]:
        known = await the_connection(services, tenant, connection)
        left = await connecting.disconnect(known, services.ingestion, purge=purge)
        stays = (await purge_notes(known, services.states)).began_at is None
        return {"tenantId": known.tenant_id, "connectionId": connection, "purge": purge, "left": left}, stays

    answer, stays = refusing(data, work)
    if json:
        print_json(answer)
        return
    out = console()
    kept = f" What it brought stays: {_purging(connection, tenant)} takes it away." if stays else ""
    out.print(f"{connection} of {answer['tenantId']} is disconnected.{kept}", soft_wrap=True)
    if answer["left"]:
        out.print(f"Left at the source: {answer['left']}", soft_wrap=True)
    if purge:
        out.print(f"The {the_host(data)} takes away what it brought; 'shardline status' shows how far it is.")


def _purging(connection: str, tenant: str | None) -> str:
    """The call that takes away what a connection brought."""
    of = f" --tenant {tenant}" if tenant else ""
    return f"'shardline disconnect {connection}{of} --purge'"


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
    typed: list[Path] = field(default_factory=list)
    """The files of the secrets whose values were typed."""

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
        return _prompted(words, default=default).strip()

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
            told = _prompted(f"File with {words} ({later})", default="", show_default=False).strip()
            try:
                value = Path(told).expanduser().read_text() if told else ""
            except (OSError, UnicodeDecodeError) as error:
                raise CommandError(f"{told} can't be read: {getattr(error, 'strerror', error)}") from None
        else:
            asked = f"Its value (not shown; {later})"
            value = _prompted(asked, default="", show_default=False, hide_input=True).strip()
        if value:
            self.typed.append(keep_secret(folder, variable, value))

    def take_back(self) -> None:
        """Drop the secrets that were typed: nobody is asked again for one that is there."""
        for file in self.typed:
            file.unlink(missing_ok=True)

    def offered(self, words: str, default: str) -> str:
        """What a person chooses in place of *default*."""
        return _prompted(words, default=default).strip()

    def agreed(self, question: str) -> bool:
        """Whether a person says yes."""
        with raised_interrupts():
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


@dataclass(frozen=True, slots=True)
class _Tried:
    """What a call came to. Not *established*: nothing is registered. *typed*: people gave values of secrets.

    *loaded_at* is when its first load ended, where none is to come. *replayed* counts what had waited for it.
    """

    checked: Checked
    described: Connection
    established: Connection | None = None
    typed: bool = False
    loaded_at: str | None = None
    replayed: int = 0


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

    async def work(services: Services) -> _Tried:
        ports = services.ingestion
        standing = await _standing(services, tenant, identifier)
        if standing is not None and standing.system != call.system:
            raise UsageError(f"{identifier} is a connection of {standing.system}: choose another --id")
        before = of_file or (connection_data(standing) if standing else {})
        settings = services.settings
        folder = settings.secrets_folder if settings.home == "local" else None
        known = _Known(tenant, identifier, before, not before, folder)
        is_usable = False
        try:
            described = _description(call, known, describe)
            if standing and standing.instance and described.instance not in ("", standing.instance):
                raise UsageError(
                    f"{identifier} is of the instance {standing.instance}, not {described.instance}: "
                    "choose another --id"
                )
            checked = await connecting.check(
                described, ports, instance=standing.instance if standing else "", secrets=services.secrets
            )
            is_usable = checked.is_usable
        finally:
            if not is_usable:
                known.take_back()
        if check or not is_usable:
            return _Tried(checked, described, typed=bool(known.typed))
        # Of what happened while it was disconnected the source need not tell any more.
        anew = standing is not None and (standing.status == "disconnected" or standing.selection != described.selection)
        established = await connecting.establish(described, checked, ports, load=backfill, anew=backfill and anew)
        loaded = await load_memory(established, ports.states)
        return _Tried(
            checked,
            described,
            established,
            loaded_at=loaded.metadata.finished_at,
            replayed=await replay_what_waited(services, established),
        )

    tried = refusing(call.data, work)
    checked, described, established = tried.checked, tried.described, tried.established
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
        _tell(call.data, tried, backfill=backfill)
    if not checked.is_usable:
        problems = "; ".join(
            ": ".join(filter(None, (one.what, one.detail, one.remedy)))
            for one in checked.findings
            if one.state == "error"
        )
        raise CommandError(f"{described.connection_id} can't be used: {problems}{_of_secrets(call.data, tried)}")


def _of_secrets(data: Path, tried: _Tried) -> str:
    """What became of the secrets that were typed, or where those are that let nobody in."""
    if tried.typed:
        return ". The secrets that were typed are not kept: the next call asks for them again"
    settings, tenant = settings_of(data), tried.described.tenant_id
    if tried.checked.instance or settings.home != "local":
        return ""
    names = (secret_name(tenant, one) for one in secret_references(tried.described).values())
    files = [settings.secrets_folder / environment_variable(tenant, name) for name in names]
    kept = " and ".join(str(file) for file in files if file.exists())
    return f". Its secrets are in {kept}" if kept else ""


async def replay_what_waited(services: Services, connection: Connection) -> int:
    """Replay what was parked because *connection* was not active; how many messages."""
    selection = ReplaySelection(connection.tenant_id, None, NOT_ACTIVE, SOURCE_WORK)
    pages = [page async for page in select(services.replay, selection)]
    waited = [[message for message in page if came_by(message, connection)] for page in pages]
    return sum([await replay(services.replay, page) for page in waited if page])


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
        return described_connection(
            {
                "name": KINDS[call.system].vendor,
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


def _tell(data: Path, tried: _Tried, *, backfill: bool) -> None:
    out = console()
    rows = [[one.what, one.state, one.detail, one.remedy] for one in tried.checked.findings]
    out.print(table(f"Test of {tried.described.connection_id}", ["what", "is", "found", "remedy"], rows))
    established = tried.established
    if established is None:
        return
    load = f"'shardline backfill {established.connection_id}'"
    if tried.loaded_at is not None:
        first_load = f"finished at {tried.loaded_at}: {load[:-1]} --restart' begins at the beginning"
    else:
        first_load = "asked for" if backfill else f"not asked for: {load}"
    waited = {"Replayed": f"{counted(tried.replayed, 'parked message')} that waited for it"} if tried.replayed else {}
    print_pairs(
        {
            "Connected": f"{established.connection_id} of {established.tenant_id}",
            "Instance": established.instance,
            "First load": first_load,
            **waited,
            "Done by": f"the {the_host(data)}",
            "See": "shardline status",
        }
    )


def _prompted(words: str, **options: Any) -> str:
    """What a person at a terminal answers; Ctrl-C is an Abort."""
    with raised_interrupts():
        answer: str = typer.prompt(words, err=True, **options)
    return answer


def _asked_tenant() -> str:
    if not sys.stdin.isatty():
        raise UsageError("--tenant is missing: a connection belongs to one tenant")
    return _prompted("Tenant").strip()


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
