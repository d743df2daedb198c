"""Exports of a Salesforce org, and what the app makes of them."""

import csv
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random

from salesforce_living_org import LivingOrg
from salesforce_truth import OBJECTS

from ingestion import connecting
from ingestion.first_load import FirstLoadPorts, load_pages, note_asked
from ingestion.history_memory import history_key
from ingestion.salesforce.errors import ObjectError

KEPT_COLUMNS = ("Id", "Name", "LastName", "StageName", "IsClosed", "IsWon")
"""What an export has at least."""


class SalesforceExports:
    """Those of one life, each in a folder below *folder* that *next_number* names."""

    def __init__(self, rig: LivingOrg, folder: Path, next_number: Callable[[], int]) -> None:
        self._rig = rig
        self._folder = folder
        self._next_number = next_number
        self._exports: list[Path] = []

    async def export(self, dice: Random) -> str:
        """An administrator exports objects with the Data Loader: all of what they see, or some columns of it."""
        folder = self._folder / str(self._next_number())
        folder.mkdir(parents=True)
        told = []
        for name in dice.sample(OBJECTS, dice.choice((1, 2, 6))):
            table = self._rig.org.tables[name]
            dropped = {one for one in table.fields if one not in KEPT_COLUMNS and dice.random() < 0.2}
            columns = [one for one in table.fields if one not in dropped]
            all_too = "IsDeleted" in columns and dice.random() < 0.5
            rows = [one for one in table.records.values() if all_too or not one.get("IsDeleted")]
            with (folder / f"export_{name}.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, quoting=csv.QUOTE_ALL)
                writer.writerow(one.upper() for one in columns)
                writer.writerows([_cell(row.get(one)) for one in columns] for row in rows)
            told.append(f"{len(rows)} {name} without {sorted(dropped)}")
        (folder / self._rig.org.org_id).touch()
        self._exports.append(folder)
        return f"{folder.name} of {self._rig.at.connection_id}: {told}"

    async def load_export(self, dice: Random) -> str:
        """Load an export, this one's or one of long ago, as ``shardline backfill --from`` does."""
        mine = [one for one in self._exports if (one / self._rig.org.org_id).exists()]
        if not mine or dice.random() < 0.3:
            await self.export(dice)
            mine = self._exports[-1:]
        folder = dice.choice(mine)
        rig, connection = self._rig, await self._rig.connection()
        if connection.status != "active":
            return f"the connection is {connection.status}"
        paths = [one for one in sorted(folder.glob("*.csv")) if connection.wants(one.stem.removeprefix("export_"))]
        ports = FirstLoadPorts(rig.services.bus, rig.services.states, rig.clock)
        key = f"{history_key(connection)}/{connecting.export_key(paths)}"
        try:
            pages = connecting.history_of_export(connection, paths, rig.services.ingestion)
            await note_asked(connection, ports, anew=dice.random() < 0.5, key=key)
            step = await load_pages(connection, pages, ports, deadline=rig.clock() + timedelta(seconds=20), key=key)
        except ObjectError as error:
            return f"{folder.name} refused: {error}"
        return f"{folder.name}: {step.notes.records} records, again in {step.again_in}"


def _cell(value: object) -> str:
    """A value as the Data Loader writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text.replace("+0000", "Z") if text.endswith(".000+0000") else text
