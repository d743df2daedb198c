"""The seam to the composition root: the bus and the store that the app's functions use themselves."""

import importlib
from typing import Protocol

from local.host.change_feed import ChangeFeed
from local.host.errors import HostError
from local.host.queue_pump import HostedBus
from messaging.sqlite import DataFileError, FileBusyError
from settings import SettingsError


class HostedServices(Protocol):
    """What the composition's ``services()`` gives."""

    @property
    def queues(self) -> HostedBus:
        """The bus to receive from."""

    @property
    def store(self) -> ChangeFeed:
        """The store whose changes the feeds follow."""

    async def close(self) -> None:
        """Give back what they hold."""


def load_services(module_name: str) -> HostedServices:
    """What ``services()`` of the module gives: the same object that the app's functions get in this process.

    Raises:
        HostError: a setting is wrong or a data file can't be used.
    """
    try:
        services: HostedServices = importlib.import_module(module_name).services()
    except (SettingsError, DataFileError, FileBusyError) as error:
        raise HostError(" ".join(str(error).split())) from error
    return services
