"""What tests of the chain and of its sources share: an app over a folder of its own, retries that don't wait."""

import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import stamina
from chain_rig import Rig, current
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts its background jobs so, and every process that a test starts would be deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes, or the making of one, tells of the machine.
settings.register_profile(
    "any-machine",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any-machine")


@pytest.fixture
def chain_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the app's functions to the services of the rig that calls them."""
    monkeypatch.setattr("processors.blueprint.services", current.get)


@pytest.fixture
def source_functions(chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the functions of the way in to the services of the rig that calls them, too."""
    monkeypatch.setattr("ingestion.blueprint.services", current.get)


@pytest.fixture
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=4):
        yield


@pytest.fixture
async def rig(tmp_path: Path, chain_functions: None) -> AsyncIterator[Rig]:
    """The chain over a new folder."""
    async with Rig(tmp_path / "data") as made:
        yield made
