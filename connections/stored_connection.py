"""Connections as people write them and as they stand in their ``integration.connection`` shards."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

import msgspec

from connections.connection import (
    CONNECTION_ID_PATTERN,
    CONNECTION_TYPE,
    REFERENCE_PATTERN,
    Connection,
    ConnectionStatus,
    InvalidConnectionError,
)
from connections.gdrive_connection import ADDRESS_PATTERN, FILE_ID_PATTERN, DriveConnection
from connections.salesforce_connection import (
    API_NAME_PATTERN,
    API_VERSION_PATTERN,
    HOST_PREFIX_PATTERN,
    Flow,
    SalesforceConnection,
)
from connections.slack_connection import CHANNEL_ID_PATTERN, SlackConnection
from connections.validation_sentences import validation_sentence
from messaging import codec
from messaging.contracts import is_tenant_id
from shards.model import Acl, Shard, content_fingerprint

KINDS: Mapping[str, type[Connection]] = {
    "salesforce": SalesforceConnection,
    "slack": SlackConnection,
    "gdrive": DriveConnection,
}
"""The kind of connection of each source."""

_FORMS = {
    REFERENCE_PATTERN: "a reference like secret:<tenant>/<name>",
    CONNECTION_ID_PATTERN: "at most 100 letters, digits, dots, dashes and underscores, a letter or digit first",
    r"^[A-Z]{3}$": "a currency code of three capitals, such as EUR",
    API_NAME_PATTERN: "an API name of Salesforce, such as Account or Region__c",
    HOST_PREFIX_PATTERN: "what stands before .salesforce.com: login, test or a My Domain such as acme.my",
    API_VERSION_PATTERN: "an API version such as 59.0",
    CHANNEL_ID_PATTERN: "the id of a channel, such as C0123456789",
    FILE_ID_PATTERN: "the id of a folder or shared drive, as its address in the browser ends",
    ADDRESS_PATTERN: "an e-mail address",
}
_CHOICES = {"flow": get_args(Flow), "status": get_args(ConnectionStatus)}
"""What is told of a wrong field: the forms of texts in words, by pattern, and the values to choose from, by field."""


def connection_from(data: Mapping[str, Any], tenant_id: str) -> Connection:
    """The connection of *tenant_id* that *data* describes: the fields of its system's kind in camelCase.

    Raises:
        InvalidConnectionError: *data* is none; the message names the field, never its value.
    """
    if tenant_id and not is_tenant_id(tenant_id):
        raise InvalidConnectionError("tenantId: no tenant can have this id, since no message can name it")
    system = data.get("system")
    kind = KINDS.get(system) if isinstance(system, str) else None
    if kind is None:
        said = "is missing: it" if system is None else "there is no such source: it"
        raise InvalidConnectionError(f"system: {said} is one of {', '.join(KINDS)}")
    try:
        return msgspec.convert({**data, "tenantId": tenant_id}, kind)
    except msgspec.ValidationError as error:
        raise InvalidConnectionError(validation_sentence(error, forms=_FORMS, choices=_CHOICES)) from None


def described_connection(data: Mapping[str, Any], tenant_id: str) -> Connection:
    """As :func:`connection_from`, of what people have written: a field that there is none of is an error, or a misspelt
    selection would read all there is. What is stored may have fields of another version.

    Raises:
        InvalidConnectionError: *data* is none; the message names the field, never its value.
    """
    connection = connection_from(data, tenant_id)
    for place, name, known in _unknown_fields(data, connection):
        [*near] = get_close_matches(name, known, 1)
        meant = f": is {place}{near[0]} meant?" if near else f"; there are {', '.join(known)}"
        raise InvalidConnectionError(f"{place}{name[:60]}: there is no such field{meant}")
    return connection


def _unknown_fields(data: object, value: object, place: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """The fields of *data* that *value*, which was made of it, has none for: where, their names, and which it has."""
    if isinstance(value, msgspec.Struct) and isinstance(data, Mapping):
        fields = {one.encode_name: one.name for one in msgspec.structs.fields(value)}
        for name, inner in data.items():
            if name not in fields:
                yield place, str(name), [one for one in fields if one not in _OURS]
            else:
                yield from _unknown_fields(inner, getattr(value, fields[name]), f"{place}{name}.")
    elif isinstance(value, tuple) and isinstance(data, list):
        for number, (inner, made) in enumerate(zip(data, value, strict=True)):
            yield from _unknown_fields(inner, made, f"{place.removesuffix('.')}[{number}].")


_OURS = frozenset({"tenantId", "status", "errorMessage", "createdAt"})
"""Fields that nobody has to write."""


def connection_data(connection: Connection) -> dict[str, Any]:
    """What :func:`connection_from` reads."""
    data: dict[str, Any] = codec.decode(codec.encode(connection))
    del data["tenantId"]
    return data


def secret_references(connection: Connection) -> dict[str, str]:
    """The references to secrets that *connection* has, by the field that each is in."""
    found: dict[str, str] = {}

    def look(value: object, field: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                look(inner, f"{field}.{name}".removeprefix("."))
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                look(inner, f"{field}[{number}]")
        elif _is_reference(value):
            found[field] = str(value)

    look(connection_data(connection), "")
    return found


_SHOWN = ("name", "system", "status", "instance", "baseUrl", "defaultCurrency", "errorMessage")
"""Fields with a place of their own in the structured data; the others are in ``settings``."""


def structured_data(connection: Connection) -> dict[str, Any]:
    """The structuredData of the connection's shard; what the shard type has no field for is in ``settings``."""
    data = connection_data(connection)
    shown = {key: value for key in _SHOWN if (value := data.pop(key))}
    schedule = data.pop("schedule")
    auth: dict[str, Any] = data.get("auth", {})
    references = {key: auth.pop(key) for key in [*auth] if _is_reference(auth[key])}
    objects = data.pop("objects", None)
    of_objects: dict[str, Any] = {}
    if objects is not None:
        shown["objectTypes"] = [item["name"] for item in objects]
        of_objects["fields"] = {item["name"]: item["fields"] for item in objects if item.get("fields")}
    return {
        **shown,
        "pollIntervalSeconds": schedule["pollSeconds"],
        "secretRefs": references,
        "settings": {**data, **of_objects, "sweepHours": schedule["sweepHours"]},
    }


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith("secret:")


