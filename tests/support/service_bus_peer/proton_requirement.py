"""What the peer needs of the machine: python-qpid-proton, which is compiled where it is installed."""

import importlib.util
import os

import pytest


def require_proton() -> None:
    """Skip the test that asks, or fail it when ``CI=true``, where python-qpid-proton is not installed."""
    if importlib.util.find_spec("proton") is None:
        message = "python-qpid-proton is missing: install a C compiler and run 'make proton'"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
