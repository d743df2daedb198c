"""What a container may be: the checks of the service on its definition.

Limits as documented: 3 levels of a partition key; flat vector indexes up to 505 dimensions, quantizedFlat and diskANN
up to 4,096; composite indexes of 2 to 8 paths.
"""

from dataclasses import dataclass
from typing import Any

from cosmos_peer.answers import RefusedError, bad_request, undecided
from cosmos_peer.indexing import Direction, IndexingPolicy, Path, index_path, property_path
from cosmos_peer.partition_keys import KeyDefinition

Document = dict[str, Any]

MAX_TTL = 2**31 - 1
VECTOR_DIMENSIONS = {"flat": 505, "quantizedFlat": 4096, "diskANN": 4096}
"""The most dimensions by kind of vector index."""
VECTOR_DATA_TYPES = ("float32", "float16", "int8", "uint8")
DISTANCES = ("cosine", "dotproduct", "euclidean")
LANGUAGES = ("en-US", "de-DE", "es-ES", "fr-FR", "it-IT", "pt-BR", "pt-PT")
DEFAULT_INDEXING = {
    "indexingMode": "consistent",
    "automatic": True,
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": '/"_etag"/?'}],
}
_KNOWN = {
    "id", "partitionKey", "indexingPolicy", "defaultTtl", "uniqueKeyPolicy", "conflictResolutionPolicy",
    "vectorEmbeddingPolicy", "fullTextPolicy", "geospatialConfig", "computedProperties",
    "_rid", "_ts", "_self", "_etag", "_docs", "_sprocs", "_triggers", "_udfs", "_conflicts",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VectorPath:
    """Vectors at *path*, as the embedding policy says."""

    path: Path
    dimensions: int
    distance: str
    data_type: str


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """A checked definition; *document* is what reading the container answers, without system properties."""

    document: Document
    key: KeyDefinition
    indexing: IndexingPolicy
    vectors: dict[Path, VectorPath]
    texts: dict[Path, str]
    default_ttl: int | None


def resource_id(document: Document, longest: int) -> str:
    """The id of a resource.

    Raises:
        RefusedError: 400, none, too long, or with a character that ids may not have.
    """
    identity = document.get("id")
    if not isinstance(identity, str) or not identity:
        raise bad_request("The input content is invalid because the required property - 'id' - is missing or empty.")
    if len(identity.encode()) > longest:
        raise bad_request(f"The id is longer than {longest} bytes.")
    if set(identity) & set("/\\?#") or identity.endswith(" "):
        raise bad_request(
            f"The id {identity!r} is invalid: it contains one of '/', '\\', '?', '#', or ends with a space."
        )
    return identity


def container_definition(document: Document) -> ContainerDefinition:
    """Check a container's definition.

    Raises:
        RefusedError: 400, what the service does not accept, or the peer does not know.
    """
    unknown = document.keys() - _KNOWN
    if unknown:
        raise undecided(f"container properties {sorted(unknown)}")
    if document.get("computedProperties"):
        raise undecided("computedProperties")
    if (document.get("uniqueKeyPolicy") or {}).get("uniqueKeys"):
        raise undecided("uniqueKeyPolicy")
    resource_id(document, 255)
    vectors = _vectors(document.get("vectorEmbeddingPolicy"))
    texts = _texts(document.get("fullTextPolicy"))
    policy = document.get("indexingPolicy") or DEFAULT_INDEXING
    indexing = _indexing(policy, vectors, texts)
    kept = {name: value for name, value in document.items() if not name.startswith("_") and value is not None}
    kept["indexingPolicy"] = _with_defaults(policy)
    return ContainerDefinition(
        document=kept,
        key=_key(document.get("partitionKey")),
        indexing=indexing,
        vectors=vectors,
        texts=texts,
        default_ttl=ttl(document.get("defaultTtl"), "defaultTtl"),
    )


def replaced_definition(old: ContainerDefinition, document: Document) -> ContainerDefinition:
    """The definition after a replace.

    Raises:
        RefusedError: 400, it changes what can't change: the partition key, the vector policy of a path.
    """
    new = container_definition(document)
    if new.document["id"] != old.document["id"]:
        raise bad_request("The id of a container can't be changed.")
    if new.key != old.key:
        raise bad_request("Document collection partition key cannot be changed.")
    if old.vectors.items() - new.vectors.items():
        raise bad_request("The Vector Embedding Policy of the container can't be modified after it was created.")
    return new


def ttl(value: Any, what: str) -> int | None:
    """A time to live in seconds, -1 for never.

    Raises:
        RefusedError: 400, neither -1 nor a positive 32-bit integer.
    """
    if value is None:
        return None
    if type(value) is not int or not (value == -1 or 0 < value <= MAX_TTL):
        raise bad_request(f"The input {what} '{value}' is invalid. Ensure to provide a nonzero positive integer or -1.")
    return value


def _key(definition: Any) -> KeyDefinition:
    if not isinstance(definition, dict) or not definition.get("paths"):
        raise bad_request("Partition key paths must be specified.")
    kind = definition.get("kind", "Hash")
    paths = tuple(property_path(path, "partition key") for path in definition["paths"])
    if definition.get("version", 1) != 2:
        raise undecided("partition keys of version 1")
    if kind == "Hash" and len(paths) != 1:
        raise bad_request("Too many partition key paths specified for kind Hash: exactly one is allowed.")
    if kind == "MultiHash" and not 2 <= len(paths) <= 3:
        raise bad_request("A MultiHash partition key has two or three paths.")
    if kind not in ("Hash", "MultiHash") or len(set(paths)) != len(paths):
        raise bad_request(f"The partition key definition {definition} is invalid.")
    if definition.keys() - {"paths", "kind", "version"}:
        raise undecided(f"partition key properties {sorted(definition)}")
    return KeyDefinition(paths, kind == "MultiHash")


def _vectors(policy: Any) -> dict[Path, VectorPath]:
    found: dict[Path, VectorPath] = {}
    for entry in (policy or {}).get("vectorEmbeddings", []):
        path = property_path(entry.get("path"), "vector embedding")
        dimensions, distance, data_type = (entry.get(name) for name in ("dimensions", "distanceFunction", "dataType"))
        if type(dimensions) is not int or not 1 <= dimensions <= 4096:
            raise _bad_vectors(f"the dimensions {dimensions} of {entry['path']} are not between 1 and 4096")
        if distance not in DISTANCES:
            raise _bad_vectors(f"the distance function {distance} of {entry['path']} is none of {DISTANCES}")
        if data_type not in VECTOR_DATA_TYPES:
            raise _bad_vectors(f"the data type {data_type} of {entry['path']} is none of {VECTOR_DATA_TYPES}")
        if entry.keys() - {"path", "dimensions", "distanceFunction", "dataType"}:
            raise undecided(f"vector embedding properties {sorted(entry)}")
        if path in found:
            raise _bad_vectors(f"{entry['path']} is there twice")
        found[path] = VectorPath(path, dimensions, distance, data_type)
    return found


def _bad_vectors(why: str) -> RefusedError:
    return bad_request(f"The Vector Embedding Policy is invalid: {why}.")


def _texts(policy: Any) -> dict[Path, str]:
    if not policy:
        return {}
    default = policy.get("defaultLanguage")
    if default is not None and default not in LANGUAGES:
        raise bad_request(f"The Full Text Policy's default language '{default}' is not supported.")
    if policy.keys() - {"defaultLanguage", "fullTextPaths"}:
        raise undecided(f"full text policy properties {sorted(policy)}")
    found: dict[Path, str] = {}
    for entry in policy.get("fullTextPaths", []):
        path = property_path(entry.get("path"), "full text")
        language = entry.get("language", default)
        if language not in LANGUAGES:
            raise bad_request(f"The Full Text Policy's language '{language}' of {entry['path']} is not supported.")
        if path in found:
            raise bad_request(f"The Full Text Policy names {entry['path']} twice.")
        found[path] = language
    return found


def _indexing(policy: Any, vectors: dict[Path, VectorPath], texts: dict[Path, str]) -> IndexingPolicy:
    mode = str(policy.get("indexingMode", "consistent")).lower()
    known = {
        "indexingMode", "automatic", "includedPaths", "excludedPaths", "compositeIndexes", "vectorIndexes",
        "fullTextIndexes",
    }  # fmt: skip
    if policy.keys() - known:
        raise undecided(f"indexing policy properties {sorted(policy.keys() - known)}")
    if mode not in ("consistent", "none"):
        raise bad_request(f"The indexing mode '{mode}' is not supported.")
    included = tuple(index_path(entry["path"]) for entry in policy.get("includedPaths", []))
    excluded = tuple(index_path(entry["path"]) for entry in policy.get("excludedPaths", []))
    both = set(included) & set(excluded)
    if both:
        raise bad_request(f"The paths {both} are both included in and excluded from the index.")
    if mode == "consistent" and not any(rule.deep and not rule.names for rule in (*included, *excluded)):
        raise bad_request('The special mandatory indexing path "/*" is not provided in any of the path type sets.')
    return IndexingPolicy(
        consistent=mode == "consistent",
        included=included,
        excluded=excluded,
        composite=tuple(_composite(entry) for entry in policy.get("compositeIndexes", [])),
        vectors=_vector_indexes(policy.get("vectorIndexes", []), vectors),
        texts=_text_indexes(policy.get("fullTextIndexes", []), texts),
    )


def _composite(entry: list[Document]) -> tuple[tuple[Path, Direction], ...]:
    if not 2 <= len(entry) <= 8:
        raise bad_request(f"A composite index has 2 to 8 paths, not {len(entry)}.")
    paths: list[tuple[Path, Direction]] = []
    for part in entry:
        direction = part.get("order", "ascending")
        if direction not in ("ascending", "descending"):
            raise bad_request(f"The order '{direction}' of a composite index is neither ascending nor descending.")
        paths.append((property_path(part.get("path"), "composite index"), direction))
    return tuple(paths)


def _vector_indexes(entries: list[Document], vectors: dict[Path, VectorPath]) -> dict[Path, str]:
    found: dict[Path, str] = {}
    for entry in entries:
        path, kind = property_path(entry.get("path"), "vector index"), entry.get("type")
        if kind not in VECTOR_DIMENSIONS:
            raise bad_request(f"The Vector Index type '{kind}' is none of {sorted(VECTOR_DIMENSIONS)}.")
        if path not in vectors:
            raise bad_request(f"The Vector Index path {entry['path']} does not match any Vector Embedding Policy.")
        if vectors[path].dimensions > VECTOR_DIMENSIONS[kind]:
            raise bad_request(
                f"The dimensions {vectors[path].dimensions} of {entry['path']} are more than the"
                f" {VECTOR_DIMENSIONS[kind]} that a {kind} index takes."
            )
        unknown = entry.keys() - {
            "path",
            "type",
            "quantizationByteSize",
            "indexingSearchListSize",
            "vectorIndexShardKey",
        }
        if unknown:
            raise undecided(f"vector index properties {sorted(unknown)}")
        search_list = entry.get("indexingSearchListSize")
        if search_list is not None and (kind != "diskANN" or not 25 <= search_list <= 500):
            raise bad_request("indexingSearchListSize is between 25 and 500, and for diskANN only.")
        found[path] = kind
    return found


def _text_indexes(entries: list[Document], texts: dict[Path, str]) -> frozenset[Path]:
    paths = [property_path(entry.get("path"), "full text index") for entry in entries]
    for path in paths:
        if path not in texts:
            raise bad_request(f"The Full Text Index path /{'/'.join(path)} is not in the Full Text Policy.")
    return frozenset(paths)


def _with_defaults(policy: Document) -> Document:
    shown = {"indexingMode": "consistent", "automatic": True, "includedPaths": [], "excludedPaths": [], **policy}
    excluded = [entry["path"] for entry in shown["excludedPaths"]]
    if '/"_etag"/?' not in excluded and "/_etag/?" not in excluded:
        shown["excludedPaths"] = [*shown["excludedPaths"], {"path": '/"_etag"/?'}]
    return shown
