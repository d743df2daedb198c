"""The machine the figures are of, and what a process on it has used."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import apsw

LIBRARIES = ("apsw", "azure-functions", "msgspec", "numpy", "pydantic", "simple-salesforce", "sqlite-vec", "wordllama")
_TICKS = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What a process has used since it began: peak resident memory in MB, CPU seconds of all its threads."""

    peak_mb: float
    cpu_seconds: float


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def usage(process_id: int) -> Usage:
    """What the process has used so far (``VmHWM``, utime and stime of proc(5)).

    Raises:
        FileNotFoundError: there is no such process any more.
    """
    folder = Path("/proc") / str(process_id)
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return Usage(int(status["VmHWM"].split()[0]) / 1024, (int(fields[11]) + int(fields[12])) / _TICKS)


def load() -> str:
    """The load averages of the last 1, 5 and 15 minutes: above the number of cores, figures are of a shared machine."""
    return ", ".join(f"{average:.2f}" for average in os.getloadavg())


def description() -> list[str]:
    """Processor, interpreter, versions and how busy the machine is, a line each."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return [
        f"{cores()} cores of {model}; {platform.system()} {platform.release()}; load average {load()}",
        f"Python {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    ]
