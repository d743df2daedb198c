"""Messages go by ids that are their own, whatever the host's lists of ids have lost."""

from collections.abc import Sequence

from azure.functions.servicebus import ServiceBusMessage

from messaging.queues import INGESTION_EVENTS
from processors.incoming import incoming


def handed_over(ids: Sequence[str | None], correlation_ids: Sequence[str | None]) -> list[ServiceBusMessage]:
    """Messages with the sequence numbers 1, 2, 3 … as the worker makes them."""
    return [
        ServiceBusMessage(
            body=b"{}",
            message_id=message_id,  # type: ignore[arg-type]  # the worker gives None where the host gave nothing
            correlation_id=correlation_id,
            sequence_number=number,
            application_properties={"number": number},
            user_properties={},
        )
        for number, (message_id, correlation_id) in enumerate(zip(ids, correlation_ids, strict=True), 1)
    ]


def test_messages_that_all_have_ids_go_by_them() -> None:
    taken = incoming(handed_over(["a", "b"], ["x", "y"]), INGESTION_EVENTS)
    assert [(message.message_id, message.correlation_id) for message in taken] == [("a", "x"), ("b", "y")]
    assert [message.application_properties["number"] for message in taken] == [1, 2]
    assert [message.delivery_count for message in taken] == [1, 1]


def test_where_one_id_is_missing_all_go_by_their_numbers() -> None:
    taken = incoming(handed_over(["b", "c", None], ["x", "y", "z"]), INGESTION_EVENTS)
    assert [message.message_id for message in taken] == [f"{INGESTION_EVENTS}/{number}" for number in (1, 2, 3)]
    assert [message.correlation_id for message in taken] == ["x", "y", "z"]


def test_where_one_correlation_id_is_missing_none_is_told() -> None:
    taken = incoming(handed_over(["a", "b"], ["y", None]), INGESTION_EVENTS)
    assert [(message.message_id, message.correlation_id) for message in taken] == [("a", None), ("b", None)]


def test_an_empty_batch_has_no_messages() -> None:
    assert incoming([], INGESTION_EVENTS) == []
