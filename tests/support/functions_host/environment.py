"""The environment that the worker runs in, as ``make worker`` leaves it."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".cache" / "functions-worker" / "bin" / "python"


def worker_python() -> Path:
    """The worker's Python; skips the test without it, and fails it where everything must be tested (``CI=true``)."""
    if not PYTHON.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the worker's environment is missing: run 'make worker'")
        pytest.skip("the worker's environment is missing: run 'make worker'")
    return PYTHON
