"""The org's HTTP face: REST resources under ``/services/data``, and the login endpoints."""

import asyncio
import json
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote

from starlette.requests import Request
from starlette.responses import Response

from local.salesforce.auth import Credentials, Login, LoginRefusedError, OAuthError
from local.salesforce.bulk import BulkQueries
from local.salesforce.errors import ApiError, not_found
from local.salesforce.faults import KINDS
from local.salesforce.org import Org
from local.salesforce.query import Plan
from local.salesforce.schema import ADDRESS_PARTS, NUMBER_TYPES, TEXT_TYPES, Field, Record
from local.salesforce.soql import parse
from local.salesforce.store import Table
from local.salesforce.values import read_datetime
from local.simulator_faults import Fault, Faults
from messaging.codec import encode

FULL_PAGE = 2000
SMALLEST_PAGE = 200
OPEN_CURSORS = 10
"""Cursors a user may have open; the next one drops the oldest."""

CURSOR_LIFETIME = timedelta(days=2)
RETRIEVE_LIMIT = 2000
"""Records that one collections read may name."""

URI_LIMIT = 16_384
"""Bytes of request line and headers; more is answered with 414."""

DAILY_LIMIT = 100_000
USAGE_WINDOW = timedelta(hours=24)
_KEPT_CALLS = 100_000
_VERSIONS = tuple(f"{number}.0" for number in range(31, 66))
_BATCH_SIZE = re.compile(r"batchSize=(\d+)")
_JSON = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came in. *object* is the object of its query, or of its path; a next page has its query's."""

    method: str
    path: str
    soql: str | None
    object: str | None
    status: int


@dataclass(slots=True)
class _Cursor:
    plan: Plan
    rows: list[Record]
    opened: datetime


