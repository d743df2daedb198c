"""The message contracts, as they stand on the queues: JSON in camelCase."""

from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from messaging import codec, tracing
from messaging.bus import Message
from messaging.message_ids import message_id

SCHEMA_VERSION = 1
"""The newest message schema this code reads; a message that says more is parked."""

LONGEST_TENANT_ID = 256
"""Characters. Cosmos DB takes keys of up to 2,048 bytes, and a character has four at most."""

UNKNOWN_TENANT = "@unknown"
"""What stands in a tenant's place where none can be told. No tenant has this name, or it would see what is there."""


def is_tenant_id(value: object) -> TypeGuard[str]:
    """Whether a tenant may have *value* for its id."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TENANT_ID and value != UNKNOWN_TENANT


def _tenant_id(value: str) -> str:
    if not is_tenant_id(value):
        raise ValueError(f"a tenant's id has up to {LONGEST_TENANT_ID} characters and is not {UNKNOWN_TENANT}")
    return value


EventType = Literal["create", "update", "delete"]
ChangeType = Literal["create", "update", "delete"]

Pipeline = Literal["events", "integration"]
"""Which way a shard came: the chain of the sources' events, or the general integration system."""


class Contract(BaseModel):
    """What all contracts share: camelCase on the wire, snake_case in code, and the way on through the hops.

    *traceparent* is the span that made the message. *pipeline* is left out where it is that of the events.
    """

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)

    tenant_id: Annotated[str, AfterValidator(_tenant_id)] = Field(min_length=1, max_length=LONGEST_TENANT_ID)
    schema_version: int = Field(default=SCHEMA_VERSION, ge=1)
    correlation_id: str | None = None
    traceparent: str | None = None
    pipeline: Pipeline | None = None

    def to_bytes(self) -> bytes:
        """The message body."""
        return codec.encode(self.model_dump(by_alias=True, exclude_none=True))

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """The contract in *body*.

        Raises:
            codec.DecodeError: *body* is no JSON.
            pydantic.ValidationError: *body* is JSON, but not this contract.
        """
        content = codec.decode(body)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            if not isinstance(content, dict) or {problem["loc"] for problem in error.errors()} != {("traceparent",)}:
                raise
            # Whatever a producer takes for a trace context, its message is not to blame.
            return cls.model_validate({name: value for name, value in content.items() if name != "traceparent"})

    def source_key(self) -> str:
        """What the message is about; the same for all messages about it."""
        raise NotImplementedError

    def version_key(self) -> str:
        """Which state of it the message is about."""
        raise NotImplementedError

    def to_message(self, queue: str, *, generation: int = 0) -> Message:
        """The message for *queue*: the same contract gives the same message id, until the generation moves.

        One that has no trace context yet goes out with that of the span it is made in.
        """
        if self.traceparent is None and (here := tracing.current_traceparent()):
            return self.model_copy(update={"traceparent": here}).to_message(queue, generation=generation)
        properties: dict[str, str | int | bool] = {
            "tenantId": self.tenant_id,
            "schemaVersion": self.schema_version,
            "generation": generation,
        }
        if self.traceparent:
            properties[tracing.TRACEPARENT] = self.traceparent
        if self.pipeline:
            properties["pipeline"] = self.pipeline
        return Message(
            body=self.to_bytes(),
            message_id=message_id(queue, self.source_key(), self.version_key(), generation),
            correlation_id=self.correlation_id,
            properties=properties,
        )


