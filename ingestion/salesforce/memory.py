"""What polling an org keeps in ``integration.state``: one state an object, one an org's API budget."""

import os
from collections.abc import Mapping

import msgspec

from connections.budget import ApiUsage
from connections.salesforce_connection import SalesforceConnection
from ingestion.connection_memory import SourceMemory
from ingestion.salesforce.cursor import Cursor
from ingestion.salesforce.fields import FieldList, SchemaChange


class Listing(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A listing of all ids under way: *began_at*, the last id it came to, and in how many *parts* its ids are kept."""

    began_at: str
    after: str | None = None
    count: int = 0
    parts: int = 0


class SweepNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where the id sweep of an object stands.

    *suspects* are ids that were missing from the last complete listing, begun at *suspected_at*; missing from the next
    one too, they are gone. *refused* says why the sweep did nothing. *swept_due* is the due time of the last to
    end.
    """

    listing: Listing | None = None
    suspects: tuple[str, ...] = ()
    suspected_at: str | None = None
    listed: int | None = None
    deleted: int = 0
    last_sweep_at: str | None = None
    refused: str | None = None
    swept_due: str | None = None


class RefreshNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Where the comparison of values that no stamp tells of stands.

    *fields* are those whose definition has changed since the last regular comparison ended; *wanted*: one is due for
    them now.
    *after* is the last id compared in the one that *began_at*; *refreshed_due* is the due time of the last to end.
    """

    fields: tuple[str, ...] = ()
    wanted: bool = False
    began_at: str | None = None
    after: str | None = None
    compared: int = 0
    drifted: int = 0
    last_refresh_at: str | None = None
    refreshed_due: str | None = None


class ObjectNotes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is known of an object beside its cursor.

    *nonce* is made with the notes and stays with the cursor: it is part of the id of each event that the cursor leads
    to. So the bus drops a page that the cursor sends twice, and takes all of a cursor that starts anew because the
    store was lost.

    *page_size* and *uri_limit* are smaller than usual after Salesforce refused a page as too large.

    *no_rows* says that a read of all records gave none, of an object of which nothing is stored. *walked_due* is the
    due time of the poll that finished the last walk which met something, or was finished in several tries.

    *rewind_to*: the next walk begins no later than there, because not all changes since then were told.
    """

    object_type: str
    nonce: str = ""
    fields: FieldList | None = None
    window: dict[str, str] = msgspec.field(default_factory=dict)
    walked_due: str | None = None
    page_size: int | None = None
    uri_limit: int | None = None
    warning: str | None = None
    no_rows: str | None = None
    sweep: SweepNotes = SweepNotes()
    rewind_to: str | None = None
    schema_changes: tuple[SchemaChange, ...] = ()
    refresh: RefreshNotes = RefreshNotes()


class ObjectMemory(SourceMemory, frozen=True, kw_only=True):
    """How the polling of one object of a connection stands; *last_sync_at* is when rows were last taken over."""

    metadata: ObjectNotes
    cursor: Cursor = Cursor()
    last_sync_at: str | None = None
    error_message: str | None = None


class BudgetMemory(SourceMemory, frozen=True, kw_only=True):
    """What is known of the API calls of an org, for all its connections."""

    metadata: ApiUsage


class ListingPart(SourceMemory, frozen=True, kw_only=True):
    """Ids of a listing under way; *metadata* has their hashes, packed, as base64 under ``ids``."""

    metadata: Mapping[str, str]


def object_key(connection: SalesforceConnection, object_type: str) -> str:
    """Under which key :class:`ObjectMemory` is kept."""
    return f"{connection.connection_id}/{object_type}"


def listing_key(connection: SalesforceConnection, object_type: str, part: int) -> str:
    """Under which key a :class:`ListingPart` is kept."""
    return f"{connection.connection_id}/{object_type}/listing/{part}"


def budget_key(instance: str) -> str:
    """Under which key :class:`BudgetMemory` is kept: by org, not by connection."""
    return f"salesforce/{instance}/api"


def new_object_memory(connection: SalesforceConnection, object_type: str) -> ObjectMemory:
    """The memory of an object that has never been polled, with a nonce of its own."""
    notes = ObjectNotes(object_type=object_type, nonce=os.urandom(8).hex())
    return ObjectMemory.new(connection, object_type, metadata=notes)


def new_budget_memory(connection: SalesforceConnection, instance: str) -> BudgetMemory:
    """The memory of an org's API calls before the first."""
    return BudgetMemory(
        name=f"API calls of {instance}",
        integration_id=connection.connection_id,
        integration_type=connection.system,
        last_sync_status="success",
        metadata=ApiUsage(),
    )


def new_listing_part(connection: SalesforceConnection, object_type: str, ids: str) -> ListingPart:
    """A part of a listing with *ids*, packed."""
    return ListingPart.new(connection, f"ids of {object_type}", status="success", metadata={"ids": ids})
