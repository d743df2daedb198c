"""What a test may do to a running peer and see of it. These run on the peer's own loop; tests hold proxies of them."""

from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from messaging.times import Clock, from_milliseconds
from service_bus_peer.broker import DEAD_LETTER_SUFFIX, Entity, EntityDepth, MessageState, StoredMessage
from service_bus_peer.counters import Counters
from service_bus_peer.faults import At, Detach, DropConnection, Refuse
from service_bus_peer.management import LOCK_LOST

if TYPE_CHECKING:
    # Tests import names from here where proton is missing, too.
    from service_bus_peer.listener import Listener

SERVER_BUSY = "com.microsoft:server-busy"
QUOTA_EXCEEDED = "amqp:resource-limit-exceeded"
DETACH_FORCED = "amqp:link:detach-forced"
CONNECTION_FORCED = "amqp:connection:forced"

_DESCRIPTIONS = {
    SERVER_BUSY: "The request was terminated because the entity is being throttled. Error code : 50009.",
    QUOTA_EXCEEDED: "The maximum entity size has been reached or exceeded.",
    DETACH_FORCED: "The link is force detached. Details: AmqpMessagePublisher.IdleTimerExpired: Idle timeout:"
    " 00:10:00.",
    CONNECTION_FORCED: "The connection was inactive for more than the allowed 300000 milliseconds and is closed by"
    " container 'LinkTracker'.",
}


class PeerClock:
    """The peer's time: that of the clock it was given, and as much ahead as was asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return self._clock() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Go *by* further ahead."""
        self._ahead += by


@dataclass(frozen=True, slots=True)
class SeenMessage:
    """A message as a test sees it. *delivery_count* counts the deliveries that failed."""

    queue: str
    sequence_number: int
    message_id: str | None
    body: bytes
    properties: dict[str, Any]
    correlation_id: str | None
    content_type: str | None
    subject: str | None
    delivery_count: int
    state: MessageState
    locked: bool
    enqueued_at: datetime
    due_at: datetime | None
    dead_letter_reason: str | None
    dead_letter_description: str | None


class TimeControls:
    """Moving the peer's time."""

    def __init__(self, listener: "Listener", clock: PeerClock) -> None:
        self._listener = listener
        self._clock = clock

    def now(self) -> datetime:
        """The peer's time."""
        return self._clock()

    def advance(self, by: timedelta) -> None:
        """Go ahead: locks end, scheduled messages come due, duplicates are forgotten."""
        self._clock.advance(by)
        self._listener.look_again()

    def look_again(self) -> None:
        """Take note that the clock that the peer was given has been moved."""
        self._listener.look_again()


