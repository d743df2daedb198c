"""What Service Bus keeps and how it changes: messages, locks, schedules, dead letters, the duplicate window.

Knows nothing of the wire. Times are milliseconds since 1970; nothing here waits or measures time, it asks the clock.
Not thread-safe.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from uuid import UUID, uuid4

from messaging.queues import QueueProperties
from messaging.times import Clock, to_milliseconds
from service_bus_peer.encoded_message import EncodedMessage

DEAD_LETTER_SUFFIX = "/$DeadLetterQueue"


class LockLostError(Exception):
    """The lock has expired, or the message was settled under it already."""


class MessageNotFoundError(Exception):
    """No message with that sequence number is in the state that the operation needs."""


class NotAllowedError(Exception):
    """The operation makes no sense on this entity."""


class MessageState(IntEnum):
    """As ``x-opt-message-state`` carries it."""

    ACTIVE = 0
    DEFERRED = 1
    SCHEDULED = 2


@dataclass(slots=True, eq=False)
class StoredMessage:
    """A message in an entity. *delivery_count* counts the deliveries that failed; the first delivery carries 0."""

    sequence_number: int
    content: EncodedMessage
    enqueued_at: int
    delivery_count: int = 0
    state: MessageState = MessageState.ACTIVE
    due_at: int | None = None
    lock_token: UUID | None = None
    locked_until: int | None = None
    dead_letter_reason: str | None = None
    dead_letter_description: str | None = None

    def encoded(self, *, peeked: bool = False) -> bytes:
        """The message as it is handed out now, or shown without the right to settle it."""
        return self.content.delivered(
            sequence_number=self.sequence_number,
            enqueued_at=self.enqueued_at,
            delivery_count=self.delivery_count,
            state=self.state,
            lock_token=None if peeked else self.lock_token,
            locked_until=self.locked_until,
        )


@dataclass(frozen=True, slots=True)
class EntityDepth:
    """How many messages of a queue are in which state."""

    active: int
    locked: int
    scheduled: int
    deferred: int
    dead_lettered: int


@dataclass(slots=True, eq=False)
class Entity:
    """A queue, or the dead letters of one (*dead_letters* is None then), with messages to receive and settle."""

    path: str
    properties: QueueProperties
    clock: Clock
    dead_letters: "Entity | None" = None
    _messages: dict[int, StoredMessage] = field(default_factory=dict)
    _locked: dict[UUID, StoredMessage] = field(default_factory=dict)
    # Heaps whose entries may be outdated: each is checked against the message when it comes up.
    _ready: list[int] = field(default_factory=list)
    _lock_ends: list[tuple[int, UUID]] = field(default_factory=list)
    _due: list[tuple[int, int]] = field(default_factory=list)
    _last_number: int = 0
    _sent_ids: dict[str, int] = field(default_factory=dict)

    def send(self, contents: Sequence[EncodedMessage]) -> list[int]:
        """Keep *contents*, all or none; the sequence numbers of those that are no duplicates.

        One that is annotated with a time still to come is scheduled for it.
        """
        self._no_dead_letters("send to")
        return [
            self._keep(content, content.scheduled_for).sequence_number
            for content in contents
            if not self._is_duplicate(content)
        ]

    def schedule(self, contents: Sequence[tuple[EncodedMessage, int]]) -> list[int]:
        """Keep each of *contents* until its time comes; the sequence numbers to cancel them by, duplicates' too."""
        self._no_dead_letters("schedule for")
        numbers = []
        for content, due_at in contents:
            if self._is_duplicate(content):
                numbers.append(self._next_number())
            else:
                numbers.append(self._keep(content, due_at).sequence_number)
        return numbers

    def cancel(self, sequence_numbers: Sequence[int]) -> None:
        """Forget messages that are not due yet, all or none.

        Raises:
            MessageNotFoundError: one of them is not scheduled, or was due already.
        """
        self.pass_time()
        self._in_state(sequence_numbers, MessageState.SCHEDULED)
        for number in sequence_numbers:
            self._messages.pop(number, None)

    def receive(self, limit: int, *, delete: bool = False) -> list[StoredMessage]:
        """Up to *limit* messages, those with the lowest sequence numbers first: locked, or taken off at once."""
        self.pass_time()
        received: list[StoredMessage] = []
        while len(received) < limit and self.receivable:
            message = self._messages[heapq.heappop(self._ready)]
            received.append(message)
            self._hand_out(message, delete=delete)
        return received

    def receive_deferred(self, sequence_numbers: Sequence[int], *, delete: bool = False) -> list[StoredMessage]:
        """The deferred messages of those numbers, locked, or taken off at once.

        Raises:
            MessageNotFoundError: one of them is not deferred, or is locked.
        """
        self.pass_time()
        messages = self._in_state(sequence_numbers, MessageState.DEFERRED)
        for message in messages:
            self._hand_out(message, delete=delete)
        return messages

    def complete(self, lock_token: UUID) -> None:
        """Take the message off for good.

        Raises:
            LockLostError: see there.
        """
        del self._messages[self._unlock(lock_token).sequence_number]

    def abandon(self, lock_token: UUID) -> None:
        """Let the message be received again, one failed delivery more; raises as :meth:`complete` does."""
        self._return(self._unlock(lock_token), failed=True)

    def release(self, lock_token: UUID) -> None:
        """Let the message be received again, as if it had not been; raises as :meth:`complete` does."""
        self._return(self._unlock(lock_token), failed=False)

    def defer(self, lock_token: UUID) -> None:
        """Put the message aside until it is asked for by its number; raises as :meth:`complete` does."""
        self._unlock(lock_token).state = MessageState.DEFERRED

    def dead_letter(self, lock_token: UUID, reason: str | None, description: str | None) -> None:
        """Move the message to the dead letters.

        Raises:
            LockLostError: see there.
            NotAllowedError: it is among the dead letters already.
        """
        if self.dead_letters is None:
            raise NotAllowedError("a dead letter can't be dead-lettered")
        self._bury(self._unlock(lock_token), reason, description)

    def renew(self, lock_tokens: Sequence[UUID]) -> list[int]:
        """Begin the locks anew, all or none; until when they hold.

        Raises:
            LockLostError: see there.
        """
        self.pass_time()
        if not all(token in self._locked for token in lock_tokens):
            raise LockLostError
        for token in lock_tokens:
            self._lock(self._locked[token], token)
        return [self._locked[token].locked_until or 0 for token in lock_tokens]

    def peek(self, first_number: int, limit: int) -> list[StoredMessage]:
        """Up to *limit* messages from *first_number* on, whatever state they are in; nothing of them changes."""
        self.pass_time()
        numbers = sorted(number for number in self._messages if number >= first_number)
        return [self._messages[number] for number in numbers[:limit]]

    def pass_time(self) -> None:
        """End the locks that have expired and enqueue what has come due."""
        now = self._now()
        while self._lock_ends and self._lock_ends[0][0] <= now:
            _, token = heapq.heappop(self._lock_ends)
            message = self._locked.get(token)
            if message is not None and (message.locked_until or 0) <= now:
                self._return(self._unlock(token, expired=True), failed=True)
        while self._due and self._due[0][0] <= now:
            _, number = heapq.heappop(self._due)
            if (message := self._messages.pop(number, None)) is not None:
                # It is enqueued only now, and gets the number of that moment.
                self._enqueue(message.content)

    def expire_locks(self) -> None:
        """End every lock, as if its time were over."""
        for token in list(self._locked):
            self._return(self._unlock(token, expired=True), failed=True)

    @property
    def receivable(self) -> bool:
        """Whether there is a message that nobody has locked."""
        while self._ready:
            message = self._messages.get(self._ready[0])
            if message is not None and message.state is MessageState.ACTIVE and message.lock_token is None:
                return True
            heapq.heappop(self._ready)
        return False

    @property
    def next_change(self) -> int | None:
        """When the next lock expires or the next message comes due; None when no time is set for anything."""
        while self._lock_ends:
            until, token = self._lock_ends[0]
            message = self._locked.get(token)
            if message is not None and message.locked_until == until:
                break
            heapq.heappop(self._lock_ends)
        while self._due and self._due[0][1] not in self._messages:
            heapq.heappop(self._due)
        times = [heap[0][0] for heap in (self._lock_ends, self._due) if heap]
        return min(times, default=None)

    def depth(self) -> EntityDepth:
        """The depth now."""
        self.pass_time()
        messages = self._messages.values()
        locked = len(self._locked)
        scheduled = sum(message.state is MessageState.SCHEDULED for message in messages)
        deferred = sum(message.state is MessageState.DEFERRED and message.lock_token is None for message in messages)
        return EntityDepth(
            active=len(self._messages) - locked - scheduled - deferred,
            locked=locked,
            scheduled=scheduled,
            deferred=deferred,
            dead_lettered=0 if self.dead_letters is None else len(self.dead_letters),
        )

    def __len__(self) -> int:
        return len(self._messages)

    def _now(self) -> int:
        return to_milliseconds(self.clock())

    def _no_dead_letters(self, what: str) -> None:
        if self.dead_letters is None:
            raise NotAllowedError(f"one can't {what} a dead-letter queue")

    def _is_duplicate(self, content: EncodedMessage) -> bool:
        if content.message_id is None:
            return False
        now = self._now()
        window = self.properties.duplicate_detection_window // timedelta(milliseconds=1)
        # The oldest come first, so the forgetting ends at the first that is still within the window.
        while self._sent_ids:
            oldest = next(iter(self._sent_ids))
            if self._sent_ids[oldest] + window > now:
                break
            del self._sent_ids[oldest]
        if content.message_id in self._sent_ids:
            return True
        self._sent_ids[content.message_id] = now
        return False

    def _keep(self, content: EncodedMessage, due_at: int | None) -> StoredMessage:
        if due_at is None or due_at <= self._now():
            return self._enqueue(content)
        message = StoredMessage(self._next_number(), content, self._now(), state=MessageState.SCHEDULED, due_at=due_at)
        self._messages[message.sequence_number] = message
        heapq.heappush(self._due, (due_at, message.sequence_number))
        return message

    def _enqueue(self, content: EncodedMessage) -> StoredMessage:
        message = StoredMessage(self._next_number(), content, self._now())
        self._messages[message.sequence_number] = message
        heapq.heappush(self._ready, message.sequence_number)
        return message

    def _next_number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _in_state(self, sequence_numbers: Sequence[int], state: MessageState) -> list[StoredMessage]:
        messages = []
        for number in sequence_numbers:
            message = self._messages.get(number)
            if message is None or message.state is not state or message.lock_token is not None:
                raise MessageNotFoundError(f"no {state.name.lower()} message has the sequence number {number}")
            messages.append(message)
        return messages

    def _hand_out(self, message: StoredMessage, *, delete: bool) -> None:
        if delete:
            del self._messages[message.sequence_number]
        else:
            self._lock(message, uuid4())

    def _lock(self, message: StoredMessage, token: UUID) -> None:
        message.lock_token = token
        message.locked_until = self._now() + self.properties.lock_duration // timedelta(milliseconds=1)
        self._locked[token] = message
        heapq.heappush(self._lock_ends, (message.locked_until, token))

    def _unlock(self, token: UUID, *, expired: bool = False) -> StoredMessage:
        if not expired:
            self.pass_time()
        message = self._locked.pop(token, None)
        if message is None:
            raise LockLostError
        message.lock_token = message.locked_until = None
        return message

    def _return(self, message: StoredMessage, *, failed: bool) -> None:
        message.delivery_count += failed
        limit = self.properties.max_delivery_count
        if failed and self.dead_letters is not None and message.delivery_count >= limit:
            self._bury(
                message,
                "MaxDeliveryCountExceeded",
                f"Message could not be consumed after {limit} delivery attempts.",
            )
        elif message.state is MessageState.ACTIVE:
            heapq.heappush(self._ready, message.sequence_number)

    def _bury(self, message: StoredMessage, reason: str | None, description: str | None) -> None:
        assert self.dead_letters is not None
        del self._messages[message.sequence_number]
        message.state = MessageState.ACTIVE
        message.dead_letter_reason, message.dead_letter_description = reason, description
        named = {"DeadLetterReason": reason, "DeadLetterErrorDescription": description}
        message.content = message.content.with_properties({key: text for key, text in named.items() if text})
        self.dead_letters._take_in(message)

    def _take_in(self, message: StoredMessage) -> None:
        self._messages[message.sequence_number] = message
        heapq.heappush(self._ready, message.sequence_number)


class Broker:
    """The queues of a namespace, each with its dead letters."""

    def __init__(self, queues: Mapping[str, QueueProperties], clock: Clock) -> None:
        self._entities: dict[str, Entity] = {}
        for name, properties in queues.items():
            dead_letters = Entity(name + DEAD_LETTER_SUFFIX, properties, clock)
            for entity in (Entity(name, properties, clock, dead_letters), dead_letters):
                # Entity names are the same in either case.
                self._entities[entity.path.lower()] = entity

    def entity(self, path: str) -> Entity | None:
        """The queue or dead-letter queue at *path*, None if there is none."""
        return self._entities.get(path.lower())

    def __iter__(self) -> Iterator[Entity]:
        return iter(self._entities.values())

    @property
    def next_change(self) -> int | None:
        """When any entity changes next by itself."""
        times = [time for entity in self if (time := entity.next_change) is not None]
        return min(times, default=None)