def stored_connection(shard: Shard) -> Connection:
    """The connection in its shard.

    Raises:
        InvalidConnectionError: the shard holds none of this version.
    """
    data = shard.structured_data
    try:
        settings = dict(data["settings"])
        flat = {
            **{key: data[key] for key in _SHOWN if key in data},
            "schedule": {"pollSeconds": data["pollIntervalSeconds"], "sweepHours": settings.pop("sweepHours")},
        }
        if "objectTypes" in data:
            fields = settings.pop("fields")
            flat["objects"] = [{"name": name, "fields": fields.get(name, [])} for name in data["objectTypes"]]
        flat |= {**settings, "auth": {**settings["auth"], **data["secretRefs"]}}
        return connection_from(flat, shard.tenant_id)
    except (KeyError, TypeError, InvalidConnectionError) as error:
        problem = str(error) if isinstance(error, InvalidConnectionError) else f"{error} is missing or of another kind"
        raise InvalidConnectionError(f"the stored connection {shard.id} of {shard.tenant_id}: {problem}") from None


def connection_shard(connection: Connection, now: str, standing: Shard | None) -> Shard:
    """The shard to write, over *standing* when there is one. Nobody reads it through search: its acl is closed."""
    data = structured_data(connection)
    acl = Acl.of()
    return Shard(
        id=connection.shard_id,
        tenant_id=connection.tenant_id,
        shard_type_id=CONNECTION_TYPE,
        revision=standing.revision + 1 if standing else 1,
        structured_data=data,
        acl=acl,
        fingerprint=content_fingerprint(data, None, acl, "active"),
        written_by="user",
        created_at=standing.created_at if standing else now,
        updated_at=now,
    )