class StateViews:
    """What the peer keeps and has counted."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener

    def depth(self, queue: str) -> EntityDepth:
        """How many messages of *queue* are in which state."""
        return self._entity(queue).depth()

    def depths(self) -> dict[str, EntityDepth]:
        """The depth of every queue."""
        return {entity.path: entity.depth() for entity in self._listener.broker if entity.dead_letters is not None}

    def messages(self, queue: str) -> list[SeenMessage]:
        """All messages of *queue* that are not dead letters, whatever their state, by sequence number."""
        return _all_of(self._entity(queue))

    def dead_letters(self, queue: str) -> list[SeenMessage]:
        """The dead letters of *queue*, by sequence number."""
        return _all_of(self._entity(queue + DEAD_LETTER_SUFFIX))

    def counters(self) -> Counters:
        """A copy of the counters as they stand."""
        return deepcopy(self._listener.counters)

    def reset_counters(self) -> None:
        """Count from zero, but for the connections that there are."""
        self._listener.counters.reset()

    def _entity(self, path: str) -> Entity:
        entity = self._listener.broker.entity(path)
        if entity is None:
            raise KeyError(f"the peer has no queue {path!r}")
        return entity


class FaultControls:
    """What can be made to go wrong, now or when the next operation of a kind comes by; *queue* None is any queue."""

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener

    # At once

    def drop_connections(self) -> int:
        """Break every connection without a word; how many there were."""
        connections = list(self._listener.connections)
        for connection in connections:
            connection.drop()
        return len(connections)

    def close_connections(self, condition: str = CONNECTION_FORCED) -> int:
        """Close every connection with an error, as the service does with idle ones; how many there were."""
        connections = list(self._listener.connections)
        for connection in connections:
            connection.close(condition, _description(condition))
        return len(connections)

    def detach_links(
        self,
        condition: str = DETACH_FORCED,
        *,
        queue: str | None = None,
        role: Literal["sender", "receiver"] | None = None,
    ) -> int:
        """Close the clients' links to queues with an error, as the service does with idle ones; how many there were."""
        return sum(
            connection.detach(condition, _description(condition), queue=queue, role=role)
            for connection in list(self._listener.connections)
        )

    def expire_locks(self, queue: str | None = None) -> None:
        """End every lock, as if its time were over."""
        for entity in self._listener.broker:
            if queue is None or entity.path == queue:
                entity.expire_locks()
        self._listener.look_again()

    def hang(self) -> None:
        """Answer nothing, on old and new connections, until :meth:`go_on`."""
        self._listener.hang()

    def go_on(self) -> None:
        """Answer again, what has come meanwhile first."""
        self._listener.go_on()

    # When the next operation comes by

    def refuse_sends(self, count: int = 1, *, condition: str = SERVER_BUSY, queue: str | None = None) -> None:
        """Reject the next *count* transfers: busy, or full with :data:`QUOTA_EXCEEDED`."""
        self._listener.faults.add(At.SEND, Refuse(condition, _description(condition)), count=count, queue=queue)

    def detach_on_send(self, count: int = 1, *, condition: str = DETACH_FORCED, queue: str | None = None) -> None:
        """Close the link that each of the next *count* transfers comes on, and keep nothing of it."""
        self._listener.faults.add(At.SEND, Detach(condition, _description(condition)), count=count, queue=queue)

    def drop_on_send(self, count: int = 1, *, accepted: bool, queue: str | None = None) -> None:
        """Break the connection at each of the next *count* transfers, kept but not confirmed if *accepted*.

        Otherwise nothing of it is kept. The sender can't tell the one from the other.
        """
        self._listener.faults.add(At.SEND, DropConnection(done=accepted), count=count, queue=queue)

    def refuse_settlements(self, count: int = 1, *, condition: str = LOCK_LOST, queue: str | None = None) -> None:
        """Answer the next *count* settlements with an error, and settle nothing."""
        self._listener.faults.add(At.SETTLEMENT, Refuse(condition, _description(condition)), count=count, queue=queue)

    def drop_on_settlement(self, count: int = 1, *, settled: bool, queue: str | None = None) -> None:
        """Break the connection at each of the next *count* settlements, done but not confirmed if *settled*."""
        self._listener.faults.add(At.SETTLEMENT, DropConnection(done=settled), count=count, queue=queue)

    def refuse_management(
        self, count: int = 1, *, condition: str = SERVER_BUSY, status: int = 503, queue: str | None = None
    ) -> None:
        """Answer the next *count* requests at ``$management`` with an error."""
        self._listener.faults.add(
            At.MANAGEMENT, Refuse(condition, _description(condition), status), count=count, queue=queue
        )

    def drop_on_management(self, count: int = 1, *, done: bool, queue: str | None = None) -> None:
        """Break the connection at each of the next *count* management requests, done but not answered if *done*."""
        self._listener.faults.add(At.MANAGEMENT, DropConnection(done=done), count=count, queue=queue)

    def refuse_tokens(self, count: int = 1, *, status: int = 401) -> None:
        """Refuse the next *count* tokens that are put."""
        description = "InvalidSignature: The token has an invalid signature."
        self._listener.faults.add(At.TOKEN, Refuse("amqp:unauthorized-access", description, status), count=count)

    def refuse_links(self, count: int = 1, *, condition: str = SERVER_BUSY, queue: str | None = None) -> None:
        """Refuse the next *count* links to queues."""
        self._listener.faults.add(At.ATTACH, Refuse(condition, _description(condition)), count=count, queue=queue)

    def waiting(self) -> int:
        """How many faults have not befallen anything yet."""
        return self._listener.faults.waiting()

    def clear(self) -> None:
        """Forget the faults that are waiting."""
        self._listener.faults.clear()


def _all_of(entity: Entity) -> list[SeenMessage]:
    return [_seen(entity, message) for message in entity.peek(0, len(entity) or 1)]


def _seen(entity: Entity, message: StoredMessage) -> SeenMessage:
    content = message.content
    # Message id, user id, to, subject, reply to, correlation id, content type (AMQP 1.0, 3.2.4).
    properties = [*content.properties, *[None] * 7]
    return SeenMessage(
        entity.path,
        message.sequence_number,
        content.message_id,
        content.body,
        content.application_properties,
        properties[5],
        properties[6],
        properties[3],
        message.delivery_count,
        message.state,
        message.lock_token is not None,
        from_milliseconds(message.enqueued_at),
        None if message.due_at is None else from_milliseconds(message.due_at),
        message.dead_letter_reason,
        message.dead_letter_description,
    )


def _description(condition: str) -> str:
    return _DESCRIPTIONS.get(condition, f"{condition} on demand of a test.")
