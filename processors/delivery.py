"""A queue's messages, decoded and handed to a processor; and what each message's outcome means for it.

The function that calls :func:`consume` returns, so the host completes the whole batch: every message has by then been
processed, copied for later, or parked. Only a failing bus makes it raise.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError

from messaging import codec, tracing
from messaging.bus import BusUnavailableError, Message, MessageBus, MessageTooLargeError, Property, is_property
from messaging.claim_check import PayloadInvalidError, Payloads, is_claim_check, redeem, without_payload
from messaging.contracts import SCHEMA_VERSION, Contract
from messaging.message_ids import message_id
from messaging.queues import QUEUES
from messaging.times import Clock, to_text
from processors.batch_spans import BatchSpans, batch_spans
from processors.incoming import HostMessage, IncomingMessage, incoming
from processors.outcome import Cause, Later, Outcome, Park, PermanentError
from shards.blobs import BlobMissingError, BlobTooLargeError
from shards.parked import ParkedMessage, ParkedMessages, parked_message
from shards.store import ItemTooLargeError, StoreRefusedError, StoreUnavailableError

log = logging.getLogger(__name__)

C = TypeVar("C", bound=Contract)
T = TypeVar("T")

MAX_ATTEMPTS = 6
"""How often a failing message is tried before it is parked: with the delays below, for two and a half minutes."""
FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=5)
CLAIM_CHECKS_AT_ONCE = 8
"""How many messages are tried together whose payloads are too large for the bus: all of them are in memory then."""
_MOST_COUNTED = 2**62
_DOUBLINGS = 16
"""More change nothing: five seconds doubled so often are far beyond the longest delay."""


@dataclass(frozen=True, slots=True)
class Delivery(Generic[C]):
    """A decoded message. *redelivered*: an earlier try may have done part of the work. *source_failures* are how often
    a source that fails has kept it from its end."""

    value: C
    redelivered: bool = False
    source_failures: int = 0


Process = Callable[[Sequence[Delivery[C]]], Awaitable[Sequence[Outcome]]]


class Diversion(Protocol):
    """Says which messages of a batch are another queue's."""

    @property
    def queue(self) -> str:
        """That queue."""

    def takes(self, message: IncomingMessage) -> bool:
        """Whether *message* goes there; it is asked about once."""


class Meter(Protocol):
    """Counts what passes through the queues."""

    def record(
        self,
        queue: str,
        contracts: Sequence[Contract | None],
        outcomes: Sequence[Outcome],
        *,
        seconds: float,
        at: datetime,
    ) -> None:
        """A batch of *queue* came to its end *at* a moment, after *seconds*; None stands for a body that was none."""


@dataclass(frozen=True, slots=True)
class DeliveryPorts:
    """What it takes to give messages an end."""

    bus: MessageBus
    parked: ParkedMessages
    payloads: Payloads
    clock: Clock
    meter: Meter


def backoff(attempt: int) -> timedelta:
    """How long the copy after vain try number *attempt* (from 1) waits: doubling, with a ceiling."""
    return min(FIRST_DELAY * (1 << min(attempt - 1, _DOUBLINGS)), LONGEST_DELAY)


async def consume(
    received: Sequence[HostMessage],
    queue: str,
    contract: type[C],
    process: Process[C],
    ports: DeliveryPorts,
    *,
    diversion: Diversion | None = None,
) -> list[Outcome]:
    """Give each message of *received* its end and return what became of it, in their order.

    What *diversion* takes is sent on as it is, and is none of *received* any more.

    A batch in which any message comes a second time runs one message at a time, so that the one which broke the
    batch can't take the others along; a message at its last delivery but one is parked before it is tried. What has
    not started at half of the queue's lock goes out as copies; a bus that is away is waited for up to a third of the
    lock, and never beyond five sixths of it, so that the last call ends within it.

    Raises:
        BusUnavailableError: the bus took neither the next stage's messages nor the copies.
    """
    started = perf_counter()
    messages = incoming(received, queue)
    times = _Times(ports.clock, ports.clock(), QUEUES[queue].lock_duration)
    if diversion is not None:
        messages = await _divert(messages, diversion, ports.bus, times)
    outcomes: dict[int, Outcome] = {}
    deliveries: dict[int, Delivery[C]] = {}
    contracts: list[C | None] = []
    for index, message in enumerate(messages):
        decoded = _receive(message, queue, contract)
        if isinstance(decoded, Park):
            outcomes[index] = decoded
            contracts.append(None)
        else:
            deliveries[index] = decoded
            contracts.append(decoded.value)
    spans = batch_spans(queue)
    spans.begin(messages, deliveries)
    try:
        outcomes |= await _Batch(messages, deliveries, queue, process, ports.payloads, times, spans).run()
        outcomes = await _settle(messages, outcomes, queue, ports, times)
    except BaseException as error:
        spans.broke(error)
        raise
    spans.end(outcomes)
    ends = [outcomes[index] for index in range(len(messages))]
    ports.meter.record(queue, contracts, ends, seconds=perf_counter() - started, at=ports.clock())
    return ends


