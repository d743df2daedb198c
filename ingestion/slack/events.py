"""Slack's objects as ingestion events; what they lack is under ``shardline``, see :mod:`processors.mapping.slack`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from connections.slack_connection import SlackConnection
from ingestion.slack.facts import ChannelFacts, JsonObject, Person
from messaging.bus import MessageBus
from messaging.contracts import EventType, IngestionEvent
from messaging.queues import INGESTION_EVENTS
from messaging.times import from_milliseconds, from_text, to_text
from processors.mapping.slack import CHANNEL, MESSAGE, USER
from processors.mapping.slack_text import named_ids, written_text
from shards.identity import shard_id

SYSTEM: Final = "slack"
SENT_AT_ONCE: Final = 200


def ts_of(moment: datetime) -> str:
    """*moment* as Slack writes times."""
    return f"{int(moment.timestamp())}.{moment.microsecond:06d}"


def moment_of(ts: str) -> str:
    """Slack's time as ours; it loses its last three digits.

    Raises:
        ValueError: *ts* is no time.
    """
    seconds, _, micros = ts.partition(".")
    return to_text(from_milliseconds(int(seconds) * 1000 + int(micros[:6].ljust(6, "0") or 0) // 1000))


def ts_order(ts: str) -> tuple[int, int]:
    """What orders times: as texts or floats they compare wrongly.

    Raises:
        ValueError: *ts* is no time.
    """
    seconds, _, micros = ts.partition(".")
    return int(seconds), int(micros[:6].ljust(6, "0") or 0)


def message_version(message: Mapping[str, Any], read_at: str) -> str:
    """A message's version: when it was written or last edited. Slack cuts the time of an edit to whole seconds, so one
    made in the second in which the message was written does not count: there, who was told last knows best.

    What stands in place of a deleted root says nothing of its edits: its version is when it was told, *read_at*."""
    ts = str(message["ts"])
    edited = message.get("edited")
    edited_ts = edited.get("ts") if isinstance(edited, Mapping) else None
    if message.get("subtype") == "tombstone":
        edited_ts = ts_of(from_text(read_at))
    try:
        return max(ts, edited_ts, key=ts_order) if isinstance(edited_ts, str) else ts
    except ValueError:
        return ts  # the mapping says what is wrong with it


class SlackEvents:
    """Makes events for one connection. *event_id* is that of the push they come from; listings have none."""

    def __init__(self, connection: SlackConnection) -> None:
        self._connection = connection

    def message(
        self,
        channel: ChannelFacts,
        message: Mapping[str, Any],
        people: Mapping[str, Person],
        names: Mapping[str, str],
        *,
        read_at: str,
        event_id: str | None = None,
    ) -> IngestionEvent:
        """A whole message of *channel*. *names* are of the channels that it names without their name."""
        author = people.get(str(message.get("user")))
        told: JsonObject = {
            "acl": channel.acl_of_messages,
            "names": {
                **names,
                **{one: people[one].name or one for one in named_ids(written_text(message)) if one in people},
            },
            "workspace": self._connection.base_url or None,
        }
        if author is not None and author.name and not message.get("username"):
            told["author"] = {"name": author.name, "email": author.email}
        if channel.home != self._connection.instance:
            told["seenFrom"] = self._connection.instance
        payload = {name: value for name, value in message.items() if name not in ("previous_message", "event_ts")}
        payload |= {"channel": channel.id, "shardline": told}
        ts = str(message["ts"])
        return self._event(
            MESSAGE,
            f"{channel.id}:{ts}",
            channel.home,
            message_version(message, read_at),
            read_at=read_at,
            payload=payload,
            event_id=event_id,
        )

    def channel(
        self,
        raw: Mapping[str, Any],
        facts: ChannelFacts,
        members: Sequence[str] | None,
        asked_at: datetime,
        event_id: str | None = None,
    ) -> IngestionEvent:
        """A channel as it was at *asked_at*, which is its version: it has none of its own."""
        told: JsonObject = {"acl": facts.own_acl, "home": facts.home, "workspace": self._connection.base_url or None}
        if members is not None:
            told["members"] = list(members)
        payload = {**raw, "shardline": told}
        return self._event(
            CHANNEL,
            facts.id,
            facts.home,
            ts_of(asked_at),
            read_at=to_text(asked_at),
            payload=payload,
            event_id=event_id,
        )

    def user(
        self, raw: Mapping[str, Any], read_at: str, event_id: str | None = None, *, is_guest: bool = False
    ) -> IngestionEvent:
        """A whole user; *is_guest* where more than the object itself says so."""
        told: JsonObject = {"workspace": self._connection.base_url or None}
        if is_guest:
            told["guest"] = True
        payload = {**raw, "shardline": told}
        updated = raw.get("updated")
        version = str(updated) if isinstance(updated, int) and updated > 0 else "0"
        return self._event(
            USER,
            str(raw["id"]),
            self._connection.instance,
            version,
            read_at=read_at,
            payload=payload,
            event_id=event_id,
        )

    def gone(
        self,
        object_type: str,
        external_id: str,
        home: str,
        version: str,
        read_at: str,
        *,
        event_id: str | None = None,
        moved_to: str | None = None,
    ) -> IngestionEvent:
        """A message or channel that is there no more, or under another id."""
        payload: JsonObject = {"shardline": {"movedTo": moved_to}} if moved_to else {}
        return self._event(
            object_type,
            external_id,
            home,
            version,
            read_at=read_at,
            payload=payload,
            event_type="delete",
            event_id=event_id,
        )

    def shard_id(self, object_type: str, external_id: str, home: str | None = None) -> str:
        """The id of a record's shard; *home* None: of this workspace."""
        return shard_id(self._connection.tenant_id, SYSTEM, home or self._connection.instance, object_type, external_id)

    def _event(
        self,
        object_type: str,
        external_id: str,
        home: str,
        version: str,
        *,
        read_at: str,
        payload: JsonObject,
        event_type: EventType = "update",
        event_id: str | None = None,
    ) -> IngestionEvent:
        return IngestionEvent(
            tenant_id=self._connection.tenant_id,
            source=SYSTEM,
            source_id=external_id,
            event_type=event_type,
            observed_at=read_at,
            payload=payload,
            event_id=event_id,
            connection_id=self._connection.connection_id,
            instance=home,
            object_type=object_type,
            source_version=version,
            read_at=read_at,
        )


async def send_events(bus: MessageBus, events: Sequence[IngestionEvent], queue: str = INGESTION_EVENTS) -> int:
    """Send *events*; how many.

    Raises:
        BusUnavailableError: some may not be sent; sending all again is harmless.
    """
    for start in range(0, len(events), SENT_AT_ONCE):
        await bus.send(queue, [event.to_message(queue) for event in events[start : start + SENT_AT_ONCE]])
    return len(events)
