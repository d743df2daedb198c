"""What the tests of the bus on Service Bus share: a peer on the wire with the contract's queues, and the way to it."""

from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from azure.servicebus.aio import ServiceBusClient
from message_bus_contract import QUEUES
from service_bus_pauses import short_pauses
from service_bus_peer import ServiceBusPeer, require_proton
from service_bus_receiver import ServiceBusReceiver

from messaging.service_bus import CLIENT_OPTIONS

Connect = Callable[[], ServiceBusClient]


@pytest.fixture
def peer() -> Iterator[ServiceBusPeer]:
    """A namespace; the SDK's pauses are short."""
    require_proton()
    with short_pauses(), ServiceBusPeer(QUEUES) as peer:
        yield peer


@pytest.fixture
def connect(peer: ServiceBusPeer) -> Connect:
    """Makes a client of the namespace."""
    return lambda: ServiceBusClient.from_connection_string(peer.connection_string, **CLIENT_OPTIONS)


@pytest.fixture
async def service_bus_receiver(peer: ServiceBusPeer, connect: Connect) -> AsyncIterator[ServiceBusReceiver]:
    """The receiving half."""
    receiver = ServiceBusReceiver(connect, queues=QUEUES, clock=peer.time.now)
    yield receiver
    await receiver.close()
