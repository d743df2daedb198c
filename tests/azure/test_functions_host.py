"""The host of the tests against a Service Bus on the wire: it treats messages as Azure's host does.

The functions are those of ``tests/app/echo_app``, which log what reaches them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from functions_host.environment import ROOT, worker_python
from functions_host.functions import MissingSettingError
from functions_host.host import FunctionsHost, Instance
from service_bus_peer.peer import ServiceBusPeer
from service_bus_peer.proton_requirement import require_proton

from local.host.host_json import HostSettings
from messaging.queues import QueueProperties

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("functions host")]

ECHO_APP = ROOT / "tests" / "app" / "echo_app"
QUEUES = ("one-text", "many-texts", "one-bytes", "many-bytes", "awkward")
LOCK = timedelta(minutes=5)
MOST = 4


class Echoing:
    """The echo app on a peer of its own."""

    def __init__(self, host: FunctionsHost, peer: ServiceBusPeer, client: ServiceBusClient) -> None:
        self.host = host
        self.peer = peer
        self._senders = {queue: client.get_queue_sender(queue) for queue in QUEUES}

    @property
    def instance(self) -> Instance:
        """The only instance."""
        [instance] = self.host.instances
        return instance

    async def send(self, queue: str, bodies: Sequence[bytes]) -> None:
        """Send a message of each body, all in one transfer."""
        messages = [
            ServiceBusMessage(
                body,
                message_id=f"id-{number}",
                correlation_id=f"story-{number}",
                content_type="application/json",
                subject="record",
                application_properties={"tenantId": "acme", "generation": number, "replayed": False},
            )
            for number, body in enumerate(bodies)
        ]
        await self._senders[queue].send_messages(messages)

    async def handed(self, count: int) -> list[list[dict[str, Any]]]:
        """What the functions of the instance got that was not asked for yet: batches of *count* messages in all.

        The SDK ends a batch at a gap in what comes in, so how many it is cut into is not known before.
        """
        log = self.instance.worker.log
        batches: list[list[dict[str, Any]]] = []
        async with asyncio.timeout(100):
            while sum(map(len, batches)) < count:
                await asyncio.sleep(0.01)
                said = [json.loads(line.message) for line in log if line.category == "echo"]
                batches = [one if isinstance(one, list) else [one] for one in said]
        log.clear()
        return batches

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """The same messages without regard to batches, by id."""
        batches = await self.handed(count)
        return sorted(
            (message for batch in batches for message in batch), key=lambda message: str(message["messageId"])
        )

    async def empty(self, queue: str) -> None:
        """Wait until nothing of the queue is left."""
        await until(lambda: (depth := self.peer.state.depth(queue)).active + depth.locked == 0)

    async def close(self) -> None:
        """Close the senders."""
        await asyncio.gather(*(sender.close() for sender in self._senders.values()))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not holds():  # noqa: ASYNC110 - the peer tells nobody when something changes
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echoing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Echoing]:
    """One instance of the echo app, listening."""
    require_proton()
    worker_python()
    queues = {
        name: QueueProperties(name, lock_duration=LOCK, max_delivery_count=3, duplicate_detection_window=timedelta(0))
        for name in QUEUES
    }
    with ServiceBusPeer(queues) as peer:
        host = FunctionsHost(
            {"Bus": peer.connection_string, "EVERY": "* * * * * *"},
            tmp_path_factory.mktemp("host"),
            directory=ECHO_APP,
            host_json=HostSettings(max_message_batch_size=MOST, max_concurrent_calls=2),
        )
        async with ServiceBusClient.from_connection_string(peer.connection_string) as client:
            echo = Echoing(host, peer, client)
            try:
                await host.add_instance()
                yield echo
            finally:
                await echo.close()
                await host.close()


def seen(message: dict[str, Any]) -> dict[str, Any]:
    return {name: message[name] for name in ("messageId", "correlationId", "contentType", "subject", "deliveryCount")}


def expected(number: int, delivery_count: int = 1) -> dict[str, Any]:
    return {
        "messageId": f"id-{number}",
        "correlationId": f"story-{number}",
        "contentType": "application/json",
        "subject": "record",
        "deliveryCount": delivery_count,
    }


@pytest.mark.parametrize("queue", ["one-text", "one-bytes"])
async def test_what_was_sent_reaches_a_function_of_single_messages(echoing: Echoing, queue: str) -> None:
    await echoing.send(queue, ["größer".encode(), b"2"])
    first, second = await echoing.messages(2)
    assert [seen(first), seen(second)] == [expected(0), expected(1)]
    assert bytes.fromhex(first["body"]).decode() == "größer"
    assert second["applicationProperties"] == {"tenantId": "acme", "generation": 1, "replayed": False}
    await echoing.empty(queue)


@pytest.mark.parametrize("queue", ["many-texts", "many-bytes"])
async def test_what_was_sent_reaches_a_function_of_batches(echoing: Echoing, queue: str) -> None:
    await echoing.send(queue, ["größer".encode(), b"2", b"3"])
    messages = await echoing.messages(3)
    assert [seen(message) for message in messages] == [expected(number) for number in range(3)]
    assert [message["applicationProperties"]["generation"] for message in messages] == [0, 1, 2]
    numbers = [message["sequenceNumber"] for message in messages]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    await echoing.empty(queue)


async def test_no_batch_is_larger_than_host_json_says(echoing: Echoing) -> None:
    await echoing.send("many-bytes", [b"%d" % number for number in range(20)])
    sizes = [len(batch) for batch in await echoing.handed(20)]
    assert (sum(sizes), max(sizes) <= MOST) == (20, True)
    await echoing.empty("many-bytes")


async def test_a_batch_that_failed_comes_again_with_a_higher_count(echoing: Echoing) -> None:
    await echoing.send("awkward", [b"fail"])
    assert [[seen(message) for message in batch] for batch in await echoing.handed(2)] == [
        [expected(0)],
        [expected(0, 2)],
    ]
    await echoing.empty("awkward")


async def test_connections_that_break_keep_no_message_from_its_function(echoing: Echoing) -> None:
    assert echoing.peer.faults.drop_connections()
    await echoing.send("many-bytes", [b"after the drop"])
    await echoing.handed(1)
    await echoing.empty("many-bytes")
    assert echoing.peer.faults.detach_links(role="receiver")
    await echoing.send("one-bytes", [b"after the detach"])
    await echoing.handed(1)
    await echoing.empty("one-bytes")


async def test_what_a_lost_instance_held_comes_again_when_its_locks_end(echoing: Echoing) -> None:
    await echoing.send("awkward", [b"wait"])
    await echoing.handed(1)
    await echoing.host.lose(echoing.instance)
    assert echoing.peer.state.depth("awkward").locked == 1

    await echoing.host.add_instance()
    echoing.peer.advance(LOCK)
    assert [seen(message) for message in await echoing.messages(1)] == [expected(0, 2)]
    await echoing.empty("awkward")
    assert echoing.peer.state.dead_letters("awkward") == []


async def test_a_binding_that_names_a_setting_which_is_missing_starts_nothing(tmp_path: Path) -> None:
    require_proton()
    host = FunctionsHost({}, tmp_path, directory=ECHO_APP, host_json=HostSettings())
    with pytest.raises(MissingSettingError, match="the setting Bus is missing"):
        await host.add_instance()
    await host.close()


async def test_a_worker_that_ends_by_itself_gives_its_messages_back_at_once(echoing: Echoing) -> None:
    await echoing.send("awkward", [b"wait"])
    await echoing.handed(1)
    lost = echoing.instance
    lost.worker.kill()
    await until(lambda: echoing.peer.state.depth("awkward").locked == 0)
    await echoing.host.lose(lost)
    await echoing.host.add_instance()
    await echoing.empty("awkward")


async def test_timers_fire_by_their_schedule(echoing: Echoing) -> None:
    echoing.host.run_timers()
    log = echoing.instance.worker.log
    await until(lambda: sum(line.category == "echo" for line in log) >= 2)
    log.clear()