@dataclass(frozen=True, slots=True)
class _Times:
    """What a batch has time for, received at *began* under a lock of *lock*."""

    clock: Clock
    began: datetime
    lock: timedelta

    def may_start(self) -> bool:
        """Whether there is time to try one more message."""
        return self.clock() < self.began + self.lock / 2

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """What *call* returns, called again while the bus is away and there is time.

        A raise would redeliver the whole batch at once and without a pause, so it is the last resort.

        Raises:
            BusUnavailableError: the bus stayed away.
        """
        until = min(self.clock() + self.lock / 3, self.began + self.lock * 5 / 6)
        pause = 0.1
        while True:
            try:
                return await call()
            except BusUnavailableError as error:
                if self.clock() + timedelta(seconds=pause) >= until:
                    raise
                log.warning("the bus is away (%s); trying again in %.1f s", error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)


async def _divert(
    messages: Sequence[IncomingMessage], diversion: Diversion, bus: MessageBus, times: _Times
) -> list[IncomingMessage]:
    """Send what *diversion* takes to its queue; what stays.

    Raises:
        BusUnavailableError: the bus stayed away.
    """
    staying: list[IncomingMessage] = []
    leaving: list[Message] = []
    for message in messages:
        if diversion.takes(message):
            properties = _properties(message)
            leaving.append(Message(message.body, message.message_id, message.correlation_id, properties))
        else:
            staying.append(message)
    if leaving:
        try:
            await times.patiently(partial(bus.send, diversion.queue, leaving))
        except StoreUnavailableError as error:
            log.warning("%d messages can't be moved to %s and stay: %s", len(leaving), diversion.queue, error)
            return list(messages)
    return staying


def _receive(message: IncomingMessage, queue: str, contract: type[C]) -> Delivery[C] | Park:
    """The message as its processor takes it, or why it gets none."""
    delivery_count = message.delivery_count
    if delivery_count >= QUEUES[queue].max_delivery_count - 1:
        return Park(
            "delivered-too-often",
            f"delivered {delivery_count} times without an end: whoever processed it was ended each time",
        )
    try:
        value = contract.from_bytes(message.get_body())
    except codec.DecodeError as error:
        return Park("invalid-message", f"the body is no JSON: {error}")
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        return Park("invalid-message", f"the body is no {contract.__name__}: {problems}")
    if value.schema_version > SCHEMA_VERSION:
        return Park(
            "newer-schema",
            f"the message has schema version {value.schema_version}, this code reads up to {SCHEMA_VERSION}: "
            "deploy the newer code, then replay",
        )
    traceparent = tracing.carried(message.application_properties, value.traceparent)
    if traceparent != value.traceparent:
        value.traceparent = traceparent
    # Copies and replays have a generation of their own; what they stand for may have been tried.
    redelivered = delivery_count > 1 or _number(message, "generation") > 0
    return Delivery(value, redelivered, _number(message, Cause.SOURCE))


