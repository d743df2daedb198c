"""An org that pushes, for each test, and retries that do not wait."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
from pushed_org import PushedOrg


@pytest.fixture
async def org(tmp_path: Path) -> AsyncIterator[PushedOrg]:
    """An empty org, connected for what the samples are about."""
    made = PushedOrg(tmp_path)
    await made.connect("Account", "Contact", "Opportunity")
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=4):
        yield
