"""The service itself: which request is which operation, and the answer with the headers that clients live by."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from cosmos_peer import authorization
from cosmos_peer.accounts import READ_SESSION_NOT_AVAILABLE, Account, Container, Database
from cosmos_peer.answers import Answer, RefusedError, bad_request, undecided
from cosmos_peer.batches import first_conditional, refused_batch, run_batch
from cosmos_peer.change_feed import feed_page
from cosmos_peer.clock import MovableClock
from cosmos_peer.counters import Counters
from cosmos_peer.faults import Delay, DropAfter, DropBefore, Effect, Faults, Hang, Refuse
from cosmos_peer.http_server import Reply, Request
from cosmos_peer.items import MAX_BYTES, Condition, ItemWriter, Operation, Verb, too_large
from cosmos_peer.json_values import decode, encode
from cosmos_peer.partition_keys import WHOLE, EpkRange, KeyValue, header_components, key_mismatch
from cosmos_peer.partitions import Item, Partition
from cosmos_peer.query_execution import Page, query_page, scans
from cosmos_peer.query_plan import is_scored, needs_plan, query_plan, targets
from cosmos_peer.request_charges import (
    METADATA,
    QUERY_BASE,
    READ_MISS,
    TEXT_QUERY,
    VECTOR_QUERY,
    feed_charge,
    query_charge,
    read_charge,
    write_charge,
)
from cosmos_peer.sql_evaluation import QueryContext, QueryProgram, query_parameters
from cosmos_peer.sql_parser import parse_query
from cosmos_peer.sql_syntax import Call, Query, children

PAGE_ITEMS = 100
"""How many items a page has when the request does not say."""
MAX_PAGE_ITEMS = 1000
CROSS_PARTITION_NOT_SERVABLE = 1004
COLLECTION_RID_MISMATCH = 1024
REGION = "Local"


@dataclass(slots=True)
class Incoming:
    """One request on its way: what it asks, of what, and what it cost."""

    request: Request
    segments: list[str]
    operation: str = "unknown"
    container: str = ""
    item: str = ""
    conditional: bool = False
    yields: bool = False
    charge: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        """A header of the request, by its name in lower case."""
        return self.request.headers.get(name)

    def flag(self, name: str) -> bool:
        """Whether a header says true."""
        return (self.header(name) or "").lower() == "true"

    def body(self) -> Any:
        """The request's JSON."""
        return decode(self.request.body)

    def answer(self, status: int, body: bytes = b"") -> Answer:
        """An answer with the headers collected so far."""
        return Answer(status, body, self.headers)


