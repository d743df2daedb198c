"""The files around the app agree with the code and with each other; and a file that drifts is noticed."""

import json
import re
import shutil
from pathlib import Path

import pytest
from agreement import FILES, disagreements

ROOT = Path(__file__).parents[2]


def test_the_files_agree() -> None:
    assert disagreements(ROOT) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files below a folder where they may drift."""
    for name in FILES:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    return tmp_path


def test_a_copy_agrees_as_well(copy: Path) -> None:
    assert disagreements(copy) == []


DRIFTS = [
    # queues
    ("infra/queues.json", '"maxDeliveryCount": 100', '"maxDeliveryCount": 10', "queue source-work: maxDeliveryCount"),
    ("infra/queues.json", '"PT5M"', '"PT1M"', "queue ingestion-events: lockDuration"),
    ("infra/queues.json", '"PT10M"', '"PT1H"', "queue ingestion-events: duplicateDetectionHistoryTimeWindow"),
    ("infra/queues.json", '"requiresSession": false', '"requiresSession": true', "requiresSession is True on Azure"),
    ("infra/queues.json", '"shard-emission"', '"shard-emissions"', "functions follow the queues"),
    ("infra/queues.json", '"P14D"', '"P13D"', "infra/queues.json is not what the code says"),
    (
        "infra/queues.json",
        '"deadLetteringOnMessageExpiration": true',
        '"deadLetteringOnMessageExpiration": false',
        "deadLetteringOnMessageExpiration is False on Azure",
    ),
    (
        "local/emulators/service-bus/Config.json",
        '"RequiresDuplicateDetection": true',
        '"RequiresDuplicateDetection": false',
        "queue ingestion-events: requiresDuplicateDetection is True on Azure, and False in the emulator",
    ),
    ("local/emulators/service-bus/Config.json", '"LockDuration": "PT5M"', '"LockDuration": "PT2M"', "'PT2M' in the"),
    ("local/emulators/service-bus/Config.json", '"embedding-jobs"', '"embeddings"', "Config.json has ["),
    # containers
    ("infra/containers.json", '"/shardId"', '"/id"', "partitionKey is"),
    ("infra/containers.json", '"defaultTtl": -1', '"defaultTtl": 60', "container shards: defaultTtl"),
    ("infra/containers.json", '"cosine"', '"euclidean"', "vectorEmbeddingPolicy"),
    ("infra/containers.json", '"path": "/text"', '"path": "/body"', "fullTextPolicy"),
    ("infra/containers.json", '"{dimensions}"', "256", "vectorEmbeddingPolicy"),
    ("infra/containers.json", '"leases"', '"lease"', "keeps its leases in leases, which is not deployed by /id"),
    ("infra/containers.json", '"id": "shards"', '"id": "shard"', "follows the container shards, which is not deployed"),
    ("infra/containers.json", "chunks-{model}", "chunk-{model}", "deployed are ['chunk-"),
    # settings
    ("infra/function-app.bicep", "CosmosConnection__accountEndpoint", "CosmosDb__accountEndpoint", "CosmosConnection"),
    (
        "infra/function-app.bicep",
        "  CosmosConnection__",
        "  Cosmos__",
        "connects by CosmosConnection, which is not in infra",
    ),
    ("infra/function-app.bicep", "ServiceBusConnection__clientId", "ServiceBusConnection__id", "which nothing reads"),
    ("infra/function-app.bicep", "  SHARDLINE_KEY_VAULT_URL: keyVaultUrl\n", "", "SHARDLINE_KEY_VAULT_URL is missing"),
    (
        "infra/main.bicep",
        "      SHARDLINE_POLL_SCHEDULE: pollSchedule\n",
        "",
        "%SHARDLINE_POLL_SCHEDULE%, which is not in infra",
    ),
    ("infra/main.bicep", "SHARDLINE_HOME: 'azure'", "SHARDLINE_HOME: 'cloud'", "SHARDLINE_HOME is malformed"),
    (
        "infra/main.bicep",
        "param blobContainer string = 'shardline'",
        "param blobContainer string = 'blobs'",
        "SHARDLINE_BLOB_CONTAINER",
    ),
    (
        "infra/main.bicep",
        "SHARDLINE_COSMOS_DATABASE: cosmosDatabase",
        "SHARDLINE_COSMOS_DATABASE: 'other'",
        "the database is shardline",
    ),
    (
        "local.settings.example.json",
        '"ServiceBusConnection"',
        '"BusConnection"',
        "is not in local.settings.example.json",
    ),
    (
        "local.settings.example.json",
        '"SHARDLINE_RECONCILE_SCHEDULE"',
        '"SHARDLINE_RECONCILE"',
        "%SHARDLINE_RECONCILE_SCHEDULE%",
    ),
    (
        "local.settings.example.json",
        "only-for-the-emulators-of-one-machine",
        "short",
        "SHARDLINE_TOKEN_KEY is malformed",
    ),
    (
        "docs/configuration.md",
        "| `CosmosConnection",
        "| `CosmosDb",
        "connects by CosmosConnection, which is not in docs",
    ),
    (
        "docs/configuration.md",
        "`SHARDLINE_PAYLOAD_DAYS`",
        "`SHARDLINE_PAYLOADS`",
        "which neither configuration.md nor",
    ),
    # the host
    (
        "host.json",
        '"functionTimeout": "00:09:30"',
        '"functionTimeout": "00:10:30"',
        "may run longer than its message's lock",
    ),
    ("host.json", '"functionTimeout": "00:09:30"', '"functionTimeout": "00:04:30"', "may not even use up its lock"),
    ("host.json", '"autoCompleteMessages": true', '"autoCompleteMessages": false', "must complete by a return"),
    ("host.json", '"prefetchCount": 0', '"prefetchCount": 100', "prefetched messages"),
    ("host.json", '"routePrefix": "api"', '"routePrefix": "v1"', "the route prefix v1"),
    ("host.json", '"[4.*, 5.0.0)"', '"[3.*, 4.0.0)"', "bundle 4"),
    # the emulators
    ("docker-compose.yml", '"127.0.0.1:8081:8081"', '"0.0.0.0:8081:8081"', "open to other machines"),
    ("docker-compose.yml", '      - "127.0.0.1:5672:5672"\n', "", "nothing answers at the ports [5672]"),
    ("docker-compose.yml", "./local/emulators/service-bus/Config.json", "./Config.json", "docker-compose.yml mounts"),
    # deploying
    ("azure.yaml", "  app:", "  api:", "azure.yaml deploys ['api']"),
    ("azure.yaml", "host: function", "host: containerapp", "is no function app"),
    ("infra/function-app.bicep", "version: '3.13'", "version: '3.12'", "does not test on Python 3.12"),
    (".github/workflows/deploy.yml", "jq --raw-output .SHARDLINE_API", "jq --raw-output .API", "the output API"),
    ("infra/main.parameters.json", "=4000}", "=8000}", "cosmosMaxThroughput defaults to '8000'"),
    ("infra/main.parameters.json", '"alertEmail"', '"alertMail"', "main.parameters.json has ["),
    (
        "docs/deploy.md",
        "| `logRetentionDays` | `30` |",
        "| `logRetentionDays` | `60` |",
        "the default of logRetentionDays",
    ),
    ("infra/main.bicep", "@description('The Cosmos DB database.')\n", "", "cosmosDatabase has no description"),
    (
        "infra/main.bicep",
        "param embeddingDimensions int = 256",
        "param embeddingDimensions int = 384",
        "embeddingDimensions",
    ),
]


@pytest.mark.parametrize(("name", "before", "after", "noticed"), DRIFTS, ids=[f"{d[0]} {d[3]}" for d in DRIFTS])
def test_a_file_that_drifts_is_noticed(name: str, before: str, after: str, noticed: str, copy: Path) -> None:
    text = (copy / name).read_text()
    assert before in text, "the drift must change something"
    (copy / name).write_text(text.replace(before, after))
    assert noticed in "\n".join(disagreements(copy))


def test_the_emulator_is_asked_for_nothing_beyond_its_limits() -> None:
    """Checked by the emulator's own rules, which refuse the whole file at start."""
    (namespace,) = json.loads((ROOT / "local/emulators/service-bus/Config.json").read_text())["UserConfig"][
        "Namespaces"
    ]
    assert namespace["Name"] == "sbemulatorns"
    assert len(namespace["Queues"]) + len(namespace["Topics"]) <= 50
    for queue in namespace["Queues"]:
        properties = queue["Properties"]
        assert re.fullmatch(r"[A-Za-z0-9][\w./-]{0,259}", queue["Name"])
        assert 1 <= properties["MaxDeliveryCount"] <= 10
        assert _seconds(properties["LockDuration"]) in range(5, 301)
        assert _seconds(properties["DuplicateDetectionHistoryTimeWindow"]) in range(5, 301)
        assert _seconds(properties["DefaultMessageTimeToLive"]) in range(300, 3601)


def _seconds(duration: str) -> int:
    parts = re.fullmatch(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?", duration)
    assert parts is not None, duration
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return (hours * 60 + minutes) * 60 + seconds
