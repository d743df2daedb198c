"""Messages of every kind, through the real worker on the home on Azure: each ends as the design says."""

from typing import Any

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient
from azure_home import AzureHome
from chain_rig import TENANT, event, id_of
from functions_host.trigger_data import batch_of_messages
from service_bus_peer.peer import MAX_MESSAGE_SIZE

from messaging import codec
from messaging.contracts import IngestionEvent
from messaging.queues import INGESTION_EVENTS
from shards.parked import ParkedMessage

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("azure messages")]

KILOBYTE = 1024


def account(number: int, description: str) -> IngestionEvent:
    return event("Account", number, 0.0, Name=f"Account {number}", Description=description)


async def send_as_it_is(home: AzureHome, body: bytes, **fields: Any) -> None:
    """Send a message that is none of the product's own, as any producer may."""
    await send_together(home, [ServiceBusMessage(body, **fields)])


async def send_together(home: AzureHome, messages: list[ServiceBusMessage]) -> None:
    """Send messages in one transfer."""
    async with (
        ServiceBusClient.from_connection_string(home.bus.connection_string) as client,
        client.get_queue_sender(INGESTION_EVENTS) as sender,
    ):
        await sender.send_messages(messages)


async def the_end(home: AzureHome, *, reason: str) -> list[ParkedMessage]:
    """The messages that are parked for *reason* once nothing is left to do."""
    await home.until_idle()
    assert home.dead_letters() == []
    parked = (await home.services.store.parked(limit=1000)).items
    return [message for message in parked if message.reason == reason]


async def stored_text(home: AzureHome, number: int) -> str:
    """The description that was stored of an account, which must be searchable in whole."""
    await home.until_idle()
    assert home.dead_letters() == []
    shard = await home.services.store.get(TENANT, id_of("Account", number))
    assert shard is not None
    chunks = await home.services.store.chunks(TENANT, shard.id)
    assert chunks
    assert all(chunk.vector is not None for chunk in chunks)
    return str(shard.structured_data["description"])


async def test_a_message_of_a_megabyte_is_stored_by_claim_check(home: AzureHome) -> None:
    words = " ".join(f"word{number}" for number in range(110_000))[: KILOBYTE * KILOBYTE]
    big = account(1, words)
    assert len(big.to_bytes()) > KILOBYTE * KILOBYTE > MAX_MESSAGE_SIZE
    await home.send([big])
    assert await stored_text(home, 1) == words


async def test_a_message_of_multi_byte_text_is_stored_by_claim_check(home: AzureHome) -> None:
    text = "東京の水道局はポンプを更新する。" * (300 * KILOBYTE // (16 * 3))
    several = account(2, text)
    assert len(text) * 2 < MAX_MESSAGE_SIZE < 300 * KILOBYTE - 100 < len(several.to_bytes())
    await home.send([several])
    assert await stored_text(home, 2) == text


async def test_a_message_of_a_newer_schema_is_parked_as_it_is(home: AzureHome) -> None:
    newer = codec.decode(account(3, "new").to_bytes()) | {"schemaVersion": 2, "unheardOf": [1]}
    await send_as_it_is(home, codec.encode(newer), message_id="newer", correlation_id="story")
    [parked] = await the_end(home, reason="newer-schema")
    assert (parked.message_id, parked.correlation_id) == ("newer", "story")
    assert codec.decode(parked.body) == newer
    assert await home.services.store.get(TENANT, id_of("Account", 3)) is None


@pytest.mark.parametrize("body", [b"no JSON at all", b"", b"\xff\xfe", b"[1]"])
async def test_a_body_that_is_no_event_is_parked(home: AzureHome, body: bytes) -> None:
    name = f"no event {body.hex()}"
    await send_as_it_is(home, body, message_id=name, application_properties={"tenantId": TENANT})
    parked = {message.message_id for message in await the_end(home, reason="invalid-message")}
    assert name in parked


async def test_good_messages_are_stored_beside_bad_ones_of_their_batch(home: AzureHome) -> None:
    good = account(4, "A pump station.").to_message(INGESTION_EVENTS)
    batch = [
        ServiceBusMessage(b""),
        ServiceBusMessage(good.body, message_id=good.message_id),
        ServiceBusMessage(b"{", message_id="bad"),
    ]
    await send_together(home, batch)
    assert await stored_text(home, 4) == "A pump station."
    assert "bad" in {message.message_id for message in await the_end(home, reason="invalid-message")}


async def test_a_producer_that_sets_no_message_id_is_served(home: AzureHome) -> None:
    await send_as_it_is(home, account(5, "Without an id.").to_bytes())
    assert await stored_text(home, 5) == "Without an id."


async def test_an_empty_batch_returns(home: AzureHome) -> None:
    worker = home.instance.worker
    for function in worker.functions.values():
        if function.takes_batches:
            trigger = batch_of_messages([], as_bytes=function.takes_bytes, capabilities=worker.capabilities)
            done = await worker.invoke(function, trigger)
            assert done.succeeded, done.stack


async def test_the_log_tells_of_the_app_and_not_of_each_request(home: AzureHome) -> None:
    """Azure's libraries log each request with its headers unless they are kept from it."""
    lines = [line for line in home.instance.worker.log if line.category.startswith("azure.")]
    assert {line.category for line in lines if line.level in {"DEBUG", "INFO"}} <= {"azure.functions"}
