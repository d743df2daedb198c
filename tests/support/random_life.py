"""A source lives through changes drawn by lot, while pushes to the app go missing, come twice and out of order; in the
end what is stored has to be what the vendor holds.

``SHARDLINE_LIVES`` is how many lives of each source a run tries, ``SHARDLINE_LIFE`` the number of the one that is tried
alone, as a failure names it.
"""

import os
from random import Random
from typing import Protocol

ORDINARY_LIVES = 2
STEPS = 40


class Life(Protocol):
    """One source, its vendor's simulator and the app."""

    async def step(self, dice: Random) -> str:
        """Make one change at the vendor, or something that befalls the app; what it was, in a line."""

    async def settle(self) -> None:
        """Let the app do all that it does by itself sooner or later: its polls, re-reads, sweeps and the chain."""

    async def differences(self) -> list[str]:
        """Where what is stored is not what the vendor holds, a line each."""


def lives() -> list[int]:
    """The lives that this run tries, each by the seed of its lots."""
    alone = os.environ.get("SHARDLINE_LIFE")
    return [int(alone)] if alone else list(range(int(os.environ.get("SHARDLINE_LIVES", ORDINARY_LIVES))))


async def live(life: Life, number: int, *, steps: int = STEPS) -> None:
    """Lead *life* through *steps* and let it settle, twice: what was wrong at first must not stay so after more.

    Raises:
        AssertionError: it has not converged; told are the differences and all that had happened.
    """
    dice = Random(number)
    told: list[str] = []
    try:
        for part in (steps - steps // 4, steps // 4):
            for _ in range(part):
                told += [await life.step(dice)]
            await life.settle()
            told += ["settled"]
            differences = await life.differences()
            assert not differences, "\n".join(["what is stored is not what the vendor holds:", *differences])
    except Exception as error:
        error.add_note("\n".join([f"SHARDLINE_LIFE={number}, what happened:", *told]))
        raise
