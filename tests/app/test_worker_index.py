"""What Microsoft's worker library finds in the app, in an environment made of `requirements.txt` alone.

One function that it can't index, one import that fails, and it finds none at all.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from functions_host.environment import ROOT, worker_python
from functions_host.worker import IndexingError, Worker

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("worker index")]


def http(route: str, method: str, auth_level: str = "ANONYMOUS") -> list[dict[str, Any]]:
    return [
        {
            "direction": "IN",
            "type": "httpTrigger",
            "name": "req",
            "methods": [method],
            "authLevel": auth_level,
            "route": route,
        },
        {"direction": "OUT", "type": "http", "name": "$return"},
    ]


def timer(schedule: str) -> list[dict[str, Any]]:
    return [
        {
            "direction": "IN",
            "type": "timerTrigger",
            "name": "timer",
            "schedule": schedule,
            "runOnStartup": False,
            "useMonitor": True,
        }
    ]


def queue(name: str, parameter: str = "messages", **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "direction": "IN",
            "dataType": "BINARY",
            "type": "serviceBusTrigger",
            "name": parameter,
            "connection": "ServiceBusConnection",
            "queueName": name,
            **more,
        }
    ]


MANY = {"cardinality": "MANY"}
BINDINGS: dict[str, list[dict[str, Any]]] = {
    "health": http("health", "GET"),
    "status": http("status", "GET", "FUNCTION"),
    "search": http("search", "POST"),
    "shard": http("shards/{id}", "GET"),
    "shards": http("shards", "GET"),
    "receive_gdrive": http("webhooks/gdrive", "POST"),
    "receive_salesforce": http("webhooks/salesforce/{connectionId}/{secret}", "POST"),
    "receive_slack": http("webhooks/slack", "POST"),
    "poll_due": timer("%SHARDLINE_POLL_SCHEDULE%"),
    "work_on_source": queue("source-work", "message"),
    "normalize_events": queue("ingestion-events", **MANY),
    "normalize_bulk_events": queue("ingestion-events-bulk", **MANY),
    "enrich_shards": queue("shard-emission", **MANY),
    "prepare_shards": queue("enrichment-jobs", **MANY),
    "embed_chunks": queue("embedding-jobs", **MANY),
    "prepare_changed_shards": [
        {
            "direction": "IN",
            "type": "cosmosDBTrigger",
            "name": "documents",
            "connection": "CosmosConnection",
            "databaseName": "%SHARDLINE_COSMOS_DATABASE%",
            "containerName": "shards",
            "leaseContainerName": "leases",
            "feedPollDelay": 1000,
            "maxItemsPerInvocation": 200,
            "startFromBeginning": True,
        }
    ],
    "reconcile_stages": timer("%SHARDLINE_RECONCILE_SCHEDULE%"),
    "expire_payloads": timer("0 17 3 * * *"),
    "sweep_file_texts": timer("0 43 * * * *"),
}
"""Each function by name. A function that is new needs its line here, and its rights and settings in infra/."""


SETTINGS = {
    "SHARDLINE_HOME": "azure",
    "ServiceBusConnection__fullyQualifiedNamespace": "acme.servicebus.windows.net",
    "CosmosConnection__accountEndpoint": "https://acme.documents.azure.com/",
    "AzureWebJobsStorage__accountName": "acme",
    "SHARDLINE_KEY_VAULT_URL": "https://acme.vault.azure.net",
    "SHARDLINE_TOKEN_ISSUER": "https://login.example/acme",
    "SHARDLINE_TOKEN_KEYS_URL": "https://login.example/acme/keys",
}
"""As deployed; nothing is there, and nothing is asked for while the app is indexed."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def indexed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worker]:
    """A worker that has indexed the app."""
    output = tmp_path_factory.mktemp("index") / "worker.log"
    started = await Worker.start(worker_python(), ROOT, SETTINGS, output)
    yield started
    await started.stop()


async def test_every_function_is_found_with_its_bindings(indexed: Worker) -> None:
    assert {name: list(function.bindings) for name, function in indexed.functions.items()} == BINDINGS


async def test_only_triggers_whose_extension_retries_have_a_retry_policy(indexed: Worker) -> None:
    """The host has no retries for Service Bus and HTTP: a policy there would be a promise that nobody keeps."""
    retrying = {function.kind for function in indexed.functions.values() if function.retry}
    assert retrying <= {"cosmosDBTrigger", "timerTrigger"}


async def test_the_environment_holds_nothing_that_azure_would_not_install() -> None:
    """What the tests and the one-machine run bring along must not be what makes an import work here."""
    others = ["pytest", "hypothesis", "starlette", "uvicorn", "typer", "rich", "croniter", "sqlite_vec", "proton"]
    program = f"import importlib.util as u; print([n for n in {others} if u.find_spec(n)])"
    command = [str(worker_python()), "-c", program]
    done = await asyncio.to_thread(subprocess.check_output, command, text=True, timeout=60)
    assert done.strip() == "[]"


async def test_one_import_that_fails_leaves_no_function_at_all(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise ModuleNotFoundError(\"No module named 'msgspec'\")\n")
    with pytest.raises(IndexingError, match=r"No module named 'msgspec'"):
        await Worker.start(worker_python(), ROOT, SETTINGS | {"PYTHONPATH": str(tmp_path)}, tmp_path / "worker.log")


async def test_one_setting_that_is_wrong_leaves_no_function_at_all(tmp_path: Path) -> None:
    settings = {name: value for name, value in SETTINGS.items() if name != "AzureWebJobsStorage__accountName"}
    with pytest.raises(IndexingError, match="AzureWebJobsStorage is missing"):
        await Worker.start(worker_python(), ROOT, settings, tmp_path / "worker.log")


HEAD = """
from typing import List, Optional
import azure.functions as func
app = func.FunctionApp()

@app.route("fine")
def fine(req: func.HttpRequest) -> str:
    return "fine"

@app.service_bus_queue_trigger("messages", "Bus", "queue", cardinality="many")
"""


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        ("messages: list[func.ServiceBusMessage]", "annotation"),
        ("messages: Optional[func.ServiceBusMessage]", "annotation"),
        ("messages: List[func.ServiceBusMessage], more: int = 0", "declared in Python but not in the function"),
        ("other: List[func.ServiceBusMessage]", "declared in"),
    ],
)
async def test_one_signature_that_the_worker_refuses_leaves_no_function_at_all(
    tmp_path: Path, signature: str, problem: str
) -> None:
    (tmp_path / "function_app.py").write_text(f"{HEAD}async def refused({signature}) -> None: ...\n")
    with pytest.raises(IndexingError, match=problem):
        await Worker.start(worker_python(), tmp_path, {}, tmp_path / "worker.log")


async def test_a_signature_like_the_products_is_indexed(tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text(
        f"{HEAD}async def taken(messages: List[func.ServiceBusMessage]) -> None: ...\n"
    )
    worker = await Worker.start(worker_python(), tmp_path, {}, tmp_path / "worker.log")
    assert sorted(worker.functions) == ["fine", "taken"]
    await worker.stop()
