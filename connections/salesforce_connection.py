"""A connection to a Salesforce org."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from connections.connection import Connection, Reference, Share

Flow = Literal["jwt-bearer", "client-credentials", "username-password"]

API_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,79}$"
HOST_PREFIX_PATTERN = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
API_VERSION_PATTERN = r"^\d{2}\.0$"

ApiName = Annotated[str, Meta(pattern=API_NAME_PATTERN)]
"""A Salesforce API name; the only texts of a connection that get into SOQL."""
HostPrefix = Annotated[str, Meta(pattern=HOST_PREFIX_PATTERN)]
"""What stands before ``.salesforce.com``: ``login``, ``test`` or a My Domain such as ``acme.my``."""

DEFAULT_OBJECTS = ("Account", "Contact", "Opportunity", "User")


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


class SalesforceConnection(Connection, frozen=True, kw_only=True, rename="camel"):
    """One tenant's way to one Salesforce org.

    Attributes:
        webhook_secrets: what stands in the connection's webhook address; two live while one is being replaced.
        settle_lag_seconds: the stored cursor stays this far behind the moment of reading.
        look_back_seconds: how long a transaction may stay open after it has stamped a row; each poll reads that far
            back behind its cursor.
        page_size: rows a query; Salesforce gives at most 2,000 a response.
        api_budget_share: share of the org's daily API calls that this connection may use.
        api_reserve_share: share of the org's daily API calls that is left to others: polling stops there.
        sweep_share: a sweep that misses more than this share of an object's records does nothing but say so.
        refresh_hours: how often values that no stamp tells of (formulas, roll-ups) are read anew.
    """

    vendor: ClassVar[str] = "Salesforce"

    auth: SalesforceAuth
    system: Literal["salesforce"] = "salesforce"
    objects: tuple[PolledObject, ...] = tuple(PolledObject(name=name) for name in DEFAULT_OBJECTS)
    webhook_secrets: Annotated[tuple[Reference, ...], Meta(max_length=2)] = ()
    settle_lag_seconds: Annotated[int, Meta(ge=0)] = 60
    look_back_seconds: Annotated[int, Meta(ge=0)] = 600
    page_size: Annotated[int, Meta(ge=1, le=2000)] = 2000
    api_budget_share: Share = 0.5
    api_reserve_share: Share = 0.1
    sweep_share: Share = 0.1
    refresh_hours: Annotated[float, Meta(gt=0)] = 168
    api_version: Annotated[str, Meta(pattern=API_VERSION_PATTERN)] = "59.0"

    @property
    def selection(self) -> tuple[Any, ...]:
        return (self.objects,)

    @property
    def what_is_read(self) -> str:
        return ", ".join(polled.name for polled in self.objects)

    def wants(self, object_type: str) -> bool:
        """Whether records of the object are to be read; users always, since records have owners."""
        return object_type == "User" or any(polled.name == object_type for polled in self.objects)
