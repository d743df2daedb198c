"""A chain whose spans and metrics are captured, beside a simulated org that it can poll."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from captured_telemetry import Captured, captured_telemetry
from chain_rig import Rig, current
from polled_org import PolledOrg
from polling_rig import PollingRig

from messaging.times import utc_now


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    """Spans and metrics of the test."""
    with captured_telemetry(monkeypatch) as found:
        yield found


@pytest.fixture
async def rig(
    tmp_path: Path, chain_functions: None, monkeypatch: pytest.MonkeyPatch, captured: Captured
) -> AsyncIterator[Rig]:
    """The chain over a new folder, its metrics captured."""
    monkeypatch.setattr("operations.blueprint.services", current.get)
    made = Rig(tmp_path / "data", telemetry=captured.telemetry)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def polling(
    tmp_path: Path, source_functions: None, monkeypatch: pytest.MonkeyPatch, captured: Captured
) -> AsyncIterator[PollingRig]:
    """The chain, connected to an org that is empty."""
    org = PolledOrg(tmp_path)
    for name, value in org.environment.items():
        monkeypatch.setenv(name, value)
    made = PollingRig(
        org,
        tmp_path / "data",
        start=utc_now() - timedelta(days=1),
        telemetry=captured.telemetry,
        salesforce_simulator=org.simulator.base_url,
    )
    await made.services.connections.save(await org.connect())
    try:
        yield made
    finally:
        await made.close()
        await org.close()
