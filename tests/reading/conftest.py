"""The app that serves the Salesforce of the sample company, started once for all tests of this folder."""

from collections.abc import Iterator

import pytest
from running_app import RunningApp, running_app


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """The app, with the Salesforce of the sample company ingested."""
    with running_app(tmp_path_factory.mktemp("reading") / "data") as app:
        yield app