class RestApi:
    """Answers calls to one org. The attributes are switches that may be set at any time.

    *daily_limit* is the number of calls in 24 hours; *page_cap* makes pages shorter than asked for, as wide rows do.
    """

    def __init__(self, org: Org, credentials: Credentials) -> None:
        self.org = org
        label = re.sub(r"[^a-z0-9]+", "-", org.tenant_id.lower()).strip("-") or "sandbox"
        self.login = Login(credentials, org.org_id, f"https://{label}.my.salesforce.com", org.clock)
        self.faults = Faults(KINDS)
        self.daily_limit = DAILY_LIMIT
        self.page_cap = FULL_PAGE
        self.calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        self._used: deque[datetime] = deque()
        self._cursors: OrderedDict[str, _Cursor] = OrderedDict()
        self.bulk = BulkQueries(org)

    def calls_of(self, object_name: str) -> list[Call]:
        """The calls about that object so far."""
        return [call for call in self.calls if call.object == object_name]

    def used_calls(self) -> int:
        """Calls that count against the daily limit."""
        oldest = self.org.clock() - USAGE_WINDOW
        while self._used and self._used[0] <= oldest:
            self._used.popleft()
        return len(self._used)

    def use_calls(self, number: int) -> None:
        """Count *number* calls that other clients of the org have made just now."""
        self._used.extend([self.org.clock()] * number)

    def drop_cursors(self) -> None:
        """Let every open query locator die."""
        with self.org.lock:
            self._cursors.clear()

    async def __call__(self, request: Request) -> Response:
        """Answer any call but the control route's."""
        path = request.url.path
        body = await request.body()
        fault = self.faults.strike(path)
        if fault is not None and fault.delay:
            await asyncio.sleep(fault.delay)
        call = _Exchange(request, body)
        if _head_size(request) > URI_LIMIT:
            response = Response("<html><body><h1>URI Too Long</h1></body></html>", 414, media_type="text/html")
        elif fault is not None and fault.status is not None:
            response = _fault_response(fault)
        else:
            with self.org.lock:
                response = self._answer(call)
        # Clients take the vendor's time from here, so it is the org's and not the machine's.
        response.headers["Date"] = format_datetime(self.org.clock(), usegmt=True)
        self.calls.append(Call(request.method, path, call.soql, call.object, response.status_code))
        return response

    def _answer(self, call: "_Exchange") -> Response:
        self.org.commit_due()
        path = call.request.url.path
        if path == "/services/oauth2/token":
            return self._token(call)
        if path.startswith("/services/Soap/u/"):
            return self._soap(call.body, path.removeprefix("/services/Soap/u/").strip("/"))
        try:
            answer = self._data(call)
        except ApiError as error:
            response = Response(encode(error.body()), error.status, media_type=_JSON)
        else:
            response = answer if isinstance(answer, Response) else Response(answer, media_type=_JSON)
        response.headers["Sforce-Limit-Info"] = f"api-usage={self.used_calls()}/{self.daily_limit}"
        return response

    def _token(self, call: "_Exchange") -> Response:
        form = {name: values[-1] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()}
        try:
            if call.request.method != "POST":
                raise OAuthError("invalid_request", "must use HTTP POST")
            answer = self.login.token(form, call.request.headers.get("authorization"))
        except OAuthError as error:
            refused = {"error": error.error, "error_description": error.description}
            return Response(encode(refused), 400, media_type=_JSON)
        return Response(encode(answer), media_type=_JSON)

    def _soap(self, body: bytes, version: str) -> Response:
        try:
            answer = self.login.soap(body.decode("utf-8", "replace"), version)
        except LoginRefusedError as error:
            return Response(error.envelope(), 500, media_type="text/xml")
        return Response(answer, media_type="text/xml")

    def _data(self, call: "_Exchange") -> bytes | Response:
        request = call.request
        parts = [unquote(part) for part in request.url.path.strip("/").split("/")]
        if parts[:2] != ["services", "data"]:
            raise not_found()
        if len(parts) == 2:
            return encode([{"label": f"API {v}", "url": f"/services/data/v{v}", "version": v} for v in _VERSIONS])
        call.version = parts[2].removeprefix("v")
        if call.version not in _VERSIONS:
            raise not_found()
        self.login.check(request.headers.get("authorization"))
        if self.used_calls() >= self.daily_limit:
            raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.use_calls(1)
        resource = parts[3:]
        if resource[:2] == ["jobs", "query"]:
            return self.bulk.answer(request.method, resource[2:], request.query_params, call.body, call.version)
        posts = resource[:2] == ["composite", "sobjects"]
        if request.method not in ({"GET", "HEAD", "POST"} if posts else {"GET", "HEAD"}):
            message = f"HTTP Method '{request.method}' not allowed. Allowed are HEAD,GET"
            raise ApiError(405, "METHOD_NOT_ALLOWED", message)
        return self._resource(resource, call)

    def _resource(self, resource: list[str], call: "_Exchange") -> bytes:
        match resource:
            case []:
                names = ("limits", "query", "queryAll", "sobjects", "composite")
                answer = encode({name: f"/services/data/v{call.version}/{name}" for name in names})
            case ["limits"]:
                answer = self._limits()
            case ["sobjects"]:
                answer = self._sobjects(call.version)
            case ["sobjects", name, *rest]:
                answer = self._sobject(name, rest, call)
            case ["query" | "queryAll" as kind]:
                answer = self._query(call, include_deleted=kind == "queryAll")
            case ["query" | "queryAll", locator]:
                answer = self._next_page(call, locator)
            case ["composite", "sobjects", name]:
                answer = self._retrieve(call, name)
            case _:
                raise not_found()
        return answer

    def _limits(self) -> bytes:
        remaining = max(0, self.daily_limit - self.used_calls())
        return encode({"DailyApiRequests": {"Max": self.daily_limit, "Remaining": remaining}})

    def _table(self, name: str, call: "_Exchange") -> Table:
        table = self.org.visible_table(name)
        if table is None:
            raise not_found()
        call.object = table.name
        return table

    def _sobjects(self, version: str) -> bytes:
        tables = (table for table in map(self.org.visible_table, self.org.tables) if table is not None)
        return encode({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [_summary(t, version) for t in tables]})

    def _sobject(self, name: str, rest: list[str], call: "_Exchange") -> bytes:
        table, params = self._table(name, call), call.request.query_params
        match rest:
            case []:
                return encode({"objectDescribe": _summary(table, call.version), "recentItems": []})
            case ["describe"]:
                fields = [_describe_field(field, table) for field in self.org.visible_fields(table)]
                return encode({**_summary(table, call.version), "fields": fields, "childRelationships": []})
            case ["deleted" | "updated" as kind]:
                listing = self.org.deleted if kind == "deleted" else self.org.updated
                return encode(listing(table, _time(params, "start"), _time(params, "end")))
            case [record_id]:
                record = self.org.record(table, record_id)
                asked = params.get("fields")
                names = self._names(table, asked.split(",") if asked else None)
                return table.encode([record], names, call.version)[0]
        raise not_found()

    def _names(self, table: Table, asked: list[str] | None) -> tuple[str, ...]:
        """Visible fields by their own spelling; all of them when none is asked for."""
        visible = {field.name.lower(): field.name for field in self.org.visible_fields(table)}
        if asked is None:
            return tuple(visible.values())
        names = []
        for name in asked:
            if name.strip().lower() not in visible:
                message = f"No such column '{name.strip()}' on sobject of type {table.name}"
                raise ApiError(400, "INVALID_FIELD", message)
            names.append(visible[name.strip().lower()])
        return tuple(dict.fromkeys(names))

    def _query(self, call: "_Exchange", *, include_deleted: bool) -> bytes:
        call.soql = call.request.query_params.get("q", "")
        query = parse(call.soql)
        call.object = query.object.text
        plan = self.org.plan(query)
        call.object = plan.table.name
        rows = plan.run(include_deleted=include_deleted)
        if plan.counts:
            return encode({"totalSize": len(rows), "done": True, "records": []})
        cursor = _Cursor(plan, rows, self.org.clock())
        locator = ""
        if len(rows) > self._page_size(call.request):
            locator = "0r8" + secrets.token_hex(8)[:15]
            self._cursors[locator] = cursor
            while len(self._cursors) > OPEN_CURSORS:
                self._cursors.popitem(last=False)
        return self._page(call, cursor, locator, 0)

    def _next_page(self, call: "_Exchange", identifier: str) -> bytes:
        locator, _, place = identifier.partition("-")
        cursor = self._cursors.get(locator)
        if cursor is not None and self.org.clock() - cursor.opened >= CURSOR_LIFETIME:
            cursor = None
        if cursor is None or not place.isdigit() or int(place) >= len(cursor.rows):
            raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        call.object = cursor.plan.table.name
        return self._page(call, cursor, locator, int(place))

    def _page(self, call: "_Exchange", cursor: "_Cursor", locator: str, start: int) -> bytes:
        table, rows = cursor.plan.table, cursor.rows
        end = min(start + self._page_size(call.request), len(rows))
        head = f'{{"totalSize":{len(rows)},"done":{"true" if end == len(rows) else "false"}'
        if end < len(rows):
            head += f',"nextRecordsUrl":"/services/data/v{call.version}/query/{locator}-{end}"'
        elif locator:
            # Read to its end, a cursor makes room for others first; its last page can still be asked for again.
            self._cursors.move_to_end(locator, last=False)
        records = table.encode(rows[start:end], cursor.plan.names, call.version)
        return head.encode() + b',"records":[' + b",".join(records) + b"]}"

    def _page_size(self, request: Request) -> int:
        asked = _BATCH_SIZE.search(request.headers.get("sforce-query-options", ""))
        wanted = min(max(int(asked[1]), SMALLEST_PAGE), FULL_PAGE) if asked else FULL_PAGE
        return min(wanted, self.page_cap)

    def _retrieve(self, call: "_Exchange", name: str) -> bytes:
        table = self._table(name, call)
        record_ids, names = _retrieve_arguments(call.request, call.body)
        if len(record_ids) > RETRIEVE_LIMIT:
            message = f"record limit reached. cannot retrieve more than {RETRIEVE_LIMIT} records in this call"
            raise ApiError(400, "EXCEEDED_ID_LIMIT", message)
        selected = self._names(table, names)
        found: list[bytes] = []
        for record_id in record_ids:
            try:
                record = self.org.record(table, record_id)
            except ApiError:
                found.append(b"null")  # the vendor's answer for a record that is gone or not visible
            else:
                found.extend(table.encode([record], selected, call.version))
        return b"[" + b",".join(found) + b"]"


