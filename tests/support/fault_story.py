"""Records on their way through the home on Azure while everything on that way fails: what must be left in the end.

The same records through the home on one machine, where nothing fails, tell what is right.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any
from unittest.mock import patch

from azure_home import PATIENCE, AzureHome
from chain_rig import TENANT, Rig, current, event, record_id
from cosmos_peer import FORBIDDEN, PRECONDITION_FAILED, THROTTLED, Fault
from home_picture import HomePicture, differences, picture_of

from messaging.contracts import IngestionEvent
from messaging.queues import SHARD_EMISSION

WORDS = ("contract", "renewal", "pump", "valve", "service", "outage", "invoice", "audit", "training", "delivery")

SLOWEST = 5.0
"""Records a second that even a busy machine gets through the chain."""

Failure = Callable[[AzureHome], Awaitable[None]]


def story_events(records: int, *, seed: int = 7) -> list[IngestionEvent]:
    """Events of so many made-up records: accounts with their parents, contacts and opportunities of accounts."""
    choose = random.Random(seed)

    def said(words: int) -> str:
        return " ".join(choose.choice(WORDS) for _ in range(words)).capitalize() + "."

    accounts = max(records * 2 // 5, 1)
    events = []
    for number in range(records):
        version = float(number)
        account = record_id("Account", choose.randrange(accounts))
        if number < accounts:
            text = said(400 if number % 50 == 0 else 30)
            parent: dict[str, Any] = {"ParentId": account} if number % 3 == 0 else {}
            events.append(event("Account", number, version, Name=f"Account {number}", Description=text, **parent))
        elif number % 2:
            fields: dict[str, Any] = {
                "LastName": f"Person {number}",
                "Email": f"person{number}@acme.example",
                "AccountId": account,
            }
            events.append(event("Contact", number, version, **fields))
        else:
            fields = {"Name": f"Deal {number}", "StageName": "Prospecting", "AccountId": account}
            events.append(event("Opportunity", number, version, Amount=number * 10, Description=said(20), **fields))
    return events


async def undisturbed(folder: Path, events: Sequence[IngestionEvent]) -> HomePicture:
    """What the home on one machine makes of the events."""
    rig = Rig(folder)
    try:
        with patch("processors.blueprint.services", current.get):
            await rig.run(*events)
        return await picture_of(rig.store, TENANT)
    finally:
        await rig.close()


@dataclass
class StoryEnd:
    """How a story ended. *differences* are from the undisturbed home; all three lists are empty when all is well."""

    picture: HomePicture
    differences: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    dead_letters: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What was lost, doubled, or given up on without deserving it."""
        return [*self.dead_letters, *self.parked, *self.differences]


async def tell(
    home: AzureHome, events: Sequence[IngestionEvent], failures: Sequence[Failure], right: HomePicture
) -> StoryEnd:
    """Send *events* in as many portions as there are *failures*; each strikes while its portion is worked on."""
    size = -(-len(events) // max(len(failures), 1))
    for start, failure in zip_longest(range(0, len(events), size), failures):
        await home.send(events[start : start + size])
        if failure is not None:
            await home.until_at_work()
            await failure(home)
    await home.until_idle(patience=PATIENCE + len(events) / SLOWEST)
    home.cosmos.heal()
    picture = await picture_of(home.services.store, TENANT)
    return StoryEnd(picture, differences(right, picture), await home.parked(), home.dead_letters())


# The failures


async def connections_dropped(home: AzureHome) -> None:
    """Every AMQP connection breaks without a word, the app's and the host's."""
    assert home.bus.faults.drop_connections()


async def links_detached(home: AzureHome) -> None:
    """Every link is closed with an error, as the service does after ten idle minutes."""
    assert home.bus.faults.detach_links()


async def broker_busy(home: AzureHome) -> None:
    """The namespace throttles: it takes nothing of the next stage's messages for now."""
    home.bus.faults.refuse_sends(queue=SHARD_EMISSION)


async def store_away(home: AzureHome) -> None:
    """The store lets nobody in, until work has been put off for it."""
    home.cosmos.fail(Fault(FORBIDDEN))
    await home.until_put_off()
    home.cosmos.heal()


async def store_throttling(home: AzureHome) -> None:
    """From now on the store throttles a third of all calls, and refuses the first change of each item."""
    refused = Fault(PRECONDITION_FAILED, operations=("replace", "patch", "batch"), first_write_of_each=True)
    home.cosmos.fail(Fault(THROTTLED, share=1 / 3), refused)


async def broker_silent(home: AzureHome) -> None:
    """Connections break as sends and settlements are under way: nobody knows which of them were done."""
    home.bus.faults.drop_on_send(accepted=True)
    home.bus.faults.drop_on_send(accepted=False)
    home.bus.faults.drop_on_settlement(settled=True)
    home.bus.faults.drop_on_settlement(settled=False)


async def instance_lost(home: AzureHome) -> None:
    """The instance goes in the middle of a batch; what it held comes again when its locks end."""
    await home.lose_instance()
