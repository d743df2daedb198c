"""What tests of the chain share: an app over a folder of its own."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
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
async def rig(tmp_path: Path, chain_functions: None) -> AsyncIterator[Rig]:
    """The chain over a new folder."""
    made = Rig(tmp_path / "data")
    try:
        yield made
    finally:
        await made.close()
