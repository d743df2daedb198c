"""The namespace on a socket: every connection's way to the broker, and the messages' way to whoever waits for them."""

import asyncio
from collections import deque

from messaging.times import Clock, to_milliseconds
from service_bus_peer.amqp_connection import AmqpConnection, ReceiverLink
from service_bus_peer.broker import Broker, Entity
from service_bus_peer.counters import Counters
from service_bus_peer.faults import Faults


class Listener:
    """Accepts connections on a loopback port. Everything of it runs on one event loop."""

    def __init__(self, broker: Broker, clock: Clock, *, max_message_size: int) -> None:
        self.broker = broker
        self.faults = Faults()
        self.counters = Counters()
        self.max_message_size = max_message_size
        self.hanging = False
        self.connections: set[AmqpConnection] = set()
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._receivers: dict[Entity, deque[ReceiverLink]] = {}
        self._changed: set[Entity] = set()
        self._handing_out = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at: int | None = None

    async def listen(self, port: int) -> int:
        """Begin to accept connections; the port, a free one if *port* is 0."""
        self._server = await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """End every connection and accept no more."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.drop()
        if self._server is not None:
            await self._server.wait_closed()

    def hang(self) -> None:
        """Answer nothing, on old and new connections, until :meth:`go_on`."""
        self.hanging = True

    def go_on(self) -> None:
        """Answer again, what has come meanwhile first."""
        self.hanging = False
        for connection in list(self.connections):
            connection.go_on()
        self.look_again()

    def look_again(self) -> None:
        """See what time has changed, and hand out what may be received."""
        # The alarm has rung, or the clock was moved and the time left until it is another.
        self._alarm_at = None
        for entity in self.broker:
            self.changed(entity)

    def entity(self, path: str) -> Entity | None:
        """See :class:`service_bus_peer.amqp_connection.Host`."""
        return self.broker.entity(path)

    def changed(self, entity: Entity) -> None:
        """See :class:`service_bus_peer.amqp_connection.Host`."""
        self._changed.add(entity)
        if not self._handing_out:
            self._handing_out = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def opened(self, receiver: ReceiverLink) -> None:
        """See :class:`service_bus_peer.amqp_connection.Host`."""
        self._receivers.setdefault(receiver.entity, deque()).append(receiver)

    def closed(self, receiver: ReceiverLink) -> None:
        """See :class:`service_bus_peer.amqp_connection.Host`."""
        self._receivers[receiver.entity].remove(receiver)

    def gone(self, connection: AmqpConnection) -> None:
        """See :class:`service_bus_peer.amqp_connection.Host`."""
        self.connections.discard(connection)

    def _accept(self) -> AmqpConnection:
        connection = AmqpConnection(self)
        self.connections.add(connection)
        return connection

    def _hand_out(self) -> None:
        self._handing_out = False
        if self.hanging:
            return
        changed, self._changed = self._changed, set()
        for entity in changed:
            entity.pass_time()
            # A dead letter that time has made belongs to the neighbour.
            neighbours = [entity] if entity.dead_letters is None else [entity, entity.dead_letters]
            for each in neighbours:
                self._hand_out_of(each)
        self._set_alarm()

    def _hand_out_of(self, entity: Entity) -> None:
        receivers = self._receivers.get(entity)
        if not receivers:
            return
        # Each receiver in turn gets one message, so that several share a queue.
        idle = 0
        while idle < len(receivers) and entity.receivable:
            receiver = receivers[0]
            receivers.rotate(-1)
            if receiver.wants == 0:
                idle += 1
                continue
            idle = 0
            for message in entity.receive(1, delete=receiver.deletes):
                receiver.deliver(message)
        for receiver in receivers:
            receiver.nothing_more()

    def _set_alarm(self) -> None:
        due = self.broker.next_change
        if due == self._alarm_at:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, due
        if due is not None:
            delay = max(0, due - to_milliseconds(self._clock())) / 1000
            # One millisecond more, as the clock is read in whole ones.
            self._alarm = asyncio.get_running_loop().call_later(delay + 0.001, self.look_again)
