"""Short pauses for azure-servicebus: it looks for an answer every 50 to 100 ms, and for its own end every second."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from azure.servicebus._pyamqp.aio import _client_async, _connection_async, _session_async
from azure.servicebus.aio import _servicebus_receiver_async, _servicebus_sender_async

PAUSE = 0.005
PAUSING = (_client_async, _connection_async, _session_async, _servicebus_receiver_async, _servicebus_sender_async)


class _Asyncio:
    """The module, but that no sleep is long."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, delay: float) -> None:
        await asyncio.sleep(min(delay, PAUSE))


@contextmanager
def short_pauses() -> Iterator[None]:
    """Let the SDK look oftener: on loopback the answer is there at once. Nothing else of it is changed."""
    with pytest.MonkeyPatch.context() as patch:
        for module in PAUSING:
            patch.setattr(module, "asyncio", _Asyncio())
        yield
