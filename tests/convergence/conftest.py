"""What the random lives of all sources share."""

import pytest


@pytest.fixture(autouse=True)
def app_of_the_test(source_functions: None, without_waiting: None) -> None:
    """The functions work on the rig's services; retries come at once."""