class IngestionEvent(Contract):
    """One change of one record at its source. The first six fields are all that a producer must send.

    In place of *payload* there may be *payload_ref*, the claim check of a large one: :mod:`messaging.claim_check`.
    *moves_moment*: something may have changed in the record that its version does not cover. A reading of it that says
    what is stored is then still noted as the latest.
    """

    source: str = Field(min_length=1)
    source_id: str = Field(min_length=1)
    event_type: EventType
    observed_at: str
    payload: dict[str, Any] | None = None
    event_id: str | None = None
    connection_id: str | None = None
    instance: str | None = None
    object_type: str | None = None
    source_version: str | None = None
    read_at: str | None = None
    moves_moment: bool | None = None
    payload_ref: str | None = None

    @model_validator(mode="after")
    def _has_a_payload(self) -> Self:
        if self.payload is None and self.payload_ref is None:
            raise ValueError("the payload is missing, and there is no payloadRef in its place")
        return self

    @property
    def record(self) -> dict[str, Any]:
        """The payload of an event whose claim check, if it has one, was redeemed.

        Raises:
            ValueError: it was not.
        """
        if self.payload is None:
            raise ValueError(f"the payload of this event is still in {self.payload_ref}")
        return self.payload

    def source_key(self) -> str:
        """Tenant, system, instance, object type and external id."""
        return "|".join((self.tenant_id, self.source, self.instance or "", self.object_type or "", self.source_id))

    def version_key(self) -> str:
        """The event's own id, else the record's version, else when it was seen."""
        return self.event_id or f"{self.event_type}|{self.source_version or ''}|{self.observed_at}"


class ShardMessage(Contract):
    """What the messages after normalization share: the shard, and the revision they were made for.

    *observed_at* is when the change was seen at its source: how long the chain takes is counted from there.
    """

    shard_id: str = Field(min_length=1)
    shard_type_id: str = Field(min_length=1)
    revision: int = Field(ge=1)
    generation: int = Field(default=0, ge=0)
    observed_at: str | None = None

    def source_key(self) -> str:
        """Tenant and shard."""
        return f"{self.tenant_id}|{self.shard_id}"

    def version_key(self) -> str:
        """The shard's revision."""
        return str(self.revision)


class ShardEmission(ShardMessage):
    """A shard was written: enrich it."""

    change_type: ChangeType
    changed_fields: list[str] = Field(default_factory=list)


class EnrichmentJob(ShardMessage):
    """A shard's links are in place: prepare its content, entities and chunks."""

    work: Literal["content", "entities", "chunks"] = "chunks"

    def version_key(self) -> str:
        """Revision and kind of work."""
        return f"{self.revision}|{self.work}"


class ChunkReference(BaseModel):
    """A chunk in the state that awaits its vector: a chunk whose hash has moved on is another job's."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)

    chunk_id: str
    hash: str


MAX_CHUNKS_PER_JOB = 200
"""The most chunks one embedding job names."""


class EmbeddingJob(ShardMessage):
    """Chunks of a shard that have no vector yet."""

    chunks: list[ChunkReference] = Field(max_length=MAX_CHUNKS_PER_JOB)
    reason: str = "changed"

    def version_key(self) -> str:
        """Revision and the first chunk named: a shard of many chunks has several jobs a revision."""
        first = self.chunks[0].chunk_id if self.chunks else ""
        return f"{self.revision}|{self.reason}|{first}"


Recurring = Literal["poll", "sweep", "refresh", "watch"]
"""Work that is due again and again: changes since the last time, records that are gone, values that no version tells
of, and the renewal of push channels."""


Work = Recurring | Literal["push", "read", "history", "purge"]
"""All kinds of work against a source: see :class:`SourceWork`."""


class SourceWork(Contract):
    """Work against a source that must run outside an HTTP call or a timer tick.

    ``push`` has what the source pushed, as it came, in *push*; ``read`` names in *ids* what is to be read, by object
    type, and in *push* what the source notes of it for itself; ``history`` asks for the next pages of the first load,
    ``purge`` takes away all that the connection brought. *event_id* tells a push apart from every other.
    """

    connection_id: str = Field(min_length=1)
    work: Work
    due_at: str
    object_types: list[str] = Field(default_factory=list)
    ids: dict[str, list[str]] = Field(default_factory=dict)
    push: dict[str, Any] | None = None
    event_id: str | None = None

    def source_key(self) -> str:
        """Tenant, connection and kind of work."""
        return f"{self.tenant_id}|{self.connection_id}|{self.work}"

    def version_key(self) -> str:
        """The push's own id, else when the work was due: a tick that fires twice asks once."""
        return self.event_id or self.due_at