class Service:
    """Answers requests, one after the other."""

    def __init__(self, *, partitions: int) -> None:
        self.clock = MovableClock()
        self.account = Account(self.clock, partitions=partitions)
        self.faults = Faults()
        self.counters = Counters()
        self.errors: list[Exception] = []
        self.endpoint = ""
        self.consistency = "Session"
        """The account's default, which clients ask for when they connect. Strong or not, a read sees what is written
        here; but a strong one costs more."""

    def handle(self, request: Request) -> Reply:
        """What becomes of a request."""
        path = urlsplit(request.target).path
        call = Incoming(request, [unquote(segment) for segment in path.split("/") if segment])
        effect: Effect | None = None
        dropped = hangs = False
        try:
            work = self._route(call)
            effect = self.faults.next(call.operation, call.container, call.item, conditional=call.conditional)
            if isinstance(effect, Refuse):
                if call.operation == "batch" and effect.status == 412:
                    work = partial(self._refused_batch, call)
                else:
                    raise _refused(effect)
            dropped, hangs = isinstance(effect, DropBefore), isinstance(effect, Hang)
            answer = None if dropped or hangs else work()
        except RefusedError as refusal:
            call.charge = call.charge or (0.0 if refusal.status in (401, 403, 429, 503) else READ_MISS)
            answer = refusal.answer()
            answer.headers = {**call.headers, **answer.headers}
        except Exception as error:  # noqa: BLE001 - a defect of the peer: its owner is told when it is closed
            self.errors.append(error)
            answer = RefusedError(500, f"The peer itself has failed: {error!r}").answer()
        if isinstance(effect, DropAfter):
            answer, dropped = None, True
        status = 0
        if answer is not None:
            status = answer.status
            answer.headers["x-ms-request-charge"] = f"{call.charge:.2f}"
            answer.headers["x-ms-activity-id"] = call.header("x-ms-activity-id") or str(uuid.uuid4())
            answer.headers["x-ms-gatewayversion"] = "version=2.14.0"
        self.counters.count(
            call.operation,
            call.container,
            charge=call.charge if answer is not None or isinstance(effect, DropAfter) else 0.0,
            sent=len(request.body),
            answered=len(answer.body) if answer else 0,
            status=status,
            yielding=call.yields,
        )
        return Reply(answer, effect.seconds if isinstance(effect, Delay) else 0.0, dropped)

    # Routing: finds the resource and names the operation; the returned function does it.

    def _route(self, call: Incoming) -> Callable[[], Answer]:
        request, segments = call.request, call.segments
        kinds = tuple(segments[::2])
        names = segments[1::2]
        whole = len(segments) % 2 == 0
        link = "/".join(segments if whole else segments[:-1])
        resource_type = kinds[-1] if kinds else ""
        authorization.check(request, segments, resource_type, link)
        method = request.method
        if kinds == ():
            call.operation = "account"
            return lambda: self._account(call)
        if kinds == ("dbs",):
            call.operation = f"database-{_VERB.get(method, method)}"
            return lambda: self._databases(call, names, whole)
        if kinds == ("dbs", "colls"):
            call.operation = f"container-{_VERB.get(method, method)}"
            call.container = names[1] if whole else ""
            return lambda: self._containers(call, names, whole)
        if kinds == ("offers",):
            call.operation = "offer"
            return lambda: self._offers(call)
        if len(kinds) != 3 or kinds[:2] != ("dbs", "colls"):
            raise undecided(f"{method} {request.target}")
        container = self.account.container(names[0], names[1])
        call.container = container.id
        call.yields = _yields(call)
        rid = call.header("x-ms-cosmos-intended-collection-rid")
        if rid is not None and rid != container.rid:
            raise bad_request(
                "The requested collection is not the one that was meant.", substatus=COLLECTION_RID_MISMATCH
            )
        if kinds[2] == "pkranges" and not whole and method == "GET":
            call.operation = "pkranges"
            return lambda: self._ranges(call, container)
        if kinds[2] != "docs":
            raise undecided(f"{method} {request.target}")
        return self._documents(call, container, names[2] if whole else None)

    def _documents(self, call: Incoming, container: Container, identity: str | None) -> Callable[[], Answer]:
        method = call.request.method
        if len(call.request.body) > MAX_BYTES:
            call.operation = "oversized"
            raise too_large(len(call.request.body))
        call.headers["x-ms-alt-content-path"] = container.path
        if identity is not None:
            verb = _ITEM_VERBS.get(method)
            if verb is None:
                raise RefusedError(405, f"{method} is not allowed on an item.")
            call.operation = verb.lower()
            return self._point(call, container, verb, identity)
        if method == "POST":
            return self._posted(call, container)
        if method == "GET":
            feed = (call.header("a-im") or "").lower()
            if not feed:
                call.operation = "read-feed"
                return lambda: self._read_feed(call, container)
            call.operation = "change-feed"
            if feed != "incremental feed":
                raise undecided(f"a change feed of the kind {feed!r}")
            return lambda: self._change_feed(call, container)
        raise RefusedError(405, f"{method} is not allowed on items.")

    def _posted(self, call: Incoming, container: Container) -> Callable[[], Answer]:
        if call.flag("x-ms-cosmos-is-query-plan-request"):
            call.operation = "query-plan"
            return lambda: self._query_plan(call, container)
        if call.flag("x-ms-documentdb-isquery") or "query+json" in (call.header("content-type") or ""):
            call.operation = "query"
            return lambda: self._query(call, container)
        if call.flag("x-ms-cosmos-is-batch-request"):
            call.operation = "batch"
            key = self._full_key(call, container)
            call.item = f"{container.id} {key.data!r}"
            entries = call.body()
            call.conditional = first_conditional(entries) is not None
            return lambda: self._batch(call, container, key, entries)
        upsert = call.flag("x-ms-documentdb-is-upsert")
        call.operation = "upsert" if upsert else "create"
        return self._point(call, container, "Upsert" if upsert else "Create", None)

    # The account, databases and containers

    def _account(self, call: Incoming) -> Answer:
        location = [{"name": REGION, "databaseAccountEndpoint": self.endpoint}]
        return call.answer(
            200,
            encode(
                {
                    "_self": "",
                    "id": "peer",
                    "_rid": "peer.documents.example",
                    "media": "//media/",
                    "addresses": "//addresses/",
                    "_dbs": "//dbs/",
                    "writableLocations": location,
                    "readableLocations": location,
                    "enableMultipleWriteLocations": False,
                    "userReplicationPolicy": {
                        "asyncReplication": False,
                        "minReplicaSetSize": 3,
                        "maxReplicasetSize": 4,
                    },
                    "userConsistencyPolicy": {"defaultConsistencyLevel": self.consistency},
                    "systemReplicationPolicy": {"minReplicaSetSize": 3, "maxReplicasetSize": 4},
                    "readPolicy": {"primaryReadCoefficient": 1, "secondaryReadCoefficient": 1},
                    "queryEngineConfiguration": "{}",
                }
            ),
        )

    def _databases(self, call: Incoming, names: Sequence[str], whole: bool) -> Answer:
        call.charge = METADATA
        method, account = call.request.method, self.account
        if not whole and method == "POST" and not _is_query(call):
            return self._resource(call, 201, account.create_database(call.body()))
        if not whole and method in ("GET", "POST"):
            return self._list(call, "", "Databases", [d.document() for d in account.databases.values()])
        if not whole:
            raise RefusedError(405, f"{method} is not allowed on databases.")
        database = account.database(names[0])
        if method == "GET":
            return self._resource(call, 200, database)
        if method == "DELETE":
            account.delete_database(database)
            return call.answer(204)
        raise RefusedError(405, f"{method} is not allowed on a database.")

    def _containers(self, call: Incoming, names: Sequence[str], whole: bool) -> Answer:
        call.charge = METADATA
        method, account = call.request.method, self.account
        if not whole:
            database = account.database(names[0])
            if method == "POST" and not _is_query(call):
                throughput = call.header("x-ms-offer-throughput")
                made = account.create_container(database, call.body())
                made.offer = int(throughput) if throughput else None
                return self._resource(call, 201, made)
            if method in ("GET", "POST"):
                found = [container.document() for container in database.containers.values()]
                return self._list(call, database.rid, "DocumentCollections", found)
            raise RefusedError(405, f"{method} is not allowed on containers.")
        container = account.container(names[0], names[1])
        if method == "GET":
            return self._resource(call, 200, container)
        if method == "PUT":
            account.replace_container(container, call.body())
            return self._resource(call, 200, container)
        if method == "DELETE":
            del account.database(names[0]).containers[container.id]
            return call.answer(204)
        raise RefusedError(405, f"{method} is not allowed on a container.")

    def _resource(self, call: Incoming, status: int, resource: Database | Container) -> Answer:
        call.headers["etag"] = resource.etag
        return call.answer(status, encode(resource.document()))

    def _list(self, call: Incoming, rid: str, name: str, documents: list[dict[str, Any]]) -> Answer:
        if call.request.method == "POST":
            body = call.body()
            documents = _filtered(documents, body)
        call.headers["x-ms-item-count"] = str(len(documents))
        return call.answer(200, encode({"_rid": rid, name: documents, "_count": len(documents)}))

    def _offers(self, call: Incoming) -> Answer:
        if not _is_query(call):
            raise undecided("offers other than queried by their resource")
        call.charge = METADATA
        body = call.body()
        wanted = query_parameters(body.get("parameters")).get("@link")
        offers = [
            {
                "id": container.rid,
                "_rid": container.rid,
                "resource": container.self_link,
                "offerResourceId": container.rid,
                "offerVersion": "V2",
                "content": {"offerThroughput": container.offer},
            }
            for database in self.account.databases.values()
            for container in database.containers.values()
            if container.self_link == wanted and container.offer is not None
        ]
        return call.answer(200, encode({"_rid": "", "Offers": offers, "_count": len(offers)}))

    def _ranges(self, call: Incoming, container: Container) -> Answer:
        call.charge = 0.0
        etag = f'"{container.partitions[-1].id}-{len(container.partitions)}-{len(container.gone)}"'
        call.headers["etag"] = etag
        if call.header("if-none-match") == etag:
            return call.answer(304)
        ranges = [
            {
                "id": partition.id,
                "_rid": container.rid,
                "_self": f"{container.self_link}pkranges/{partition.id}/",
                "_etag": etag,
                "minInclusive": partition.range.low,
                "maxExclusive": partition.range.high,
                "ridPrefix": int(partition.id),
                "throughputFraction": round(1 / len(container.partitions), 4),
                "status": "online",
                "parents": list(partition.parents),
                "_ts": container.written_at,
            }
            for partition in container.partitions
        ]
        return call.answer(200, encode({"_rid": container.rid, "PartitionKeyRanges": ranges, "_count": len(ranges)}))

    # Items

    def _full_key(self, call: Incoming, container: Container) -> KeyValue:
        header = call.header("x-ms-documentdb-partitionkey")
        if header is None:
            raise bad_request("PartitionKey value must be supplied for this operation.")
        return container.definition.key.of_header(header)

    def _point(self, call: Incoming, container: Container, verb: Verb, identity: str | None) -> Callable[[], Answer]:
        key = self._full_key(call, container)
        body = call.body() if verb in ("Create", "Upsert", "Replace", "Patch") else None
        name = identity if identity is not None else body.get("id", "") if isinstance(body, dict) else ""
        call.item = f"{container.id} {key.data!r} {name}"
        condition = Condition(call.header("if-match"), call.header("if-none-match"))
        call.conditional = verb != "Read" and condition.if_match is not None
        operation = Operation(verb, identity, body, condition)
        return lambda: self._item(call, container, key, operation)

    def _item(self, call: Incoming, container: Container, key: KeyValue, operation: Operation) -> Answer:
        writer = ItemWriter(self.account, container, key)
        self._session(call, [writer.partition])
        outcome = writer.apply(operation)
        self._session(call, [writer.partition])
        item = outcome.item
        if operation.verb == "Read":
            assert item is not None
            call.charge = self._reading(read_charge(item.size))
        else:
            call.charge = write_charge(item, outcome.before, container.definition)
        if item is None:
            return call.answer(outcome.status)
        call.headers["etag"] = item.etag
        call.headers["x-ms-item-lsn"] = str(item.lsn)
        minimal = operation.verb != "Read" and (call.header("prefer") or "").lower() == "return=minimal"
        return call.answer(outcome.status, b"" if minimal or outcome.status == 304 else item.data)

    def _batch(self, call: Incoming, container: Container, key: KeyValue, entries: Any) -> Answer:
        if not call.flag("x-ms-cosmos-batch-atomic"):
            raise undecided("a batch that is not atomic")
        partition = container.partition_of(key.epk)
        minimal = (call.header("prefer") or "").lower() == "return=minimal"
        result = run_batch(self.account, container, key, entries, minimal=minimal)
        call.charge = result.charge
        self._session(call, [partition])
        return call.answer(result.status, encode(result.results))

    def _refused_batch(self, call: Incoming) -> Answer:
        entries = call.body()
        call.charge = READ_MISS
        return call.answer(207, encode(refused_batch(len(entries), first_conditional(entries) or 0, 412).results))

    def _reading(self, charge: float) -> float:
        """What a read costs: a strong one asks two replicas, and costs twice what is published for one."""
        return 2 * charge if self.consistency == "Strong" else charge

    def _session(self, call: Incoming, partitions: Sequence[Partition]) -> None:
        """Hold the request to its session token, and give it the newest.

        Raises:
            RefusedError: 404/1002, it has seen what is not there yet.
        """
        sent = call.header("x-ms-session-token") or ""
        known = {partition.id: partition.lsn for partition in partitions}
        for pair in filter(None, sent.split(",")):
            identity, _, token = pair.partition(":")
            lsn = token.split("#")[1] if "#" in token else ""
            if identity in known and lsn.isdecimal() and int(lsn) > known[identity]:
                raise RefusedError(
                    404,
                    "The read session is not available for the input session token.",
                    substatus=READ_SESSION_NOT_AVAILABLE,
                )
        call.headers["x-ms-session-token"] = ",".join(f"{p.id}:-1#{p.lsn}" for p in partitions)
        if len(partitions) == 1:
            call.headers["lsn"] = str(partitions[0].lsn)
            call.headers["x-ms-documentdb-partitionkeyrangeid"] = partitions[0].id

    # Queries

    def _query_plan(self, call: Incoming, container: Container) -> Answer:
        query, context = self._parsed(call, container)
        features = frozenset(
            feature.strip() for feature in (call.header("x-ms-cosmos-supported-query-features") or "").split(",")
        )
        call.charge = 0.0
        return call.answer(200, encode(query_plan(query, context, features)))

    def _parsed(self, call: Incoming, container: Container) -> tuple[Query, QueryContext]:
        body = call.body()
        if (
            not isinstance(body, dict)
            or not isinstance(body.get("query"), str)
            or body.keys() - {"query", "parameters"}
        ):
            raise bad_request("A query is an object with 'query' and 'parameters'.")
        context = QueryContext(container.definition, query_parameters(body.get("parameters")))
        return parse_query(body["query"]), context

    def _query(self, call: Incoming, container: Container) -> Answer:
        query, context = self._parsed(call, container)
        scope = self._scope(call, container, query, context)
        self._session(call, scope.partitions)
        call.charge = QUERY_BASE
        if query.rank or (scope.merging and needs_plan(query)):
            # What is wrong with the query comes before what is wrong with its way.
            if not query.rank:
                QueryProgram(query, context)
            raise bad_request(
                "The provided cross partition query can not be directly served by the gateway. This is a first chance"
                " (internal) exception that all newer clients will know how to handle gracefully. This exception is"
                " traced, but unless you see it bubble up as an exception (which only happens on older SDK clients),"
                " then you can safely ignore this message.",
                substatus=CROSS_PARTITION_NOT_SERVABLE,
            )
        page = self._page(call, container, query, context, scope)
        call.charge = self._reading(query_charge(page, scanning=scans(query, context), scored=_scored(query)))
        if page.continuation is not None:
            call.headers["x-ms-continuation"] = page.continuation
        call.headers["x-ms-item-count"] = str(len(page.rows))
        body = b'{"_rid":%s,"Documents":[%s],"_count":%d}' % (
            encode(container.rid),
            b",".join(page.rows),
            len(page.rows),
        )
        return call.answer(200, body)

    def _page(self, call: Incoming, container: Container, query: Query, context: QueryContext, scope: "_Scope") -> Page:
        """The first page with rows from where the continuation stands; of several partitions one after the other."""
        most = _page_size(call)
        continuation = call.header("x-ms-continuation")
        if not scope.merging:
            items = scope.items(container, scope.partitions[0])
            return query_page(query, context, items, continuation=continuation, most=most, salt=container.rid)
        # The gateway walks the partitions; its continuation says in which it is.
        low, inner = _gateway_position(continuation)
        page = Page([], None)
        left = [partition for partition in scope.partitions if low is None or partition.range.high > low]
        for number, partition in enumerate(left):
            part = query_page(
                query,
                context,
                scope.items(container, partition),
                continuation=inner,
                most=most,
                salt=container.rid,
            )
            inner = None
            page.rows += part.rows
            page.scanned_bytes += part.scanned_bytes
            page.matched_bytes += part.matched_bytes
            if part.continuation is not None:
                page.continuation = encode({"low": partition.range.low, "token": part.continuation}).decode()
                break
            if page.rows and number + 1 < len(left):
                page.continuation = encode({"low": left[number + 1].range.low, "token": None}).decode()
                break
        return page

    def _scope(self, call: Incoming, container: Container, query: Query, context: QueryContext) -> "_Scope":
        """Which items a query may see, and whether several partitions must answer."""
        key_header = call.header("x-ms-documentdb-partitionkey")
        range_id = call.header("x-ms-documentdb-partitionkeyrangeid")
        within = _epk_range(call)
        definition = container.definition.key
        key: KeyValue | None = None
        if key_header is not None:
            key = definition.value(header_components(key_header))
            if len(key.components) > len(definition.paths):
                raise key_mismatch()
            if len(key.components) < len(definition.paths) and range_id is None:
                raise undecided("a query by a prefix of the partition key that names no partition key range")
        if range_id is not None:
            partition = container.partition(range_id)
            narrowed = [
                span for span in (within, definition.span(key) if key is not None else None) if span is not None
            ]
            return _Scope([partition], narrowed, key if key is not None and _is_full(key, container) else None, False)
        if within is not None:
            raise bad_request("A range of effective partition keys needs a partition key range.")
        if key is not None:
            return _Scope([container.partition_of(key.epk)], [], key, False)
        where = targets(query, context)
        if where.single:
            return _Scope(container.overlapping(where.ranges), [], None, False)
        if not call.flag("x-ms-documentdb-query-enablecrosspartition"):
            raise bad_request(
                "Cross partition query is required but disabled. Please set x-ms-documentdb-query-enablecrosspartition"
                " to true, specify x-ms-documentdb-partitionkey, or revise your query to avoid this exception."
            )
        return _Scope(container.overlapping(where.ranges), [], None, True)

    # Feeds

    def _read_feed(self, call: Incoming, container: Container) -> Answer:
        """All items, a page of one partition after the other."""
        every = parse_query("SELECT * FROM c")
        context = QueryContext(container.definition, {})
        key_header = call.header("x-ms-documentdb-partitionkey")
        if key_header is not None or call.header("x-ms-documentdb-partitionkeyrangeid") is not None:
            scope = self._scope(call, container, every, context)
        else:
            scope = _Scope(list(container.partitions), [], None, True)
        self._session(call, scope.partitions)
        page = self._page(call, container, every, context, scope)
        if page.continuation is not None:
            call.headers["x-ms-continuation"] = page.continuation
        call.charge = self._reading(feed_charge(page.matched_bytes, len(page.rows)))
        body = b'{"_rid":%s,"Documents":[%s],"_count":%d}' % (
            encode(container.rid),
            b",".join(page.rows),
            len(page.rows),
        )
        return call.answer(200, body)

    def _change_feed(self, call: Incoming, container: Container) -> Answer:
        range_id = call.header("x-ms-documentdb-partitionkeyrangeid")
        key_header = call.header("x-ms-documentdb-partitionkey")
        within = _epk_range(call) or WHOLE
        if key_header is not None:
            key = container.definition.key.of_header(key_header)
            within = container.definition.key.span(key)
            partition = container.partition_of(key.epk)
        elif range_id is not None:
            partition = container.partition(range_id)
        elif len(container.partitions) == 1:
            partition = container.partitions[0]
        else:
            raise undecided("a change feed of several partition key ranges at once")
        page = feed_page(
            container,
            partition,
            within,
            if_none_match=call.header("if-none-match"),
            modified_since=call.header("if-modified-since"),
            most=_page_size(call),
        )
        self._session(call, [partition])
        call.headers["etag"] = page.etag
        size = sum(len(item.data) for item in page.items)
        call.charge = self._reading(feed_charge(size, len(page.items)))
        if not page.items:
            return call.answer(304)
        documents = b",".join(_with_lsn(item) for item in page.items)
        body = b'{"_rid":%s,"Documents":[%s],"_count":%d}' % (encode(container.rid), documents, len(page.items))
        return call.answer(200, body)


