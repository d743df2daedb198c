"""Dead letters: what the bus itself gave up on is parked, where people see it and can replay it."""

import logging
from dataclasses import dataclass

from messaging.bus import DeadLetter, MessageBus
from messaging.claim_check import Payloads, without_payload
from messaging.queues import QUEUES
from messaging.times import Clock, to_text
from operations.metrics import Metrics
from shards.parked import ParkedMessage, ParkedMessages, parked_message

log = logging.getLogger(__name__)

REASON = "dead-lettered"
PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadLetterPorts:
    """What draining dead letters reaches of the world."""

    bus: MessageBus
    parked: ParkedMessages
    payloads: Payloads
    clock: Clock
    metrics: Metrics


async def drain(ports: DeadLetterPorts) -> int:
    """Park the dead letters of every queue; how many there were.

    They are taken off the queue only once they are parked: broken off in between, the next run parks the same again.
    """
    drained = 0
    for queue in QUEUES:
        after = 0
        while letters := await ports.bus.dead_letters(queue, limit=PAGE, after=after):
            await ports.parked.park([await _parked(letter, ports) for letter in letters])
            await ports.bus.remove_dead_letters(queue, [letter.sequence_number for letter in letters])
            log.warning("%s: parked %d dead letters (%s)", queue, len(letters), letters[0].reason)
            ports.metrics.dead_letters(queue, len(letters))
            drained += len(letters)
            # One that someone else holds just now stays, for the next run.
            after = letters[-1].sequence_number
    return drained


async def _parked(letter: DeadLetter, ports: DeadLetterPorts) -> ParkedMessage:
    return parked_message(
        queue=letter.queue,
        body=await without_payload(letter.queue, letter.body, ports.payloads),
        # One that its producer gave no id goes by its number: parked under none, each would take the last one's place.
        message_id=letter.message_id or f"{letter.queue}/$deadletterqueue/{letter.sequence_number}",
        correlation_id=letter.correlation_id,
        properties=letter.properties,
        delivery_count=letter.delivery_count,
        reason=REASON,
        detail=f"the bus gave up on it: {letter.reason}, {letter.description}",
        parked_at=to_text(ports.clock()),
    )
