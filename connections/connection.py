"""A connection to a source, as it stands in its ``integration.connection`` shard."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from connections.validation_sentences import validation_sentence
from messaging import codec
from messaging.contracts import is_tenant_id
from shards.identity import SHARDLINE_SYSTEM, shard_id
from shards.model import Acl, Shard, content_fingerprint

CONNECTION_TYPE = "integration.connection"

Flow = Literal["jwt-bearer", "client-credentials", "username-password"]
ConnectionStatus = Literal["active", "paused", "failed", "disconnected"]

_REFERENCE = r"^secret:[^/\s]+/[^/\s]+$"
_API_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,79}$"
_HOST_PREFIX = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
_CURRENCY = r"^[A-Z]{3}$"
_API_VERSION = r"^\d{2}\.0$"
_CONNECTION_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

_FORMS = {
    _REFERENCE: "a reference like secret:<tenant>/<name>",
    _API_NAME: "an API name of Salesforce, such as Account or Region__c",
    _HOST_PREFIX: "what stands before .salesforce.com: login, test or a My Domain such as acme.my",
    _CURRENCY: "a currency code of three capitals, such as EUR",
    _API_VERSION: "an API version such as 59.0",
    _CONNECTION_ID: "at most 100 letters, digits, dots, dashes and underscores, a letter or digit first",
}
_CHOICES = {"flow": get_args(Flow), "status": get_args(ConnectionStatus)}
"""What is told of a wrong field: the forms of texts in words, by pattern, and the values to choose from, by field."""

Reference = Annotated[str, Meta(pattern=_REFERENCE)]
"""``secret:<tenant>/<name>``, see :mod:`connections.secrets`."""
ApiName = Annotated[str, Meta(pattern=_API_NAME)]
"""A Salesforce API name; the only texts of a connection that get into SOQL."""
HostPrefix = Annotated[str, Meta(pattern=_HOST_PREFIX)]
"""What stands before ``.salesforce.com``: ``login``, ``test`` or a My Domain such as ``acme.my``."""
Share = Annotated[float, Meta(ge=0, le=1)]

DEFAULT_OBJECTS = ("Account", "Contact", "Opportunity", "User")


class InvalidConnectionError(ValueError):
    """What is given or stored is no connection; the message names the field."""


class SalesforceAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How to log in: secrets by reference, never by value.

    ``jwt-bearer`` takes *username*, *consumer_key*, *private_key* (and *instance_domain* for a My Domain token host);
    ``client-credentials`` takes *consumer_key*, *consumer_secret* and a My Domain as *domain*; ``username-password``
    takes *username*, *password* and *security_token*.
    """

    flow: Flow
    domain: HostPrefix = "login"
    instance_domain: HostPrefix | None = None
    username: str | None = None
    consumer_key: str | None = None
    consumer_secret: Reference | None = None
    private_key: Reference | None = None
    password: Reference | None = None
    security_token: Reference | None = None

    def __post_init__(self) -> None:
        needed = {
            "jwt-bearer": {"username": self.username, "consumerKey": self.consumer_key, "privateKey": self.private_key},
            "client-credentials": {"consumerKey": self.consumer_key, "consumerSecret": self.consumer_secret},
            "username-password": {
                "username": self.username,
                "password": self.password,
                "securityToken": self.security_token,
            },
        }[self.flow]
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ValueError(f"the {self.flow} flow needs {', '.join(missing)}")
        if self.flow == "client-credentials" and self.domain in ("login", "test"):
            raise ValueError("the client-credentials flow needs the org's My Domain, such as acme.my, as domain")