@dataclass(frozen=True, slots=True)
class _Batch(Generic[C]):
    """The tries of the messages that were received together. *deliveries* are by the message's index."""

    messages: Sequence[IncomingMessage]
    deliveries: dict[int, Delivery[C]]
    queue: str
    process: Process[C]
    payloads: Payloads
    times: _Times
    spans: BatchSpans

    async def run(self) -> dict[int, Outcome]:
        """Try all, together or one by one, for half of the lock's time; what became of each.

        Raises:
            BusUnavailableError: the bus stayed away.
        """
        one_by_one = any(message.delivery_count > 1 for message in self.messages)
        groups = deque(self._singly(self.deliveries) if one_by_one else self._together())
        outcomes: dict[int, Outcome] = {}
        while groups:
            if not self.times.may_start():
                late = Later(timedelta(0), "the batch ran out of time")
                return outcomes | dict.fromkeys(chain.from_iterable(groups), late)
            group = groups.popleft()
            try:
                tried = await self.times.patiently(partial(self._try, group))
            except StoreUnavailableError as error:
                left = [*group, *chain.from_iterable(groups)]
                log.warning("%s: the store is away (%s); %d messages come back later", self.queue, error, len(left))
                return outcomes | {index: _outage(self.messages[index], "the store is unavailable") for index in left}
            if tried is None:
                groups.extend(self._singly(group))
            else:
                outcomes |= tried
        return outcomes

    def _together(self) -> list[list[int]]:
        """The messages as they are tried at first: together, but for the large ones, which come in small groups."""
        small: list[int] = []
        large: list[int] = []
        for index, delivery in self.deliveries.items():
            (large if is_claim_check(delivery.value) else small).append(index)
        groups = [large[start : start + CLAIM_CHECKS_AT_ONCE] for start in range(0, len(large), CLAIM_CHECKS_AT_ONCE)]
        return [small, *groups] if small else groups

    @staticmethod
    def _singly(indexes: Iterable[int]) -> list[list[int]]:
        return [[index] for index in indexes]

    async def _try(self, group: Sequence[int]) -> dict[int, Outcome] | None:
        """What became of each message of *group*; None when one of several, and nobody knows which, made it fail.

        Raises:
            BusUnavailableError, StoreUnavailableError: none of them can be tried now.
        """
        try:
            with self.spans.trying(group):
                whole, outcomes = await self._redeemed(group)
                if whole:
                    outcomes |= zip(whole, await self.process(list(whole.values())), strict=True)
            return outcomes
        except (BusUnavailableError, StoreUnavailableError):
            self._note_broken_try(group)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a processor raises, its message must get an end
            self._note_broken_try(group)
            if len(group) == 1:
                self.spans.failed(group[0], error)
                return {group[0]: _failed(self.messages[group[0]], error, self.queue)}
            log.warning("%s: a batch of %d failed (%s); trying them one by one", self.queue, len(group), error)
            return None

    async def _redeemed(self, group: Sequence[int]) -> tuple[dict[int, Delivery[C]], dict[int, Outcome]]:
        """The deliveries of *group* with their payloads, and what became of those whose payload can't be had."""
        whole = {index: self.deliveries[index] for index in group}
        outcomes: dict[int, Outcome] = {}
        checked = [index for index, delivery in whole.items() if is_claim_check(delivery.value)]
        redeemed = await asyncio.gather(
            *(redeem(whole.pop(index).value, self.payloads) for index in checked), return_exceptions=True
        )
        for index, value in zip(checked, redeemed, strict=True):
            if isinstance(value, BlobMissingError):
                outcomes[index] = Park("payload-missing", str(value))
            elif isinstance(value, PayloadInvalidError | BlobTooLargeError):
                outcomes[index] = Park("payload-invalid", str(value))
            elif isinstance(value, BaseException):
                raise value
            else:
                whole[index] = replace(self.deliveries[index], value=value)
        return whole, outcomes

    def _note_broken_try(self, group: Sequence[int]) -> None:
        """A try that broke off may have written without emitting: the next one must know."""
        for index in group:
            self.deliveries[index] = replace(self.deliveries[index], redelivered=True)


def _failed(message: IncomingMessage, error: Exception, queue: str) -> Outcome:
    if isinstance(error, PermanentError):
        return Park(error.reason, error.detail)
    if isinstance(error, MessageTooLargeError):
        return Park("message-too-large", f"what it makes is too large: {error}")
    if isinstance(error, ItemTooLargeError):
        return Park("too-large", str(error))
    if isinstance(error, StoreRefusedError):
        return Park("store-refused", str(error))
    attempt = _number(message, Cause.FAILURE) + 1
    description = f"{type(error).__name__}: {error}"
    log.error("%s: %s failed at try %d", queue, _named(message), attempt, exc_info=error)
    if attempt >= MAX_ATTEMPTS:
        return Park("failed", f"failed {attempt} times, the last time with {description}")
    return Later(backoff(attempt), description, Cause.FAILURE)


def _outage(message: IncomingMessage, reason: str) -> Later:
    return Later(backoff(_number(message, Cause.OUTAGE) + 1), reason, Cause.OUTAGE)


