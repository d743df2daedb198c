"""The Cosmos DB containers: their names, keys and policies, said once for ``provision``, the deployment and the tests.

Each definition's :meth:`ContainerDefinition.resource` is the container as the service's own JSON has it. What no query
asks for is out of the index, since every indexed path is paid for with every write: a container begins with nothing
indexed and names the paths of :mod:`shards.cosmos_queries`.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

VectorIndex = Literal["diskANN", "quantizedFlat", "flat"]

SHARDS, PROGRESS, PARKED, LEASES = "shards", "progress", "parked", "leases"

VECTOR_PATH, TEXT_PATH = "/vector", "/text"

DIRECTORY = ""
"""The tenant under which the directory of tenants is kept: none is called so."""

MAX_FLAT_DIMENSIONS = 505
MAX_DIMENSIONS = 4096
"""What the service's vector indexes hold."""

TTL_PER_ITEM = -1
"""Items live for ever but for those that carry a ``ttl`` of their own."""

_NAME_PART = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """One container. *indexed* are the paths its queries filter or order by; None leaves the index to the service."""

    name: str
    partition_key: tuple[str, ...]
    indexed: tuple[str, ...] | None
    time_to_live: int | None = None
    vector: "VectorDefinition | None" = None
    language: str | None = None
    """The language of the text under :data:`TEXT_PATH`, for containers that have one."""

    @property
    def indexing_policy(self) -> dict[str, Any] | None:
        """Nothing but the named paths; vectors and full text have indexes of their own."""
        if self.indexed is None:
            return None
        policy: dict[str, Any] = {
            "indexingMode": "consistent",
            "automatic": True,
            "includedPaths": [{"path": path} for path in self.indexed],
            "excludedPaths": [{"path": "/*"}],
        }
        if self.vector is not None:
            policy["vectorIndexes"] = [self.vector.index]
        if self.language is not None:
            policy["fullTextIndexes"] = [{"path": TEXT_PATH}]
        return policy

    @property
    def vector_embedding_policy(self) -> dict[str, Any] | None:
        """None for a container without vectors."""
        return None if self.vector is None else {"vectorEmbeddings": [self.vector.embedding]}

    @property
    def full_text_policy(self) -> dict[str, Any] | None:
        """None for a container without text to search."""
        if self.language is None:
            return None
        return {"defaultLanguage": self.language, "fullTextPaths": [{"path": TEXT_PATH, "language": self.language}]}

    @property
    def without_search(self) -> "ContainerDefinition":
        """The same container, indexed by the service as it sees fit and not searched: all that the emulator takes."""
        return replace(self, indexed=None, vector=None, language=None)

    @property
    def resource(self) -> dict[str, Any]:
        """The container as REST and ARM have it."""
        resource: dict[str, Any] = {
            "id": self.name,
            "partitionKey": {
                "paths": list(self.partition_key),
                "kind": "MultiHash" if len(self.partition_key) > 1 else "Hash",
                "version": 2,
            },
            "defaultTtl": self.time_to_live,
            "indexingPolicy": self.indexing_policy,
            "vectorEmbeddingPolicy": self.vector_embedding_policy,
            "fullTextPolicy": self.full_text_policy,
        }
        return {key: value for key, value in resource.items() if value is not None}


@dataclass(frozen=True, slots=True)
class VectorDefinition:
    """The vectors of a container: as long as *dimensions*, alike by their cosine.

    Raises:
        ValueError: no index of the service holds such vectors.
    """

    dimensions: int
    index_type: VectorIndex = "diskANN"

    def __post_init__(self) -> None:
        most = MAX_FLAT_DIMENSIONS if self.index_type == "flat" else MAX_DIMENSIONS
        if not 1 <= self.dimensions <= most:
            raise ValueError(f"a {self.index_type} index holds 1 to {most} dimensions, not {self.dimensions}")

    @property
    def embedding(self) -> dict[str, Any]:
        """The entry of the vector embedding policy."""
        return {
            "path": VECTOR_PATH,
            "dataType": "float32",
            "dimensions": self.dimensions,
            "distanceFunction": "cosine",
        }

    @property
    def index(self) -> dict[str, Any]:
        """The entry of the indexing policy: one index a tenant, where the type allows, so none slows another's."""
        index: dict[str, Any] = {"path": VECTOR_PATH, "type": self.index_type}
        if self.index_type == "diskANN":
            index["vectorIndexShardKey"] = ["/tenantId"]
        return index


def chunks_container(model: str, dimensions: int) -> str:
    """The container of the chunks that *model* embeds: another model has another, so that both can be filled.

    Raises:
        ValueError: *model* leaves nothing to name a container by.
    """
    name = _NAME_PART.sub("-", model).strip("-.").lower()
    if not name:
        raise ValueError(f"{model!r} is no name of an embedding model")
    return f"chunks-{name}-{dimensions}"


def containers(
    model: str, dimensions: int, *, vector_index: VectorIndex = "diskANN", language: str = "en-US"
) -> tuple[ContainerDefinition, ...]:
    """All containers of a home whose *model* makes vectors of *dimensions*.

    *language* is the one that full text is broken into words by.
    """
    return (
        ContainerDefinition(
            SHARDS,
            ("/tenantId", "/id"),
            indexed=(
                "/tenantId/?",
                "/id/?",
                "/shardTypeId/?",
                "/redirectTo/?",
                "/acl/scope/?",
                "/external_relationships/[]/system/?",
                "/external_relationships/[]/instance/?",
                "/external_relationships/[]/objectType/?",
                "/external_relationships/[]/externalId/?",
                "/external_relationships/[]/connectionId/?",
                "/derived/live/?",
                "/derived/position/?",
                "/derived/links/?",
                "/derived/targets/[]/?",
                "/derived/words/[]/?",
                "/derived/nameLength/?",
            ),
            time_to_live=TTL_PER_ITEM,
        ),
        ContainerDefinition(
            PROGRESS,
            ("/tenantId", "/id"),
            indexed=(
                "/tenantId/?",
                "/id/?",
                "/kind/?",
                "/behind/[]/?",
                "/behindSince/?",
                "/principals/[]/?",
            ),
            time_to_live=TTL_PER_ITEM,
        ),
        ContainerDefinition(
            chunks_container(model, dimensions),
            ("/tenantId", "/shardId"),
            indexed=(
                "/tenantId/?",
                "/shardId/?",
                "/id/?",
                "/shardTypeId/?",
                "/aclScope/?",
                "/ordinal/?",
                "/waiting/?",
            ),
            vector=VectorDefinition(dimensions, vector_index),
            language=language,
        ),
        ContainerDefinition(
            PARKED,
            ("/tenantId", "/id"),
            indexed=("/tenantId/?", "/id/?", "/reason/?", "/queue/?", "/position/?"),
        ),
        ContainerDefinition(LEASES, ("/id",), indexed=None),
    )