@dataclass(slots=True)
class _Exchange:
    """A call under way, and what is known of it so far."""

    request: Request
    body: bytes
    version: str = ""
    soql: str | None = None
    object: str | None = None


def _head_size(request: Request) -> int:
    headers = sum(len(name) + len(value) + 4 for name, value in request.scope["headers"])
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return headers + len(raw_path) + len(request.scope["query_string"])


def _fault_response(fault: Fault) -> Response:
    return Response(fault.body, fault.status or 500, headers=dict(fault.headers), media_type=fault.content_type)


def _retrieve_arguments(request: Request, body: bytes) -> tuple[list[str], list[str]]:
    if request.method == "POST":
        try:
            given = json.loads(body)
            record_ids, names = given["ids"], given["fields"]
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(400, "JSON_PARSER_ERROR", "the body must be an object with ids and fields") from error
    else:
        record_ids = [text for text in request.query_params.get("ids", "").split(",") if text]
        names = [text for text in request.query_params.get("fields", "").split(",") if text]
    if not record_ids or not names:
        raise ApiError(400, "MISSING_ARGUMENT", "The ids and fields parameters are required")
    return [str(record_id) for record_id in record_ids], [str(name) for name in names]


def _time(params: Mapping[str, str], name: str) -> datetime:
    text = params.get(name, "")
    try:
        # A "+" that nobody escaped has become a space on the way.
        return datetime.fromisoformat(read_datetime(text.replace(" ", "+")))
    except ValueError as error:
        raise ApiError(400, "INVALID_REPLICATION_DATE", f"{name} must be an ISO 8601 date-time") from error


