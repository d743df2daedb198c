"""One connection of a client: proton's engine between a socket and the broker, in Service Bus's dialect of AMQP 1.0."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol
from uuid import UUID

from proton import Collector, Condition, Connection, Delivery, Event, Link, Terminus, Transport, symbol, ulong

from service_bus_peer.amqp_values import MalformedError
from service_bus_peer.broker import Entity, LockLostError, NotAllowedError, StoredMessage
from service_bus_peer.counters import Counters
from service_bus_peer.encoded_message import EncodedMessage, cut_batch
from service_bus_peer.faults import At, Detach, DropConnection, Fault, Faults, Refuse
from service_bus_peer.frames import BATCHED_FORMAT, IncomingFrames
from service_bus_peer.management import LOCK_LOST, Request, Response, handle

CBS = "$cbs"
_MANAGEMENT_SUFFIX = "/$management"
_MAX_FRAME_SIZE = 65_536
_IDLE_TIMEOUT_SECONDS = 240
_CREDIT = 1000
_LOCK_LOST = "The lock supplied is invalid. Either the lock expired, or the message has already been removed."
# A session filter asks for a queue with sessions; none here has them.
_SESSION_FILTER = "com.microsoft:session-filter"
_OUTCOMES = (Delivery.ACCEPTED, Delivery.REJECTED, Delivery.RELEASED, Delivery.MODIFIED)


class Host(Protocol):
    """What a connection asks of the listener that it belongs to."""

    faults: Faults
    counters: Counters
    max_message_size: int
    hanging: bool

    def entity(self, path: str) -> Entity | None:
        """The queue or dead-letter queue at *path*."""

    def changed(self, entity: Entity) -> None:
        """Messages of *entity* may be waiting for receivers, or its times have changed."""

    def opened(self, receiver: "ReceiverLink") -> None:
        """A receiver wants messages."""

    def closed(self, receiver: "ReceiverLink") -> None:
        """A receiver wants no more."""

    def gone(self, connection: "AmqpConnection") -> None:
        """The connection has ended."""


@dataclass(slots=True, eq=False)
class SenderLink:
    """A link on which a client sends to an entity."""

    link: Link
    entity: Entity


@dataclass(slots=True, eq=False)
class RequestLink:
    """A link on which a client sends requests to ``$cbs`` (no entity) or to an entity's ``$management``."""

    link: Link
    node: str
    entity: Entity | None


@dataclass(slots=True, eq=False)
class ResponseLink:
    """A link on which a client receives the answers of a node."""

    link: Link
    node: str


@dataclass(slots=True, eq=False)
class ReceiverLink:
    """A link on which a client receives the messages of an entity."""

    link: Link
    entity: Entity
    connection: "AmqpConnection"
    deletes: bool

    @property
    def wants(self) -> int:
        """For how many messages there is credit."""
        return 0 if self.connection.gone else max(0, int(self.link.credit))

    def deliver(self, message: StoredMessage) -> None:
        """Send *message*."""
        data = message.encoded()
        # A message that was deleted on delivery has no lock; its tag only has to differ from those in flight.
        token = message.lock_token or UUID(int=message.sequence_number)
        delivery = self.link.delivery(token.bytes_le)
        delivery.lock_token = token
        self.link.stream(data)
        self.link.advance()
        if self.deletes:
            delivery.settle()
        self.connection.counters.count(self.entity.path, "receive", size=len(data))
        self.connection.flush_soon()

    def nothing_more(self) -> None:
        """Give back the credit if the client drains the link."""
        if self.link.drain_mode and self.link.drained():
            self.connection.flush_soon()


_Role = SenderLink | RequestLink | ResponseLink | ReceiverLink


