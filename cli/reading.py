"""Commands that read: status, search, show, export."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
import typer

from api import reading
from api.problems import ProblemError
from api.requests import moment
from api.status import pipeline_status
from cli.backfilling import standing
from cli.filters import check_types, known_sources
from cli.home import DEFAULT_DATA, DataOption, JsonOption, TenantOption, UsageError, run, the_tenant
from cli.output import console, print_json, table
from composition import Services
from ingestion.history_memory import HistoryNotes
from shards.model import Shard, shard_document
from shards.store import ShardQuery

EXPORT_PAGE = 500


def status(data: DataOption = DEFAULT_DATA, json: JsonOption = False) -> None:
    """Queues, stages, connections and their lag, parked messages, counts by shard type, request units on Cosmos DB."""
    state = run(data, pipeline_status)
    if json:
        print_json(state)
        return
    out = console()
    out.print(
        table(
            "Queues",
            ["queue", "active", "locked", "scheduled", "dead-lettered", "oldest"],
            [
                [
                    name,
                    *(
                        f"{depth[count]:,} or more" if count in depth["atLeast"] else depth[count]
                        for count in ("active", "locked", "scheduled", "deadLettered")
                    ),
                    depth["oldest"] or "",
                ]
                for name, depth in state["queues"].items()
            ],
        )
    )
    out.print(table("Shards behind a stage", ["stage", "shards"], list(state["stagesBehind"].items())))
    for tenant, counts in state["tenants"].items():
        out.print(table(f"Live shards of {tenant}", ["type", "shards"], sorted(counts["shards"].items())))
        out.print(
            f"deleted {counts['deleted']:,}   chunks {counts['chunks']:,}   vectors {counts['vectors']:,}   "
            f"links {sum(counts['links'].values()):,}   waiting for their target {counts['linksPending']:,}"
        )
    out.print(
        table(
            "Connections",
            ["tenant", "connection", "system", "instance", "state", "last sync", "lag (s)", "first load", "remedy"],
            [
                [
                    connection["tenantId"],
                    connection["connectionId"],
                    connection["system"],
                    connection["instance"],
                    _state(connection),
                    connection["lastSyncAt"] or "never",
                    _lag(connection),
                    _first_load(connection),
                    connection["error"] or "",
                ]
                for connection in state["connections"]
            ],
        )
    )
    out.print(table("Parked messages", ["reason", "messages"], sorted(state["parked"].items())))
    days = state["requestUnits"]
    for day, charges in list(days.items())[:1]:
        out.print(
            table(
                f"Request units of {day}",
                ["function", "operation", "requests", "request units", "throttled"],
                [
                    [
                        charge["function"],
                        charge["operation"],
                        charge["requests"],
                        round(charge["requestUnits"]),
                        charge["throttled"],
                    ]
                    for charge in charges
                ],
            )
        )
    if days:
        totals = [[day, round(sum(charge["requestUnits"] for charge in charges))] for day, charges in days.items()]
        out.print(table("Request units by day", ["day (UTC)", "request units"], totals))


def _lag(connection: dict[str, Any]) -> object:
    """How far behind it is; one that has ended is behind nothing."""
    return "" if connection["lagSeconds"] is None or connection["state"] == "disconnected" else connection["lagSeconds"]


def _first_load(connection: dict[str, Any]) -> str:
    told = connection["firstLoad"]
    if told is None:
        return ""
    notes = HistoryNotes(
        asked_at=told["askedAt"],
        finished_at=told["finishedAt"],
        records=told["records"],
        total=told["total"],
        estimated=told["estimated"],
        seconds=told["records"] / told["recordsPerSecond"] if told["recordsPerSecond"] else 0,
        waiting_for=told["waitingFor"],
    )
    if connection["state"] != "active" and not notes.finished_at:
        # It stands still, at whatever pace it went before.
        notes = msgspec.structs.replace(notes, seconds=0, waiting_for="the connection to be active")
    return standing(notes)


def _state(connection: dict[str, Any]) -> str:
    """The connection's state, what is under way, and how far the taking away of what it brought is."""
    purge = connection["purge"]
    if purge is None:
        return "; ".join(str(connection[name]) for name in ("state", "underWay") if connection[name])
    if purge["finishedAt"]:
        return f"{connection['state']}, purged"
    waiting = f"; waiting for {purge['waitingFor']}" if purge["waitingFor"] else ""
    return f"{connection['state']}; {purge['records']:,} records taken away so far{waiting}"


def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    principal: Annotated[str | None, typer.Option(help="See only what this e-mail address may see.")] = None,
    type: Annotated[list[str] | None, typer.Option(help="Only shards of this type; may be repeated.")] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Only shards from this system; may be repeated.", callback=known_sources)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Only an account (shard or external id) and what links to it.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Only shards updated at or after this date.")] = None,
    before: Annotated[str | None, typer.Option(help="Only shards updated before this date.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many hits.")] = 10,
    json: JsonOption = False,
) -> None:
    """Hybrid search with citations."""
    if not text.strip():
        raise UsageError("TEXT is empty: say what to look for")
    if principal is not None and "@" not in principal:
        raise UsageError(f"--principal: {principal!r} is no e-mail address")

    async def work(services: Services) -> dict[str, Any]:
        named = await the_tenant(services, tenant)
        await check_types(services, named, type or ())
        found = await reading.find_shard(services.store, named, account) if account else None
        if account and found is None:
            raise UsageError(f"--account: there is no shard {account!r}")
        principals = await reading.principals_of(services.store, named, principal) if principal else None
        return await reading.search(
            services.store,
            services.model,
            tenant_id=named,
            text=text,
            limit=limit,
            principals=principals,
            shard_type_ids=type or (),
            systems=source or (),
            linked_to=found.id if found else None,
            updated_after=_date(after, "--after"),
            updated_before=_date(before, "--before"),
        )

    answer = run(data, work)
    if json:
        print_json(answer)
        return
    out = console()
    if not answer["hits"]:
        out.print("nothing found")
    for number, hit in enumerate(answer["hits"], 1):
        origin = hit["source"]
        out.print(f"[bold]{number}. {_escape(hit['name'])}[/bold]  {hit['shardTypeId']}  {hit['score']:.4f}")
        out.print(
            f"   {origin['system']} {origin['externalId']}  {hit['shardId']}  updated {hit['updatedAt']}", markup=False
        )
        out.print("   " + hit["text"].replace("\n", "\n   ") + "\n", markup=False)


