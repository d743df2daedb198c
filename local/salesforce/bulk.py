"""Bulk API 2.0 query jobs: made, worked on for a few looks, and read page by page as CSV."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from starlette.responses import Response

from local.salesforce import ids
from local.salesforce.errors import ApiError, not_found
from local.salesforce.org import Org
from local.salesforce.schema import NUMBER_TYPES, Field, Record, Value
from local.salesforce.soql import parse
from local.salesforce.values import datetime_text
from messaging.codec import encode

KEPT_FOR = timedelta(days=7)
"""How long results can be read."""
LARGEST_PAGE = 50_000
_JSON = "application/json;charset=UTF-8"
_REFUSED = frozenset({"base64", "address", "location"})


@dataclass(slots=True)
class _Job:
    id: str
    operation: str
    query: str
    object_name: str
    created: datetime
    looks_left: int
    error: str | None
    state: str = "UploadComplete"
    fields: list[Field] = field(default_factory=list)
    rows: list[Record] = field(default_factory=list)


class BulkQueries:
    """The org's query jobs. The attributes are switches that may be set at any time.

    *looks* is how often a job is looked at before it is complete; *unsupported* are objects that the Bulk API does not
    know; *failures* are error messages of the next jobs; *page_cap* makes pages shorter than asked for.
    """

    def __init__(self, org: Org) -> None:
        self._org = org
        self.looks = 2
        self.unsupported: set[str] = set()
        self.failures: list[str] = []
        self.page_cap = LARGEST_PAGE
        self._jobs: dict[str, _Job] = {}
        self._made = 0

    @property
    def made(self) -> int:
        """Jobs made so far."""
        return self._made

    def lose_jobs(self) -> None:
        """Let every job be gone, as after seven days."""
        self._jobs.clear()

    def answer(self, method: str, parts: list[str], params: Mapping[str, str], body: bytes, version: str) -> Response:
        """The answer of ``jobs/query`` and what is below it.

        Raises:
            ApiError: a refusal.
        """
        match (method, parts):
            case ("POST", []):
                return _answer(self._describe(self._create(body), version))
            case ("GET", [job_id]):
                return _answer(self._describe(self._look(job_id), version))
            case ("GET", [job_id, "results"]):
                return self._results(self._job(job_id), params)
            case ("PATCH", [job_id]):
                job = self._job(job_id)
                job.state = "Aborted"
                return _answer(self._describe(job, version))
            case ("DELETE", [job_id]):
                del self._jobs[self._job(job_id).id]
                return Response(status_code=204)
        raise ApiError(405, "METHOD_NOT_ALLOWED", f"HTTP Method '{method}' not allowed")

    def _create(self, body: bytes) -> _Job:
        try:
            given = json.loads(body)
            operation, query = given["operation"], given["query"]
        except (ValueError, KeyError, TypeError) as error:
            raise ApiError(400, "INVALIDJOB", "the body must name operation and query") from error
        if operation not in {"query", "queryAll"} or given.get("contentType", "CSV") != "CSV":
            raise ApiError(400, "INVALIDJOB", "operation must be query or queryAll, contentType CSV")
        parsed = parse(query)
        if parsed.counts or parsed.offset:
            raise ApiError(400, "API_ERROR", "Aggregate Relationships and OFFSET not supported in Bulk Query")
        plan = self._org.plan(parsed)
        if plan.table.name in self.unsupported:
            message = f"Entity '{plan.table.name}' is not supported by the Bulk API."
            raise ApiError(400, "INVALIDENTITY", message)
        fields = [plan.table.fields[name] for name in plan.names]
        failure = self.failures.pop(0) if self.failures else None
        if any(one.type in _REFUSED for one in fields):
            failure = "FUNCTIONALITY_NOT_ENABLED: Selecting compound data not supported in Bulk Query"
        self._made += 1
        job_id = ids.made_id("750", "QueryJob", f"{self._made}")
        job = _Job(job_id, operation, query, plan.table.name, self._org.clock(), self.looks, failure, fields=fields)
        self._jobs[job_id] = job
        return job

    def _job(self, job_id: str) -> _Job:
        job = self._jobs.get(ids.to_18(job_id) or job_id)
        if job is None or self._org.clock() - job.created >= KEPT_FOR:
            raise not_found()
        return job

    def _look(self, job_id: str) -> _Job:
        job = self._job(job_id)
        if job.state in {"UploadComplete", "InProgress"}:
            job.state = "InProgress"
            job.looks_left -= 1
            if job.looks_left <= 0:
                job.state = "Failed" if job.error else "JobComplete"
                if not job.error:
                    job.rows = self._org.plan(parse(job.query)).run(include_deleted=job.operation == "queryAll")
        return job

    def _describe(self, job: _Job, version: str) -> dict[str, object]:
        described: dict[str, object] = {
            "id": job.id,
            "operation": job.operation,
            "object": job.object_name,
            "createdDate": datetime_text(job.created),
            "systemModstamp": datetime_text(job.created),
            "state": job.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": Decimal(version),
            "jobType": "V2Query",
            "lineEnding": "LF",
            "columnDelimiter": "COMMA",
        }
        if job.state == "JobComplete":
            described |= {"numberRecordsProcessed": len(job.rows), "retries": 0, "totalProcessingTime": 100}
        if job.state == "Failed":
            described |= {"errorMessage": job.error, "numberRecordsProcessed": 0, "retries": 0}
        return described

    def _results(self, job: _Job, params: Mapping[str, str]) -> Response:
        if job.state != "JobComplete":
            raise ApiError(400, "INVALIDJOBSTATE", f"Job must be JobComplete, is {job.state}")
        locator, most = params.get("locator", ""), params.get("maxRecords", str(LARGEST_PAGE))
        start, _, salt = locator.partition("x")
        if locator and (not start.isdigit() or salt != job.id[-6:]):
            raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid locator")
        begin = int(start or 0)
        end = min(begin + min(int(most), self.page_cap), len(job.rows))
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow([one.name for one in job.fields])
        for row in job.rows[begin:end]:
            writer.writerow([_cell(one, row[one.name]) for one in job.fields])
        headers = {
            "Sforce-Locator": f"{end}x{job.id[-6:]}" if end < len(job.rows) else "null",
            "Sforce-NumberOfRecords": str(end - begin),
        }
        return Response(text.getvalue().encode(), headers=headers, media_type="text/csv")


def _cell(described: Field, value: Value) -> str:
    """A value as the CSV has it: null is empty, times end in Z, decimals have a fraction."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if described.type == "datetime":
        return str(value).replace("+0000", "Z")
    if described.type in NUMBER_TYPES and described.type != "int":
        text = f"{Decimal(str(value)):f}"
        return text if "." in text else f"{text}.0"
    return str(value)


def _answer(content: dict[str, object]) -> Response:
    return Response(encode(content), media_type=_JSON)
