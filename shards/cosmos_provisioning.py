"""Makes the database and the containers that are missing, and tells where those that are there are other than defined.

The deployment makes the same from the same definitions (:mod:`shards.cosmos_containers`); this is for an account that
was made by hand, for the emulator, and for the container of another model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from azure.cosmos import PartitionKey, ThroughputProperties
from azure.cosmos.aio import CosmosClient, DatabaseProxy
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceExistsError, CosmosResourceNotFoundError

from shards.cosmos_containers import ContainerDefinition

_ETAG_PATH = '/"_etag"/?'
"""The service leaves it out of every index by itself."""


class ProvisioningError(Exception):
    """Something could not be made; the message says what, why and what to do."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What was made or found of one container; *differences* tell, a sentence each, how it is other than defined."""

    name: str
    made: bool
    differences: list[str] = field(default_factory=list)


async def provision(
    client: CosmosClient,
    database: str,
    definitions: Sequence[ContainerDefinition],
    *,
    throughput: int | ThroughputProperties | None = None,
) -> list[Provisioned]:
    """Make what is missing, in the order of *definitions*; what is there is left as it is. Safe to run at any time.

    Args:
        client: an open client; that of an account key, or of an identity that may make containers.
        database: its name.
        definitions: the containers.
        throughput: request units a second of each container that is made; None on a serverless account.

    Raises:
        ProvisioningError: the service refused to make the database or a container.
    """
    home = await _database(client, database)
    return [await _container(home, definition, throughput) for definition in definitions]


async def _database(client: CosmosClient, name: str) -> DatabaseProxy:
    home = client.get_database_client(name)
    try:
        await home.read()
    except CosmosResourceNotFoundError:
        try:
            return await client.create_database(name)
        except CosmosResourceExistsError:
            return home
        except CosmosHttpResponseError as error:
            raise _refused(f"the database {name}", error) from error
    except CosmosHttpResponseError as error:
        raise _refused(f"the database {name}", error, "read") from error
    return home


async def _container(
    home: DatabaseProxy, definition: ContainerDefinition, throughput: int | ThroughputProperties | None
) -> Provisioned:
    what = f"the container {definition.name}"
    try:
        found = await home.get_container_client(definition.name).read()
    except CosmosResourceNotFoundError:
        try:
            await home.create_container(
                definition.name, _partition_key(definition), offer_throughput=throughput, **_policies(definition)
            )
        except CosmosResourceExistsError:
            found = await home.get_container_client(definition.name).read()
        except CosmosHttpResponseError as error:
            raise _refused(what, error) from error
        else:
            return Provisioned(definition.name, made=True)
    except CosmosHttpResponseError as error:
        raise _refused(what, error, "read") from error
    return Provisioned(definition.name, made=False, differences=differences(definition, found))


def _partition_key(definition: ContainerDefinition) -> PartitionKey:
    paths = definition.partition_key
    if len(paths) == 1:
        return PartitionKey(path=paths[0], kind="Hash")
    return PartitionKey(path=list(paths), kind="MultiHash")


def _policies(definition: ContainerDefinition) -> dict[str, Any]:
    policies = {
        "indexing_policy": definition.indexing_policy,
        "default_ttl": definition.time_to_live,
        "vector_embedding_policy": definition.vector_embedding_policy,
        "full_text_policy": definition.full_text_policy,
    }
    return {name: policy for name, policy in policies.items() if policy is not None}


def differences(definition: ContainerDefinition, found: Mapping[str, Any]) -> list[str]:
    """How the container that was *found* is other than its definition, a sentence each."""
    wanted = definition.resource
    told = []
    for name, key in (
        ("partition key", "partitionKey"),
        ("time to live", "defaultTtl"),
        ("vector policy", "vectorEmbeddingPolicy"),
        ("full text policy", "fullTextPolicy"),
    ):
        there = _comparable(key, found.get(key))
        if there != _comparable(key, wanted.get(key)):
            told.append(f"the {name} is {found.get(key)!r} instead of {wanted.get(key)!r}")
    if definition.indexing_policy is not None:
        told.extend(_index_differences(definition.indexing_policy, found.get("indexingPolicy") or {}))
    return told


def _comparable(key: str, value: Any) -> Any:
    """What of a property tells two containers apart."""
    if not value:
        return None
    if key == "partitionKey":
        return (tuple(value["paths"]), value.get("kind"))
    if key == "vectorEmbeddingPolicy":
        return _by_path(value.get("vectorEmbeddings"))
    if key == "fullTextPolicy":
        return (value.get("defaultLanguage"), _by_path(value.get("fullTextPaths")))
    return value


def _index_differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    told = []
    for name, key in (("indexed", "includedPaths"), ("left out of the index", "excludedPaths")):
        expected, there = _paths(wanted, key), _paths(found, key)
        if expected - there:
            told.append(f"not {name}: {', '.join(sorted(expected - there))}")
        if there - expected:
            told.append(f"{name} for nothing: {', '.join(sorted(there - expected))}")
    for name, key in (("vector", "vectorIndexes"), ("full text", "fullTextIndexes")):
        if _by_path(wanted.get(key)) != _by_path(found.get(key)):
            told.append(f"the {name} index is {found.get(key)!r} instead of {wanted.get(key)!r}")
    return told


def _paths(policy: Mapping[str, Any], key: str) -> set[str]:
    return {entry["path"] for entry in policy.get(key) or ()} - {_ETAG_PATH}


def _by_path(entries: Sequence[Mapping[str, Any]] | None) -> dict[str, tuple[Any, ...]]:
    """By path, the values that are said of it in words and numbers; what the service adds as objects is its own."""
    told = ("type", "dataType", "dimensions", "distanceFunction", "language")
    return {entry["path"]: tuple(str(entry.get(name)).lower() for name in told) for entry in entries or ()}


def _refused(what: str, error: CosmosHttpResponseError, doing: str = "made") -> ProvisioningError:
    advice = {
        401: "check CosmosConnection",
        403: "an identity may read and write items but not make containers: use the account's key, or the deployment",
        400: "the account needs the capabilities EnableNoSQLVectorSearch and EnableNoSQLFullTextSearch",
    }
    message = " ".join(str(error).split())[:400]
    hint = advice.get(error.status_code or 0)
    return ProvisioningError(f"{what} can't be {doing}: {message}{f' ({hint})' if hint else ''}")