class AmqpConnection(asyncio.Protocol):
    """A connection from accepting it to its end."""

    def __init__(self, host: Host) -> None:
        self.gone = False
        self._host = host
        self.counters = host.counters
        self._loop = asyncio.get_running_loop()
        self._tcp: asyncio.Transport | None = None
        self._frames = IncomingFrames()
        self._collector = Collector()
        self._connection = Connection()
        self._transport = Transport(Transport.SERVER)
        self._roles: dict[Link, _Role] = {}
        self._authorized = False
        self._flushing = False
        self._unread: deque[bytes] = deque()
        self._tick: asyncio.TimerHandle | None = None

    def connection_made(self, tcp: asyncio.BaseTransport) -> None:
        assert isinstance(tcp, asyncio.Transport)
        self._tcp = tcp
        self.counters.connected()
        self._transport.sasl().allowed_mechs("ANONYMOUS EXTERNAL")
        self._transport.require_auth(False)
        self._transport.max_frame_size = _MAX_FRAME_SIZE
        self._transport.idle_timeout = _IDLE_TIMEOUT_SECONDS
        self._connection.container = "service-bus-peer"
        self._connection.collect(self._collector)
        self._transport.bind(self._connection)
        self.flush_soon()

    def data_received(self, data: bytes) -> None:
        self.counters.bytes_received += len(data)
        self._unread.append(data)
        if not self._host.hanging:
            self.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self.gone = True
        if self._tick is not None:
            self._tick.cancel()
        for role in self._roles.values():
            if isinstance(role, ReceiverLink):
                self._host.closed(role)
        self._roles.clear()
        self.counters.connections -= 1
        self._host.gone(self)

    def go_on(self) -> None:
        """Read what has come, and answer."""
        while self._unread and not self.gone:
            data = self._unread.popleft()
            self._frames.feed(data)
            while data and not self.gone:
                room = self._transport.capacity()
                if room <= 0:
                    break
                self._transport.push(data[:room])
                data = data[room:]
                self._handle_events()
        self.flush()

    def flush_soon(self) -> None:
        """Send what there is to send at the end of this turn of the loop."""
        if not self._flushing and not self.gone:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what there is to send."""
        self._flushing = False
        if self.gone or self._host.hanging or self._tcp is None:
            return
        self._keep_alive()
        while (size := self._transport.pending()) > 0:
            data = self._transport.peek(size)
            self._tcp.write(bytes(data))
            self.counters.bytes_sent += size
            self._transport.pop(size)
            self._handle_events()
        if self._transport.closed or size < 0:
            self._tcp.close()

    def drop(self) -> None:
        """Break the connection without a word."""
        self.gone = True
        if self._tcp is not None:
            self._tcp.abort()

    def close(self, condition: str, description: str) -> None:
        """Close the connection with an error."""
        self._connection.condition = _condition(condition, description)
        self._connection.close()
        self.flush_soon()

    def detach(
        self, condition: str, description: str, *, queue: str | None, role: Literal["sender", "receiver"] | None
    ) -> int:
        """Close the links to *queue* (or all) that *role* names with an error; how many these are."""
        kinds = {"sender": (SenderLink,), "receiver": (ReceiverLink,), None: (SenderLink, ReceiverLink)}[role]
        links = [each for each in self._roles.values() if isinstance(each, SenderLink | ReceiverLink)]
        chosen = [each for each in links if isinstance(each, kinds) and queue in (None, each.entity.path)]
        for each in chosen:
            self._close_link(each.link, condition, description)
        self.flush_soon()
        return len(chosen)

    def _keep_alive(self) -> None:
        """Let proton send heartbeats and notice a silent client, when it next wants to."""
        if self._tick is None and (deadline := self._transport.tick(self._loop.time())):
            self._tick = self._loop.call_at(deadline, self._tick_again)

    def _tick_again(self) -> None:
        self._tick = None
        self.flush()

    def _handle_events(self) -> None:
        while not self.gone and (event := self._collector.peek()) is not None:
            kind = event.type
            if kind is Event.DELIVERY:
                self._delivery(event.delivery)
            elif kind is Event.LINK_FLOW:
                self._flow(event.link)
            elif kind is Event.LINK_REMOTE_OPEN:
                self._attach(event.link)
            elif kind in (Event.LINK_REMOTE_CLOSE, Event.LINK_REMOTE_DETACH):
                self._detached(event.link)
            elif kind is Event.SESSION_REMOTE_OPEN:
                event.session.open()
            elif kind is Event.SESSION_REMOTE_CLOSE:
                self._session_ended(event.session)
            elif kind is Event.CONNECTION_REMOTE_OPEN:
                self._connection.open()
            elif kind is Event.CONNECTION_REMOTE_CLOSE:
                self._connection.close()
            self._collector.pop()

    def _attach(self, link: Link) -> None:
        path = _path((link.remote_target if link.is_receiver else link.remote_source).address or "")
        if path == CBS:
            self._open(link)
            self._roles[link] = RequestLink(link, CBS, None) if link.is_receiver else ResponseLink(link, CBS)
            return
        self.counters.count(path, "attach")
        of_management = path.lower().endswith(_MANAGEMENT_SUFFIX)
        entity = self._host.entity(path[: -len(_MANAGEMENT_SUFFIX)] if of_management else path)
        fault = self._host.faults.take(At.ATTACH, None if entity is None else entity.path)
        if fault is not None:
            self._refuse_link(link, fault)
        elif entity is None:
            self._refuse_link(link, Refuse("amqp:not-found", f"The messaging entity '{path}' could not be found."))
        elif of_management:
            self._open(link)
            self._roles[link] = RequestLink(link, path, entity) if link.is_receiver else ResponseLink(link, path)
        elif not self._authorized:
            self._refuse_link(link, Refuse("amqp:unauthorized-access", f"No token was put for '{path}'."))
        elif link.is_receiver:
            self._open(link)
            self._roles[link] = SenderLink(link, entity)
        elif _asks_for_session(link):
            self._refuse_link(link, Refuse("amqp:not-allowed", f"The messaging entity '{path}' has no sessions."))
        else:
            self._open(link)
            receiver = ReceiverLink(link, entity, self, deletes=link.remote_snd_settle_mode == Link.SND_SETTLED)
            self._roles[link] = receiver
            self._host.opened(receiver)

    def _open(self, link: Link) -> None:
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        link.snd_settle_mode = link.remote_snd_settle_mode
        link.rcv_settle_mode = link.remote_rcv_settle_mode
        link.max_message_size = self._host.max_message_size
        link.properties = {symbol("com.microsoft:max-message-batch-size"): ulong(self._host.max_message_size)}
        link.open()
        if link.is_receiver:
            link.flow(_CREDIT)

    def _refuse_link(self, link: Link, fault: Fault) -> None:
        """Answer an attach with an error: an attach without the terminus, then a detach (AMQP 1.0, 2.6.3)."""
        if isinstance(fault, DropConnection):
            self.drop()
            return
        (link.target if link.is_receiver else link.source).type = Terminus.UNSPECIFIED
        link.open()
        self._close_link(link, fault.condition, fault.description)

    def _close_link(self, link: Link, condition: str, description: str) -> None:
        link.condition = _condition(condition, description)
        link.close()
        self._forget(link)

    def _detached(self, link: Link) -> None:
        self._forget(link)
        link.close()
        link.free()

    def _session_ended(self, session: Any) -> None:
        for link in [link for link in self._roles if link.session == session]:
            self._forget(link)
        session.close()
        session.free()

    def _forget(self, link: Link) -> None:
        role = self._roles.pop(link, None)
        if isinstance(role, ReceiverLink):
            self._host.closed(role)

    def _flow(self, link: Link) -> None:
        role = self._roles.get(link)
        if isinstance(role, ReceiverLink):
            self._host.changed(role.entity)

    def _delivery(self, delivery: Delivery) -> None:
        role = self._roles.get(delivery.link)
        if isinstance(role, ReceiverLink):
            if delivery.updated:
                self._settlement(role, delivery)
        elif isinstance(role, SenderLink | RequestLink):
            if delivery.aborted:
                delivery.settle()
            elif delivery.readable and not delivery.partial:
                self._transfer(role, delivery)
        elif delivery.updated:
            # The client has settled an answer, or something of a link that is closed already.
            delivery.settle()

    def _transfer(self, role: SenderLink | RequestLink, delivery: Delivery) -> None:
        data = bytes(role.link.recv(delivery.pending))
        role.link.advance()
        message_format = self._frames.format_of_next(role.link.name)
        if role.link.credit < _CREDIT // 2:
            role.link.flow(_CREDIT - role.link.credit)
        if len(data) > self._host.max_message_size:
            # As the service does: the message is rejected, and then the link is closed for the same reason.
            condition = "amqp:link:message-size-exceeded"
            description = (
                f"The received message (delivery-id:0, size:{len(data)} bytes) exceeds the limit"
                f" ({self._host.max_message_size} bytes) currently allowed on the link."
            )
            _reject(delivery, condition, description)
            self._close_link(role.link, condition, description)
        elif isinstance(role, SenderLink):
            self._sent(role, delivery, data, batched=message_format == BATCHED_FORMAT)
        else:
            _accept(delivery)
            self._requested(role, data)

    def _sent(self, role: SenderLink, delivery: Delivery, data: bytes, *, batched: bool) -> None:
        entity = role.entity
        fault = self._host.faults.take(At.SEND, entity.path)
        if self._befalls(fault, role.link, partial(_refuse, delivery)):
            return
        try:
            contents = cut_batch(data) if batched else [EncodedMessage.cut(data)]
            entity.send(contents)
        except MalformedError as error:
            _reject(delivery, "amqp:decode-error", f"The message can't be read: {error}.")
            return
        except NotAllowedError as error:
            _reject(delivery, "amqp:not-allowed", f"{error}.")
            return
        self.counters.count(entity.path, "send", messages=len(contents), size=len(data))
        self._host.changed(entity)
        if isinstance(fault, DropConnection):
            self.drop()
        else:
            _accept(delivery)

    def _requested(self, role: RequestLink, data: bytes) -> None:
        request = Request.read(data)
        fault = self._host.faults.take(
            At.TOKEN if role.entity is None else At.MANAGEMENT, None if role.entity is None else role.entity.path
        )
        if self._befalls(
            fault,
            role.link,
            lambda refuse: self._respond(role, request, Response(refuse.status, refuse.description, refuse.condition)),
        ):
            return
        if role.entity is None:
            self.counters.count(CBS, "put-token")
            self._authorized = True
            response = Response(202, "Accepted")
        else:
            response = handle(role.entity, request)
            name = request.operation.removeprefix("com.microsoft:")
            self.counters.count(role.entity.path, name, messages=response.affected, size=response.size)
            self._host.changed(role.entity)
        if isinstance(fault, DropConnection):
            self.drop()
        else:
            self._respond(role, request, response)

    def _respond(self, role: RequestLink, request: Request, response: Response) -> None:
        answering = [each for each in self._roles.values() if isinstance(each, ResponseLink) and each.node == role.node]
        link = next((each.link for each in answering if each.link.session == role.link.session), None)
        if link is None:
            self._close_link(role.link, "amqp:precondition-failed", f"There is no link to answer on from {role.node}.")
            return
        delivery = link.delivery(link.delivery_tag())
        link.stream(response.to_cbs(request) if role.entity is None else response.to_management(request))
        link.advance()
        delivery.settle()

    def _settlement(self, role: ReceiverLink, delivery: Delivery) -> None:
        if delivery.remote_state not in _OUTCOMES:
            # Settled without an outcome: the lock stays until its end.
            if delivery.settled:
                delivery.settle()
            return
        fault = self._host.faults.take(At.SETTLEMENT, role.entity.path)
        if self._befalls(fault, role.link, partial(_refuse, delivery)):
            return
        try:
            kind = _settle(role.entity, delivery)
        except LockLostError:
            _reject(delivery, LOCK_LOST, _LOCK_LOST)
            return
        except NotAllowedError as error:
            _reject(delivery, "amqp:not-allowed", f"{error}.")
            return
        self.counters.count(role.entity.path, kind)
        self._host.changed(role.entity)
        if isinstance(fault, DropConnection):
            self.drop()
        else:
            _confirm(delivery)

    def _befalls(self, fault: Fault | None, link: Link, refuse: Callable[[Refuse], None]) -> bool:
        """Let *fault* happen in place of an operation on *link*; False if the operation is to be done."""
        match fault:
            case Refuse():
                refuse(fault)
            case Detach(condition, description):
                self._close_link(link, condition, description)
            case DropConnection(done=False):
                self.drop()
            case _:
                return False
        return True


def _settle(entity: Entity, delivery: Delivery) -> str:
    """Do to the message what the client's outcome says; which kind of operation that is."""
    token = delivery.lock_token
    match delivery.remote_state:
        case Delivery.ACCEPTED:
            entity.complete(token)
            return "complete"
        case Delivery.RELEASED:
            entity.release(token)
            return "release"
        case Delivery.REJECTED:
            condition = delivery.remote.condition
            info = {} if condition is None else {str(key): value for key, value in (condition.info or {}).items()}
            entity.dead_letter(token, info.get("DeadLetterReason"), info.get("DeadLetterErrorDescription"))
            return "dead-letter"
        case Delivery.MODIFIED if delivery.remote.undeliverable:
            entity.defer(token)
            return "defer"
        case _:
            entity.abandon(token)
            return "abandon"