async def _settle(
    messages: Sequence[IncomingMessage],
    outcomes: Mapping[int, Outcome],
    queue: str,
    ports: DeliveryPorts,
    times: _Times,
) -> dict[int, Outcome]:
    """Send the copies and park what is to be parked; what has become of each message then.

    Raises:
        BusUnavailableError: the bus took no copies.
    """
    settled = dict(outcomes)
    copies: dict[timedelta, dict[int, Message]] = {}
    parked: dict[int, Park] = {}
    for index, outcome in outcomes.items():
        if isinstance(outcome, Later):
            copies.setdefault(outcome.delay, {})[index] = _copy(messages[index], queue, outcome)
        elif isinstance(outcome, Park):
            parked[index] = outcome
    if parked:
        for index, park in parked.items():
            log.warning("%s: %s parked as %s: %s", queue, _named(messages[index]), park.reason, park.detail)
        try:
            await ports.parked.park(
                [await _parked(messages[index], queue, park, ports) for index, park in parked.items()]
            )
        except StoreUnavailableError as error:
            log.warning("%s: the store can't park %d messages now (%s)", queue, len(parked), error)
            for index in parked:
                settled[index] = waiting = _outage(messages[index], "the store can't park it now")
                copies.setdefault(waiting.delay, {})[index] = _copy(messages[index], queue, waiting)
    for delay, batch in copies.items():
        while batch:
            refused = await times.patiently(partial(_send_copies, queue, batch, delay, ports.bus))
            if refused is None:
                break
            # What a copy says of itself on top of its message was too much.
            settled[refused] = outcome = Park("message-too-large", f"{queue}: no copy of it can be sent, for its size")
            await times.patiently(partial(_park_copy, messages[refused], queue, outcome, ports))
            del batch[refused]
    return settled


async def _send_copies(queue: str, copies: Mapping[int, Message], delay: timedelta, bus: MessageBus) -> int | None:
    """Send *copies*, which are by the index of their message; the index of one that is too large, None when none is."""
    try:
        await bus.send(queue, list(copies.values()), delay=delay or None)
    except MessageTooLargeError as error:
        return next(index for index, copy in copies.items() if copy.message_id == error.message_id)
    except StoreUnavailableError as error:
        raise BusUnavailableError(f"a copy's payload can't be put into the blob store: {error}") from error
    return None


async def _park_copy(message: IncomingMessage, queue: str, outcome: Park, ports: DeliveryPorts) -> None:
    try:
        await ports.parked.park([await _parked(message, queue, outcome, ports)])
    except StoreUnavailableError as error:
        raise BusUnavailableError(f"{queue}: too large for a copy, and the store can't park it: {error}") from error


def _named(message: IncomingMessage) -> str:
    """The message as the log names it, where a line of Azure's worker may tell no invocation."""
    return f"message {message.message_id} (correlation id {message.correlation_id})"


def is_copy(properties: Mapping[str, object]) -> bool:
    """Whether a message of these properties goes on with one that was received: that was tried, or has not ended."""
    return _counted(properties, "generation") > 0


def _copy(message: IncomingMessage, queue: str, outcome: Later) -> Message:
    generation = _number(message, "generation") + 1
    return Message(
        body=message.get_body(),
        message_id=message_id(queue, message.message_id, "copy", generation),
        correlation_id=message.correlation_id,
        properties={
            **_properties(message),
            "generation": generation,
            outcome.cause: _number(message, outcome.cause) + 1,
            "laterBecause": outcome.reason[:200],
        },
    )


async def _parked(message: IncomingMessage, queue: str, outcome: Park, ports: DeliveryPorts) -> ParkedMessage:
    """The message as it is parked: an event that is too large for an item by claim check.

    Raises:
        StoreUnavailableError: its payload could not be kept.
    """
    return parked_message(
        queue=queue,
        body=await without_payload(queue, message.get_body(), ports.payloads),
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        properties=_properties(message),
        delivery_count=message.delivery_count,
        reason=outcome.reason,
        detail=outcome.detail,
        parked_at=to_text(ports.clock()),
    )


def _properties(message: IncomingMessage) -> dict[str, Property]:
    return {key: value for key, value in message.application_properties.items() if is_property(value)}


def _number(message: IncomingMessage, name: str) -> int:
    """A count that the app itself has written there; 0 when there is none, or what can't be one."""
    return _counted(message.application_properties, name)


def _counted(properties: Mapping[str, object], name: str) -> int:
    value = properties.get(name, 0)
    return value if isinstance(value, int) and 0 <= value < _MOST_COUNTED else 0