class PolledObject(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An object to poll. Without *fields*, all that the login may see."""

    name: ApiName
    fields: tuple[ApiName, ...] = ()


class Schedule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How often the source is asked: *poll_seconds* for changes, *sweep_hours* for records that are gone."""

    poll_seconds: Annotated[int, Meta(ge=1)] = 60
    sweep_hours: Annotated[float, Meta(gt=0)] = 24


class Connection(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One tenant's way to one instance of a source.

    Attributes:
        instance: the instance's own id (Salesforce: the 18-character org id), empty until the first login.
        base_url: where people open the instance's records, empty until the first login.
        default_currency: ISO 4217 code of an org with a single currency, whose records do not say which.
        settle_lag_seconds: the stored cursor stays this far behind the moment of reading.
        look_back_seconds: how long a transaction may stay open after it has stamped a row; each poll reads that far
            back behind its cursor.
        page_size: rows a query; Salesforce gives at most 2,000 a response.
        api_budget_share: share of the org's daily API calls that this connection may use.
        api_reserve_share: share of the org's daily API calls that is left to others: polling stops there.
        sweep_share: a sweep that misses more than this share of an object's records does nothing but say so.
        error_message: what is wrong and what to do, while *status* is ``failed``.
    """

    connection_id: Annotated[str, Meta(pattern=_CONNECTION_ID)]
    tenant_id: Annotated[str, Meta(min_length=1)]
    system: str
    name: str
    auth: SalesforceAuth
    instance: str = ""
    base_url: str = ""
    default_currency: Annotated[str, Meta(pattern=_CURRENCY)] | None = None
    objects: tuple[PolledObject, ...] = tuple(PolledObject(name=name) for name in DEFAULT_OBJECTS)
    schedule: Schedule = Schedule()
    settle_lag_seconds: Annotated[int, Meta(ge=0)] = 60
    look_back_seconds: Annotated[int, Meta(ge=0)] = 600
    page_size: Annotated[int, Meta(ge=1, le=2000)] = 2000
    api_budget_share: Share = 0.5
    api_reserve_share: Share = 0.1
    sweep_share: Share = 0.1
    api_version: Annotated[str, Meta(pattern=_API_VERSION)] = "59.0"
    status: ConnectionStatus = "active"
    error_message: str | None = None
    created_at: str = ""

    @property
    def shard_id(self) -> str:
        """The id of the connection's shard."""
        return connection_shard_id(self.tenant_id, self.connection_id)


def connection_shard_id(tenant_id: str, connection_id: str) -> str:
    """The id of the shard of a connection."""
    return shard_id(tenant_id, SHARDLINE_SYSTEM, "", CONNECTION_TYPE, connection_id)


def connection_from(data: Mapping[str, Any], tenant_id: str) -> Connection:
    """The connection of *tenant_id* that *data* describes: the fields of :class:`Connection` in camelCase.

    Raises:
        InvalidConnectionError: *data* is none; the message names the field, never its value.
    """
    if tenant_id and not is_tenant_id(tenant_id):
        raise InvalidConnectionError("tenantId: no tenant can have this id, since no message can name it")
    try:
        return msgspec.convert({**data, "tenantId": tenant_id}, Connection)
    except msgspec.ValidationError as error:
        raise InvalidConnectionError(validation_sentence(error, forms=_FORMS, choices=_CHOICES)) from None


def connection_data(connection: Connection) -> dict[str, Any]:
    """What :func:`connection_from` reads."""
    data: dict[str, Any] = codec.decode(codec.encode(connection))
    del data["tenantId"]
    return data


_SHOWN = ("name", "system", "status", "instance", "baseUrl", "defaultCurrency", "errorMessage")
"""Fields with a place of their own in the structured data; the others are in ``settings``."""
_REFERENCES = ("consumerSecret", "privateKey", "password", "securityToken")


def structured_data(connection: Connection) -> dict[str, Any]:
    """The structuredData of the connection's shard; what the shard type has no field for is in ``settings``."""
    data = connection_data(connection)
    shown = {key: value for key in _SHOWN if (value := data.pop(key))}
    auth = data["auth"]
    schedule = data.pop("schedule")
    objects = data.pop("objects")
    return {
        **shown,
        "objectTypes": [item["name"] for item in objects],
        "pollIntervalSeconds": schedule["pollSeconds"],
        "secretRefs": {key: auth.pop(key) for key in _REFERENCES if key in auth},
        "settings": {
            **data,
            "fields": {item["name"]: item["fields"] for item in objects if item.get("fields")},
            "sweepHours": schedule["sweepHours"],
        },
    }


def stored_connection(shard: Shard) -> Connection:
    """The connection in its shard.

    Raises:
        InvalidConnectionError: the shard holds none of this version.
    """
    data = shard.structured_data
    try:
        settings = dict(data["settings"])
        fields = settings.pop("fields")
        flat = {
            **{key: data[key] for key in _SHOWN if key in data},
            "objects": [{"name": name, "fields": fields.get(name, [])} for name in data["objectTypes"]],
            "schedule": {"pollSeconds": data["pollIntervalSeconds"], "sweepHours": settings.pop("sweepHours")},
            **settings,
            "auth": {**settings["auth"], **data["secretRefs"]},
        }
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