def _accept(delivery: Delivery) -> None:
    delivery.update(Delivery.ACCEPTED)
    delivery.settle()


def _confirm(delivery: Delivery) -> None:
    """Tell the client that what it asked for was done: the outcome comes back as it was sent."""
    if delivery.remote_state == Delivery.MODIFIED:
        delivery.local.failed = delivery.remote.failed
        delivery.local.undeliverable = delivery.remote.undeliverable
    delivery.update(delivery.remote_state)
    delivery.settle()


def _refuse(delivery: Delivery, fault: Refuse) -> None:
    _reject(delivery, fault.condition, fault.description)


def _reject(delivery: Delivery, condition: str, description: str) -> None:
    delivery.local.condition = _condition(condition, description)
    delivery.update(Delivery.REJECTED)
    delivery.settle()


def _condition(name: str, description: str) -> Condition:
    # The service sends three fields always, and the SDK reads the third without asking whether there is one; proton
    # leaves it out when it says nothing.
    return Condition(name, description, {symbol("com.microsoft:tracking-id"): "service-bus-peer"})


def _asks_for_session(link: Link) -> bool:
    filters = link.remote_source.filter
    filters.rewind()
    return bool(filters.next()) and _SESSION_FILTER in (filters.get_object() or {})


def _path(address: str) -> str:
    """The path of an entity in an address, which may be a whole URL."""
    if "://" in address:
        address = address.split("://", 1)[1].partition("/")[2]
    return address.strip("/")