def _summary(table: Table, version: str) -> dict[str, object]:
    url = f"/services/data/v{version}/sobjects/{table.name}"
    return {
        "name": table.name,
        "label": table.name.removesuffix("__c").replace("_", " "),
        "keyPrefix": table.key_prefix,
        "custom": table.name.endswith("__c"),
        "queryable": True,
        "retrieveable": True,
        "replicateable": True,
        "searchable": True,
        "urls": {"sobject": url, "describe": f"{url}/describe", "rowTemplate": f"{url}/{{ID}}"},
    }


_SOAP_TYPES = {"id": "tns:ID", "reference": "tns:ID", "datetime": "xsd:dateTime", "address": "urn:address"}


def _describe_field(field: Field, table: Table) -> dict[str, object]:
    relationship = None
    if field.type == "reference":
        relationship = field.name.removesuffix("__c") + "__r" if field.custom else field.name.removesuffix("Id")
    compounds = (other for other in table.fields.values() if other.compound)
    part_of = {f"{other.address_prefix}{part}": other.name for other in compounds for part in ADDRESS_PARTS}
    soap = "xsd:string" if field.type in TEXT_TYPES else "xsd:double" if field.type in NUMBER_TYPES else None
    return {
        "name": field.name,
        "label": field.name.removesuffix("__c").replace("_", " "),
        "type": field.type,
        "soapType": soap or _SOAP_TYPES.get(field.type, f"xsd:{field.type}"),
        "custom": field.custom,
        "nillable": field.type not in {"id", "boolean"},
        "filterable": field.filterable,
        "sortable": field.filterable,
        "referenceTo": [field.refers_to] if field.refers_to else [],
        "relationshipName": relationship,
        "compoundFieldName": part_of.get(field.name),
        "deprecatedAndHidden": False,
        "calculated": field.calculated,
    }
