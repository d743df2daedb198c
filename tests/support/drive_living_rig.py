"""The Drives of a random life, and the connections that read them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from drive_rig import NearExtractor
from drive_source_rig import DOMAIN, USER, DriveSourceRig
from drive_truth import Wanted
from source_rig import TENANT

from connections.gdrive_connection import DriveConnection

ANN, BOB, CAROL = USER, f"bob@{DOMAIN}", f"carol@{DOMAIN}"
PEOPLE = (ANN, BOB, CAROL)
"""Who may be read as."""


@dataclass
class Reading:
    """What one connection is to read, and as whom; *choice* are the folders wanted and those left out."""

    connection_id: str
    subjects: tuple[str, ...]
    choice: tuple[tuple[str, ...], tuple[str, ...]]
    all_drives: bool

    def wanted(self, away: Collection[str] = ()) -> Wanted:
        """As the truth is told by, without users who are *away*."""
        return Wanted(tuple(one for one in self.subjects if one not in away), *self.choice, self.all_drives)


class LivingDrives(DriveSourceRig):
    """The rig of the source contract, with texts that are read in this process, and maybe several connections.

    Without *sweeps* the change logs alone tell what has happened.
    """

    def __init__(self, folder: Path, *, sweeps: bool) -> None:
        super().__init__(folder)
        self.sweeps = sweeps
        self.readings: list[Reading] = []
        """One for each connection."""

    def _watch(self) -> None:
        super()._watch()
        vars(self.services)["extractor"] = NearExtractor()

    async def connection(self, tenant_id: str = TENANT) -> DriveConnection:
        return await self.named("drive", tenant_id)

    async def named(self, connection_id: str, tenant_id: str = TENANT) -> DriveConnection:
        """A connection as it is stored."""
        found = await self.services.connections.get(tenant_id, connection_id)
        assert isinstance(found, DriveConnection)
        return found

    @property
    def subjects(self) -> tuple[str, ...]:
        """All users who are read as."""
        return tuple(dict.fromkeys(subject for reading in self.readings for subject in reading.subjects))

    @property
    def away(self) -> set[str]:
        """Users whom nobody may read as now."""
        return self.drive.suspended | self.simulator.api.login.refused

    def name_of(self, file_id: str) -> str:
        """A file as a life's story calls it."""
        item = self.drive.items.get(file_id)
        return f"{self.drive.path_of(item)} ({file_id[-4:]})" if item is not None else file_id
