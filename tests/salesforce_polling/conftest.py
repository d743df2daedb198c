"""An org for each test, and retries that do not wait."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
from polled_org import PolledOrg


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[PolledOrg]:
    """An empty org, connected for contacts."""
    made = PolledOrg(tmp_path)
    await made.connect()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=4):
        yield