def show(
    name: Annotated[str, typer.Argument(metavar="ID_OR_EXTERNAL", help="A shard id or an external id.")],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
    json: JsonOption = False,
) -> None:
    """One shard, its links both ways, its chunks, its history."""

    async def work(services: Services) -> dict[str, Any]:
        named = await the_tenant(services, tenant)
        found = await reading.find_shard(services.store, named, name)
        if found is None:
            raise UsageError(f"tenant {named} has no shard {name!r}, neither by its own id nor by an external one")
        return await reading.describe(services.store, found, None, with_vectors=True)

    document = run(data, work)
    if json:
        print_json(document)
        return
    out = console()
    title = document["structuredData"].get("name", "(deleted)")
    out.print(f"[bold]{_escape(str(title))}[/bold]  {document['shardTypeId']}  {document['id']}")
    out.print(_history(document))
    out.print(table("Data", ["field", "value"], document["structuredData"].items()))
    out.print(
        table(
            "Sources",
            ["system", "object", "external id", "version", "read at", "status"],
            [
                [
                    known["system"],
                    known["objectType"],
                    known["externalId"],
                    known["sourceVersion"],
                    known["readAt"],
                    known["syncStatus"],
                ]
                for known in document["external_relationships"]
            ],
        )
    )
    out.print(
        table(
            "Links to",
            ["type", "target", "status", "confidence", "method"],
            [
                [
                    link["relationshipType"],
                    link["targetShardId"],
                    link["status"],
                    str(link["confidence"]),
                    link["method"],
                ]
                for link in document["internal_relationships"]
            ],
        )
    )
    out.print(
        table(
            "Links from",
            ["type", "from", "shard", "status"],
            [
                [link["relationshipType"], link["sourceName"], link["sourceShardId"], link["status"]]
                for link in document["incoming"]
            ],
        )
    )
    for chunk in document["chunks"]:
        out.print(f"\nchunk {chunk['ordinal']} ({'embedded' if chunk['vector'] else 'not embedded yet'})", style="dim")
        out.print(chunk["text"], markup=False)


def _history(document: dict[str, Any]) -> str:
    """When the shard was made, changed, last read at its source, and deleted."""
    read = max((known["readAt"] for known in document["external_relationships"] if known["readAt"]), default="never")
    return (
        f"History: {document['status']}, revision {document['revision']}, created {document['createdAt']}, "
        f"updated {document['updatedAt']}, read {read}, deleted {document['deletedAt'] or 'never'}"
    )


def export(
    what: Annotated[
        Literal["shards", "links"], typer.Argument(metavar="WHAT", help="What to export: shards or links.")
    ],
    data: DataOption = DEFAULT_DATA,
    tenant: TenantOption = None,
) -> None:
    """JSON lines: whole shards, or the links between records."""

    async def work(services: Services) -> None:
        named = await the_tenant(services, tenant)
        if what == "shards":
            async for shard in _all_shards(services, named):
                print_json(shard_document(shard))
        else:
            async for link in _all_links(services, named):
                print_json(link)

    run(data, work)


async def _all_shards(services: Services, tenant_id: str) -> AsyncIterator[Shard]:
    cursor: str | None = None
    while True:
        query = ShardQuery(tenant_id, include_deleted=True)
        page = await services.store.query(query, limit=EXPORT_PAGE, cursor=cursor)
        for shard in page.items:
            yield shard
        cursor = page.cursor
        if cursor is None:
            return


async def _all_links(services: Services, tenant_id: str) -> AsyncIterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = await services.store.export_links(tenant_id, limit=EXPORT_PAGE, cursor=cursor)
        wanted = {link.target_shard_id for shard in page.items for link in shard.internal_relationships}
        targets = await services.store.get_many(tenant_id, list(wanted))
        for shard in page.items:
            for link in shard.internal_relationships:
                target = targets.get(link.target_shard_id)
                yield {
                    "from": _end(shard, shard.id),
                    "to": _end(target, link.target_shard_id),
                    "relationshipType": link.relationship_type,
                    "status": link.status,
                    "confidence": link.confidence,
                    "method": link.method,
                    "evidence": link.evidence,
                }
        cursor = page.cursor
        if cursor is None:
            return


def _end(shard: Shard | None, shard_id: str) -> dict[str, str | None]:
    """One end of a link, by the record it stands for; only its shard id while there is no such record yet."""
    if shard is None or not shard.external_relationships:
        return {"system": None, "objectType": None, "externalId": None, "shardId": shard_id}
    source = shard.external_relationships[0]
    return {
        "system": source.system,
        "objectType": source.object_type,
        "externalId": source.external_id,
        "shardId": shard_id,
    }


def _date(text: str | None, option: str) -> str | None:
    try:
        return moment(text, option)
    except ProblemError as problem:
        raise UsageError(problem.detail) from None


def _escape(text: str) -> str:
    return text.replace("[", "\\[")
