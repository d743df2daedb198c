"""What tests of sources share: the app's functions led to the rig that calls them, retries that don't wait."""

import pytest


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None, without_waiting: None) -> None:
    """The functions work on the rig's services; retries come at once."""
