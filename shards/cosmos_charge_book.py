"""The book of charges: each process writes what its functions were charged into an item of its own, one a day."""

import asyncio
import logging
import secrets
from collections import defaultdict
from contextvars import Context

from messaging.times import Clock, to_text
from shards.cosmos_container import CosmosContainer
from shards.cosmos_containers import DIRECTORY
from shards.cosmos_documents import charges_item, stored_charges
from shards.cosmos_queries import kept_charges
from shards.request_charges import NO_FUNCTION, Charge, DayCharges, RequestCharges
from shards.store import StoreUnavailableError

log = logging.getLogger(__name__)

REPORT_SECONDS = 60.0
"""How long after a charge it is written, with all others up to then: what a process loses that is killed."""

CLOSE_SECONDS = 2.0
"""How long the last report is waited for."""

Sums = dict[tuple[str, str], Charge]
"""Charges by function and operation."""


class CosmosChargeBook:
    """The twin of :class:`~shards.request_charges.ChargeBook` on Cosmos DB.

    Nothing waits for a report: it is written by a task of its own, some time after the first charge since the last one.
    An item is written over with all of its day, so a report that is written twice, or fails, changes no sum.

    Args:
        container: that of progress, whose directory has the items.
        charges: what this process is charged; the book is told of each.
        clock: the present moment.
        report_after: seconds, see :data:`REPORT_SECONDS`.
    """

    def __init__(
        self,
        container: CosmosContainer,
        charges: RequestCharges,
        clock: Clock,
        *,
        report_after: float = REPORT_SECONDS,
    ) -> None:
        self._container = container
        self._charges = charges
        self._clock = clock
        self._report_after = report_after
        self._process = secrets.token_hex(8)
        self._due: asyncio.TimerHandle | None = None
        self._reporting: set[asyncio.Task[None]] = set()
        self._day = ""
        self._before: Sums = {}
        """What had been charged when the day began."""
        self._reported: Sums = {}
        charges.notice(self._charged)

    def _charged(self) -> None:
        if self._due is None:
            # In a context of its own, as the report is charged to no function: it would be cause for another.
            self._due = asyncio.get_running_loop().call_later(self._report_after, self._begin, context=Context())

    def _begin(self) -> None:
        self._due = None
        task = asyncio.create_task(self._report_if_there())
        self._reporting.add(task)
        task.add_done_callback(self._reporting.discard)

    async def _report_if_there(self) -> None:
        try:
            await self.report()
        except StoreUnavailableError as error:
            log.warning("what was charged is written with the next report, as the store is away: %s", error)

    async def report(self) -> None:
        """Write what this process's functions have been charged today; nothing, when nothing came to it.

        Raises:
            StoreUnavailableError: the next report has it.
        """
        sums = {
            (charge.function, charge.operation): charge
            for charge in self._charges.charges()
            if charge.function != NO_FUNCTION
        }
        if sums == self._reported:
            return
        day = to_text(self._clock())[:10]
        if day != self._day:
            self._day, self._before = day, self._reported
        of_day = [charge.since(self._before.get(key)) for key, charge in sums.items()]
        await self._container.put(charges_item(self._process, day, [charge for charge in of_day if charge.requests]))
        self._reported = sums

    async def charges_by_day(self) -> list[DayCharges]:
        """See :meth:`shards.request_charges.ChargeBook.charges_by_day`."""
        days: defaultdict[str, Sums] = defaultdict(dict)
        for row in await self._container.rows(DIRECTORY, kept_charges(DIRECTORY)):
            sums = days[row["day"]]
            for charge in stored_charges(row):
                key = (charge.function, charge.operation)
                sums[key] = charge.plus(sums.get(key))
        return [
            DayCharges(day, [sums[key] for key in sorted(sums)]) for day, sums in sorted(days.items(), reverse=True)
        ]

    async def close(self) -> None:
        """Write what is not written yet."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
            Context().run(self._begin)
        if self._reporting:
            done, late = await asyncio.wait(self._reporting, timeout=CLOSE_SECONDS)
            for task in late:
                log.warning("what was charged last is not written: the store does not answer")
                task.cancel()
            for task in done:
                task.result()
