"""Replay: parked messages go back to the queue they came from."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

from messaging import codec, tracing
from messaging.bus import Message, MessageBus, MessageTooLargeError
from messaging.message_ids import message_id
from messaging.times import Clock
from processors.outcome import Cause
from shards.parked import ParkedMessage, ParkedMessages

log = logging.getLogger(__name__)

PAGE = 200

_OF_EARLIER_TRIES = frozenset({*Cause, "laterBecause", tracing.TRACEPARENT, tracing.DIAGNOSTIC_ID, tracing.LINKED})
"""The properties that a replayed message starts without."""


@dataclass(frozen=True, slots=True)
class ReplayPorts:
    """What replay reaches of the world."""

    parked: ParkedMessages
    bus: MessageBus
    clock: Clock


@dataclass(frozen=True, slots=True)
class ReplaySelection:
    """Which parked messages: each part that is given narrows them; nothing given is all of them."""

    tenant_id: str | None = None
    parked_id: str | None = None
    reason: str | None = None
    queue: str | None = None


async def select(ports: ReplayPorts, selection: ReplaySelection) -> AsyncIterator[list[ParkedMessage]]:
    """The parked messages of *selection*, oldest first, in pages."""
    if selection.parked_id is not None:
        message = await ports.parked.get_parked(selection.parked_id)
        if message and selection.tenant_id in (None, message.tenant_id):
            yield [message]
        return
    cursor: str | None = None
    while True:
        page = await ports.parked.parked(
            selection.tenant_id, reason=selection.reason, queue=selection.queue, limit=PAGE, cursor=cursor
        )
        if page.items:
            yield page.items
        if page.cursor is None:
            return
        cursor = page.cursor


async def replay(ports: ReplayPorts, messages: list[ParkedMessage]) -> int:
    """Send *messages* back under a new generation and take them out of parking; how many went.

    They are taken out only once the bus has them: broken off in between, a message is in both places, and running
    it twice is harmless. One that is too large for the bus stays parked.
    """
    by_queue: dict[str, list[ParkedMessage]] = {}
    for message in messages:
        by_queue.setdefault(message.queue, []).append(message)
    generation = int(ports.clock().timestamp())
    replayed = 0
    for queue, parked in by_queue.items():
        sent = await _sent(ports.bus, queue, [(_message(message, generation), message) for message in parked])
        await ports.parked.remove_parked([message.id for message in sent if await _is_the_same(ports.parked, message)])
        replayed += len(sent)
    return replayed


async def _sent(bus: MessageBus, queue: str, messages: list[tuple[Message, ParkedMessage]]) -> list[ParkedMessage]:
    """Send all of *messages* but those that are too large; which went."""
    while messages:
        try:
            await bus.send(queue, [message for message, _ in messages])
        except MessageTooLargeError as error:
            log.warning("it stays parked: %s", error)
            messages = [pair for pair in messages if pair[0].message_id != error.message_id]
        else:
            break
    return [parked for _, parked in messages]


async def _is_the_same(kept: ParkedMessages, message: ParkedMessage) -> bool:
    """Whether what is parked is still what was replayed: a worker may by now have parked it again under its id."""
    standing = await kept.get_parked(message.id)
    return standing is not None and standing.message_id == message.message_id


def _message(parked: ParkedMessage, generation: int) -> Message:
    properties = {key: value for key, value in parked.properties.items() if key not in _OF_EARLIER_TRIES}
    return Message(
        body=_with_generation(parked, generation),
        message_id=message_id(parked.queue, parked.message_id, "replay", generation),
        correlation_id=parked.correlation_id,
        properties={**properties, **_new_trace(parked), "generation": generation},
    )


def _new_trace(parked: ParkedMessage) -> dict[str, str]:
    """The properties by which a trace of its own begins, and whoever consumes the message links the old one.

    They go before the context that still stands in the body.
    """
    told = parked.content().get("traceparent")
    earlier = tracing.carried(parked.properties, told if isinstance(told, str) else None)
    begun = tracing.new_trace(parked.queue, parked.tenant_id, because=earlier)
    if earlier is None:
        return {tracing.TRACEPARENT: begun} if begun else {}
    return {tracing.TRACEPARENT: begun or tracing.random_traceparent(), tracing.LINKED: earlier}


def _with_generation(parked: ParkedMessage, generation: int) -> bytes:
    """The body, with the generation that what it makes the next stages emit shall carry, where it carries one."""
    content = parked.content()
    return codec.encode(content | {"generation": generation}) if "shardId" in content else parked.body.encode()
