"""The home on Azure that the tests of a module share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from azure_home import AzureHome, azure_home


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AzureHome]:
    """A home with one instance of the app, new for the module."""
    async with azure_home(tmp_path_factory.mktemp("azure")) as running:
        yield running
