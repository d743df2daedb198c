"""From a Service Bus queue to its function, as the host's Service Bus extension does it, with the real SDK.

Messages are received under a lock that is the broker's to end. A batch goes to the function whole, one batch at a
time, and its locks are not renewed; single messages run side by side under locks that are. What the function returned
from is completed, what it failed on is abandoned, each message by itself; where that fails too the lock ends some time
and the message comes again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import AutoLockRenewer, ServiceBusClient, ServiceBusReceiver
from azure.servicebus.exceptions import ServiceBusError

from functions_host.functions import Function
from functions_host.trigger_data import QueueMessage, TriggerValue, batch_of_messages, single_message
from functions_host.worker import Invocation, WorkerEndedError
from local.host.host_json import HostSettings
from messaging.service_bus_messages import body_of

_log = logging.getLogger("functions_host.queue_pump")

LOOK_SECONDS: Final = 5.0
"""How long a receive waits for the first message. A link that broke must be closed and opened again within it."""
PAUSE_AFTER_ERROR: Final = 0.1

Invoke = Callable[[Function, TriggerValue], Awaitable[Invocation]]


class QueuePump:
    """Feeds one function until it is told to stop, or cancelled, which leaves messages under their locks.

    *busy* counts the messages that are with the function or not settled yet.
    """

    def __init__(
        self,
        function: Function,
        queue: str,
        client: ServiceBusClient,
        invoke: Invoke,
        *,
        settings: HostSettings,
        capabilities: Mapping[str, str],
    ) -> None:
        self.function = function
        self.queue = queue
        self.busy = 0
        self._client = client
        self._invoke = invoke
        self._settings = settings
        self._capabilities = capabilities
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Receive no more; :meth:`run` returns once what is held is settled."""
        self._stop.set()

    async def run(self) -> None:
        """Work until :meth:`stop`. A receiver that broke is replaced by a new one."""
        while not self._stop.is_set():
            try:
                async with self._client.get_queue_receiver(self.queue) as receiver:
                    await (self._run_batches(receiver) if self.function.takes_batches else self._run_single(receiver))
            except (ServiceBusError, ValueError, AttributeError, OSError) as error:
                # The SDK's receiver tells that its link is gone in all these ways.
                _log.info("the receiver of %s broke: %r", self.queue, error)
                await asyncio.sleep(PAUSE_AFTER_ERROR)

    async def _run_batches(self, receiver: ServiceBusReceiver) -> None:
        most = self._settings.max_message_batch_size
        while not self._stop.is_set():
            held = await self._receive(receiver, most)
            if held:
                trigger = batch_of_messages(
                    [queue_message(message) for message in held],
                    as_bytes=self.function.takes_bytes,
                    capabilities=self._capabilities,
                )
                await self._handle(receiver, held, trigger)

    async def _run_single(self, receiver: ServiceBusReceiver) -> None:
        running: set[asyncio.Task[None]] = set()
        renewer: Any = AutoLockRenewer()
        longest = self._settings.max_auto_lock_renewal.total_seconds()
        try:
            while not self._stop.is_set():
                free = self._settings.max_concurrent_calls - len(running)
                if free <= 0:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    continue
                for message in await self._receive(receiver, free):
                    renewer.register(receiver, message, max_lock_renewal_duration=longest)
                    trigger = single_message(queue_message(message), as_bytes=self.function.takes_bytes)
                    task = asyncio.create_task(self._handle(receiver, [message], trigger))
                    running.add(task)
                    task.add_done_callback(running.discard)
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await renewer.close()

    async def _receive(self, receiver: ServiceBusReceiver, most: int) -> list[ServiceBusReceivedMessage]:
        """Up to *most* messages; none when there are none for a while or the pump is to stop."""
        stopping = asyncio.create_task(self._stop.wait())
        receiving = asyncio.create_task(receiver.receive_messages(max_message_count=most, max_wait_time=LOOK_SECONDS))
        try:
            await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return receiving.result() if receiving.done() else []
        finally:
            stopping.cancel()
            if receiving.cancel():
                # What it has got already is released when the receiver is closed.
                await asyncio.wait({receiving})

    async def _handle(
        self, receiver: ServiceBusReceiver, held: Sequence[ServiceBusReceivedMessage], trigger: TriggerValue
    ) -> None:
        self.busy += len(held)
        try:
            try:
                succeeded = (await self._invoke(self.function, trigger)).succeeded
            except WorkerEndedError:
                succeeded = False
            settle = receiver.complete_message if succeeded else receiver.abandon_message
            for outcome in await asyncio.gather(*(settle(message) for message in held), return_exceptions=True):
                if isinstance(outcome, BaseException):
                    if not isinstance(outcome, (ServiceBusError, ValueError, AttributeError, OSError)):
                        raise outcome
                    _log.info("%s: a message of %s could not be settled: %r", self.queue, self.function.name, outcome)
        finally:
            self.busy -= len(held)


def queue_message(message: ServiceBusReceivedMessage) -> QueueMessage:
    """The message as .NET's SDK shows it to the extension: a delivery count from 1 on, property names as texts."""
    return QueueMessage(
        body_of(message),
        message.message_id,
        sequence_number=message.sequence_number or 0,
        lock_token=str(message.lock_token),
        correlation_id=message.correlation_id,
        content_type=message.content_type,
        subject=message.subject,
        properties={_text(name): _text(value) for name, value in (message.application_properties or {}).items()},
        delivery_count=(message.delivery_count or 0) + 1,
        **({"enqueued_at": message.enqueued_time_utc} if message.enqueued_time_utc else {}),
        expires_at=message.expires_at_utc,
    )


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
