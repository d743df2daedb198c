"""An AMQP 1.0 peer for tests that speaks Service Bus's dialect, for the real azure-servicebus SDK to talk to.

``ServiceBusPeer`` runs it in a thread, ``ServiceBusPeerProcess`` in a process. Both have ``connection_string`` and

- ``faults``: what can be made to go wrong (:class:`service_bus_peer.controls.FaultControls`),
- ``state``: depths, messages, dead letters, counters (:class:`service_bus_peer.controls.StateViews`),
- ``time``: moving its time (:class:`service_bus_peer.controls.TimeControls`).

Queues live in memory and end with the peer. What it has accepted it never loses: a message ends by being completed,
cancelled, received-and-deleted, or dropped as a duplicate, and in no other way.
"""

from service_bus_peer.peer import (
    MAX_MESSAGE_SIZE,
    PeerHandle,
    ServiceBusPeer,
    ServiceBusPeerProcess,
)
from service_bus_peer.proton_requirement import require_proton

__all__ = ["MAX_MESSAGE_SIZE", "PeerHandle", "ServiceBusPeer", "ServiceBusPeerProcess", "require_proton"]
