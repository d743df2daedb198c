"""Commands for operators: parked, replay, reconcile, sweep, connections, token."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from api.tokens import LIFETIME
from cli.connecting import description_in, replay_what_waited
from cli.filters import check_reason, known_queue
from cli.home import (
    DEFAULT_DATA,
    CommandError,
    DataOption,
    JsonOption,
    TenantOption,
    UsageError,
    run,
    settings_of,
    the_tenant,
)
from cli.named_connection import no_such_connection, refusing, the_connection
from cli.output import console, counted, print_json, print_json_lines, table
from composition import Services
from connections.connection import Connection, InvalidConnectionError
from connections.registry import UnreadableConnection
from connections.stored_connection import described_connection
from ingestion import connecting
from ingestion.asking import ask_for_sweep
from operations.dead_letters import drain
from operations.reconciliation import reconcile as reconcile_now
from operations.replay import ReplaySelection, select
from operations.replay import replay as replay_messages
from shards.parked import ParkedMessage

ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only messages parked for this reason.")]
QueueOption = Annotated[
    str | None, typer.Option("--queue", help="Only messages from this queue.", callback=known_queue)
]

YEAR_SECONDS = 366 * 24 * 3600


def parked(
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """Messages that could not be processed, with reason and origin. --json prints them whole, one a line."""

    async def work(services: Services) -> list[ParkedMessage]:
        await check_reason(services, tenant, reason)
        found: list[ParkedMessage] = []
        async for page in select(services.replay, ReplaySelection(tenant, None, reason, queue)):
            found += page
            if len(found) >= limit:
                break
        return found[:limit]

    messages = run(data, work)
    if json:
        print_json_lines(messages)
        return
    console().print(
        table(
            f"Parked messages: {len(messages)}",
            ["id", "tenant", "queue", "reason", "what was wrong", "parked at"],
            [[m.id, m.tenant_id, m.queue, m.reason, m.detail, m.parked_at] for m in messages],
        )
    )


def replay(
    parked_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One parked message.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All that the options leave.")] = False,
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    reason: ReasonOption = None,
    queue: QueueOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which, and send none.")] = False,
    json: JsonOption = False,
) -> None:
    """Send parked messages back to the queue they came from, once their cause is mended."""
    if not (parked_id or all or reason or queue):
        raise UsageError("say what to replay: an ID, --reason, --queue or --all")

    async def work(services: Services) -> dict[str, Any]:
        await check_reason(services, tenant, reason)
        pages = [page async for page in select(services.replay, ReplaySelection(tenant, parked_id, reason, queue))]
        if parked_id and not pages:
            raise UsageError(f"there is no parked message {parked_id!r}")
        sent = 0
        if not dry_run:
            for page in pages:
                sent += await replay_messages(services.replay, page)
        return {"selected": sum(len(page) for page in pages), "replayed": sent, "dryRun": dry_run}

    answer = run(data, work)
    if json:
        print_json(answer)
    else:
        verb = "would be replayed" if dry_run else "replayed"
        console().print(f"{counted(answer['selected'] if dry_run else answer['replayed'], 'message')} {verb}")
        if not dry_run and (left := answer["selected"] - answer["replayed"]):
            console().print(f"{counted(left, 'message')} left where they are: the bus takes none of their size")


def reconcile(
    data: DataOption = DEFAULT_DATA,
    after: Annotated[
        int, typer.Option(min=0, max=YEAR_SECONDS, help="Shards whose stages stand still for so many seconds.")
    ] = 120,
    json: JsonOption = False,
) -> None:
    """Park what the bus gave up on and emit again what stayed behind, now."""

    async def work(services: Services) -> dict[str, int]:
        drained = await drain(services.dead_letters)
        emitted = await reconcile_now(services.reconciliation, after=timedelta(seconds=after))
        return {"deadLettersParked": drained, "emitted": emitted}

    answer = run(data, work)
    if json:
        print_json(answer)
    else:
        parked, emitted = counted(answer["deadLettersParked"], "dead letter"), counted(answer["emitted"], "shard")
        console().print(f"{parked} parked, {emitted} emitted again")


def sweep(
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    connection: Annotated[str | None, typer.Option("--connection", metavar="ID", help="Only this one.")] = None,
    json: JsonOption = False,
) -> None:
    """Ask for a sweep now: the running app lists all ids at the source, to find records that are gone for good."""

    async def work(services: Services) -> dict[str, Any]:
        if tenant is not None:
            await the_tenant(services, tenant)
        known, _ = await services.connections.listed(tenant)
        named = [one for one in known if connection in (None, one.connection_id)]
        if not named:
            raise no_such_connection(connection, known)
        active = [one for one in named if one.status == "active"]
        if not active:
            states = ", ".join(f"{one.connection_id} is {one.status}" for one in named)
            raise CommandError(f"only an active connection is swept: {states} (see 'shardline connections')")
        due_at = await ask_for_sweep(active, services.ingestion)
        return {
            "connections": [{"tenantId": one.tenant_id, "connectionId": one.connection_id} for one in active],
            "dueAt": due_at,
            "confirmAfterSeconds": services.settings.sweep_confirm_seconds,
        }

    answer = run(data, work)
    if json:
        print_json(answer)
        return
    asked = ", ".join(f"{one['connectionId']} of {one['tenantId']}" for one in answer["connections"])
    local = settings_of(data).home == "local"
    by = "running host does it; without one it waits for 'shardline up'" if local else "app on Azure does it"
    console().print(
        f"Asked for a sweep of {asked}. The {by}.\n"
        f"A record is taken as gone when two listings miss it: the second one is due {answer['confirmAfterSeconds']} "
        "seconds after the first, if that misses any.",
        soft_wrap=True,
    )


def connections(
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    add: Annotated[
        Path | None,
        typer.Option("--add", metavar="FILE", help="First register the connection in this JSON file, or change it."),
    ] = None,
    pause: Annotated[
        list[str] | None, typer.Option("--pause", metavar="ID", help="First have nothing asked of this one's source.")
    ] = None,
    resume: Annotated[
        list[str] | None,
        typer.Option(
            "--resume", metavar="ID", help="First make this paused or failed one active, and poll it at once."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """The registered connections, their state, and what to do about a failing one."""
    if add is not None and tenant is None:
        raise UsageError("--add needs --tenant: a connection belongs to one tenant")
    described = _described(add, tenant) if add and tenant else None

    async def work(services: Services) -> tuple[list[Connection], list[UnreadableConnection], int]:
        replayed = 0
        if described is not None:
            registered = await connecting.register(described, services.ingestion)
            replayed += await replay_what_waited(services, registered)
        elif tenant is not None:
            await the_tenant(services, tenant)
        for one in [await the_connection(services, tenant, named) for named in pause or ()]:
            await connecting.pause(one, services.ingestion)
        for one in [await the_connection(services, tenant, named) for named in resume or ()]:
            await connecting.resume(one, services.ingestion)
            replayed += await replay_what_waited(services, one)
        return *await services.connections.listed(tenant), replayed

    found, unreadable, replayed = refusing(data, work)
    if json:
        print_json_lines(found)
        print_json_lines(
            {
                "tenantId": one.tenant_id,
                "connectionId": one.connection_id,
                "system": one.system,
                "status": "invalid",
                "errorMessage": one.problem,
            }
            for one in unreadable
        )
        return
    _show_connections(found, unreadable)
    if replayed:
        console().print(f"Replayed what waited for the connection: {counted(replayed, 'parked message')}.")


def _show_connections(found: list[Connection], unreadable: list[UnreadableConnection]) -> None:
    rows = [
        [
            known.tenant_id,
            known.connection_id,
            known.system,
            known.instance or "not known before the first poll",
            known.what_is_read,
            known.schedule.poll_seconds,
            known.status,
            known.error_message or "",
        ]
        for known in found
    ]
    rows += [[one.tenant_id, one.connection_id, one.system, "", "", "", "invalid", one.problem] for one in unreadable]
    columns = ["tenant", "connection", "system", "instance", "reads", "every (s)", "state", "remedy"]
    console().print(table("Connections", columns, rows))


def _described(file: Path, tenant_id: str) -> Connection:
    try:
        return described_connection(description_in(file), tenant_id)
    except InvalidConnectionError as error:
        raise CommandError(f"{file}: {error}") from None


def token(
    user: Annotated[str, typer.Option(help="The reader's e-mail address.")],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    groups: Annotated[list[str] | None, typer.Option(help="A group of the reader; may be repeated.")] = None,
    roles: Annotated[
        list[str] | None, typer.Option(help="A role, such as editor or operator; may be repeated.")
    ] = None,
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 30, help="How long it holds.")] = LIFETIME.total_seconds()
    / 3600,
    json: JsonOption = False,
) -> None:
    """A locally signed reader token (not where an identity provider signs them)."""
    if "@" not in user:
        raise UsageError(f"--user: {user!r} is no e-mail address")

    async def work(services: Services) -> dict[str, str]:
        named = await the_tenant(services, tenant)
        if services.token_key is None:
            raise CommandError("this home's tokens come from its identity provider: ask for one there")
        signed = services.token_key.sign(
            named, user, groups=groups or (), roles=roles or (), now=services.clock(), lifetime=timedelta(hours=hours)
        )
        return {"token": signed, "tenantId": named}

    answer = run(data, work)
    if json:
        print_json(answer)
    else:
        typer.echo(answer["token"])