_ITEM_VERBS: dict[str, Verb] = {"GET": "Read", "PUT": "Replace", "DELETE": "Delete", "PATCH": "Patch"}
_VERB = {"GET": "read", "POST": "create", "PUT": "replace", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class _Scope:
    """The partitions of a query, what of them it may see, and whether the gateway walks them."""

    partitions: list[Partition]
    within: list[EpkRange]
    key: KeyValue | None
    merging: bool

    def items(self, container: Container, partition: Partition) -> Iterable[Item]:
        """What the query may see of one of the partitions."""
        if self.key is not None:
            found: Iterable[Item] = list(partition.logical.get(self.key.data, {}).values())
        else:
            found = partition.items.values()
        for span in self.within:
            found = (item for item in found if span.holds(item.key.epk)) if self.key is None else found
            if self.key is not None and not span.holds(self.key.epk):
                return []
        return container.live_items(iter(found))


def _yields(call: Incoming) -> bool:
    priority, bucket = call.header("x-ms-cosmos-priority-level"), call.header("x-ms-cosmos-throughput-bucket")
    if priority not in (None, "High", "Low"):
        raise bad_request(f"The priority level {priority!r} is neither High nor Low.")
    if bucket is not None and bucket not in ("1", "2", "3", "4", "5"):
        raise bad_request(f"The throughput bucket {bucket!r} is not between 1 and 5.")
    if priority == "Low" and bucket is not None:
        raise undecided("a request with a low priority in a throughput bucket")
    return priority == "Low" or bucket is not None


def _is_full(key: KeyValue, container: Container) -> bool:
    return len(key.components) == len(container.definition.key.paths)


def _epk_range(call: Incoming) -> EpkRange | None:
    low, high = call.header("x-ms-start-epk"), call.header("x-ms-end-epk")
    if low is None and high is None:
        return None
    if (call.header("x-ms-read-key-type") or "").lower() != "effectivepartitionkeyrange":
        raise bad_request("A range of effective partition keys needs the header x-ms-read-key-type.")
    return EpkRange(low or "", high or "FF")


def _page_size(call: Incoming) -> int:
    text = call.header("x-ms-max-item-count")
    if text is None:
        return PAGE_ITEMS
    try:
        size = int(text)
    except ValueError as error:
        raise bad_request(f"x-ms-max-item-count is {text!r}.") from error
    if size == -1:
        return MAX_PAGE_ITEMS
    if size < 1:
        raise bad_request(f"x-ms-max-item-count is {size}; it must be positive, or -1.")
    return min(size, MAX_PAGE_ITEMS)


def _gateway_position(continuation: str | None) -> tuple[str | None, str | None]:
    if not continuation:
        return None, None
    position = decode(continuation.encode())
    if not isinstance(position, dict) or position.keys() != {"low", "token"}:
        raise bad_request("Invalid Continuation Token: it is none of the gateway's.")
    return position["low"], position["token"]


def _with_lsn(item: Item) -> bytes:
    return item.data[:-1] + b',"_lsn":%d}' % item.lsn


def _scored(query: Query) -> float:
    charge = 0.0
    nodes: list[Any] = [query]
    while nodes:
        node = nodes.pop()
        if isinstance(node, Call):
            if is_scored(node) and node.function != "_FULLTEXTSCORE":
                charge = max(charge, VECTOR_QUERY)
            elif "FULLTEXT" in node.function:
                charge = max(charge, TEXT_QUERY)
        nodes.extend(children(node))
    return charge


def _is_query(call: Incoming) -> bool:
    return call.flag("x-ms-documentdb-isquery") or "query+json" in (call.header("content-type") or "")


def _filtered(documents: list[dict[str, Any]], body: Any) -> list[dict[str, Any]]:
    """Databases or containers that a query finds; only conditions on them are known."""
    query = parse_query(body["query"])
    wanted = query_parameters(body.get("parameters"))
    if query.where is None:
        return documents
    raise undecided(f"queries of databases or containers by {sorted(wanted)}")


def _refused(effect: Refuse) -> RefusedError:
    headers = {} if effect.retry_after_ms is None else {"x-ms-retry-after-ms": str(effect.retry_after_ms)}
    return RefusedError(effect.status, "This is a fault on demand.", substatus=effect.substatus, headers=headers)
