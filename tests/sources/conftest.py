"""What tests of sources share: the app's functions led to the rig that calls them, retries that don't wait."""

from collections.abc import Iterator

import pytest
import stamina
from chain_rig import current


@pytest.fixture(autouse=True)
def source_functions(chain_functions: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the functions of the way in to the services of the rig that calls them, too."""
    monkeypatch.setattr("ingestion.blueprint.services", current.get)


@pytest.fixture(autouse=True)
def without_waiting() -> Iterator[None]:
    """Retries come at once."""
    with stamina.set_testing(True, attempts=4):
        yield
