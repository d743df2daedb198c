"""The operator's commands against a home on Azure, as processes of their own."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure_home import azure_settings
from azurite import Azurite
from cosmos_peer import CosmosPeer
from node_process import require_node_peers
from service_bus_peer.peer import ServiceBusPeer
from service_bus_peer.proton_requirement import require_proton
from shardline_command import Answer, shardline

pytestmark = pytest.mark.xdist_group("commands on azure")

PROVISIONED = [
    "account",
    "shards",
    "progress",
    "chunks-wordllama-l2-supercat-256-256",
    "parked",
    "leases",
    "blobs: shardline",
]
CONNECTION = {
    "tenantId": "acme",
    "connectionId": "main",
    "system": "salesforce",
    "name": "Acme's org",
    "instance": "00DNq0000004Kz7MAE",
    "auth": {
        "flow": "client-credentials",
        "domain": "acme.my",
        "consumerKey": "a-consumer-key",
        "consumerSecret": "secret:acme/secret",
    },
}


@pytest.fixture(scope="module")
def cosmos() -> Iterator[CosmosPeer]:
    """An account with nothing in it."""
    with CosmosPeer() as peer:
        yield peer


@pytest.fixture(scope="module")
def home(cosmos: CosmosPeer) -> Iterator[dict[str, str]]:
    """The environment of a home whose containers nobody has made yet."""
    require_proton()
    require_node_peers()
    with ServiceBusPeer() as bus:
        azurite = Azurite()
        try:
            yield azure_settings(bus, cosmos, azurite)
        finally:
            azurite.end()


def run(home: dict[str, str], *arguments: str | Path, **more: str) -> Answer:
    return shardline(*arguments, environment=home | more)


def test_an_operator_sets_a_home_up_and_looks_at_it(home: dict[str, str], cosmos: CosmosPeer, tmp_path: Path) -> None:
    unprovisioned = run(home, "status")
    assert (unprovisioned.code, len(unprovisioned.error.splitlines())) == (1, 1)
    assert "shardline provision" in unprovisioned.error

    made = run(home, "provision", "--json")
    account, *others = made.lines
    assert made.code == 1
    assert account["differences"] == ["its consistency is Session instead of Strong"]
    assert others == [{"name": name, "made": True, "differences": []} for name in PROVISIONED[1:]]
    cosmos.set_consistency("Strong")
    again = run(home, "provision", "--json")
    assert again.code == 0, again.error
    assert again.lines == [{"name": name, "made": False, "differences": []} for name in PROVISIONED]

    file = tmp_path / "connection.json"
    file.write_text(json.dumps(CONNECTION))
    added = run(home, "connections", "--add", file, "--tenant", "acme")
    assert added.code == 0, added.error
    swept = run(home, "sweep", "--connection", "main", "--json")
    assert swept.code == 0, swept.error
    status = run(home, "status", "--json").json
    # The poll that a new connection is asked for, and the sweep.
    assert status["queues"]["source-work"]["active"] == 2
    assert [connection["state"] for connection in status["connections"]] == ["active"]

    token = run(home, "token", "--user", "ann@acme.example", "--tenant", "acme")
    assert (token.code, token.out.count(".")) == (0, 2)
    found = run(home, "search", "renewal", "--tenant", "acme", "--json")
    assert found.code == 0, found.error
    assert found.json["hits"] == []
    assert run(home, "parked", "--json").lines == []
    assert run(home, "reconcile").code == 0


@pytest.mark.parametrize(
    ("changed", "command", "told"),
    [
        ({"CosmosConnection": "AccountEndpoint=http://127.0.0.1:9/;AccountKey=a2V5;"}, "provision", "can't be reached"),
        ({"CosmosConnection": "AccountEndpoint=http://127.0.0.1:9/;AccountKey=a2V5;"}, "status", "Cosmos DB"),
        ({"SHARDLINE_SECRETS": "key-vault"}, "status", "SHARDLINE_KEY_VAULT_URL is missing"),
        ({"CosmosConnection": ""}, "provision", "CosmosConnection is missing"),
    ],
)
def test_what_is_wrong_is_one_line(home: dict[str, str], changed: dict[str, str], command: str, told: str) -> None:
    answer = run(home, command, **changed)
    assert answer.code == 1
    assert told in answer.error
    assert len(answer.error.splitlines()) == 1


@pytest.mark.parametrize("command", ["up", "demo"])
def test_only_a_local_home_is_run_by_a_command(home: dict[str, str], command: str) -> None:
    answer = run(home, command)
    assert answer.code == 2
    assert "SHARDLINE_HOME is azure" in answer.error


def test_only_a_home_on_azure_is_provisioned(tmp_path: Path) -> None:
    local = {"SHARDLINE_HOME": "local", "SHARDLINE_DATA_DIR": str(tmp_path)}
    answer = shardline("provision", environment=local)
    assert answer.code == 2
    assert "SHARDLINE_HOME is local" in answer.error
