"""Names a process so that another one can tell, later and after a reboot, whether it still runs."""

import os
import platform
from functools import cache
from pathlib import Path

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


@cache
def _boot() -> str:
    """This boot of this machine; the machine's name where the system tells of no boots."""
    return BOOT_ID_FILE.read_text().strip() if BOOT_ID_FILE.exists() else platform.node()


@cache
def _pid_namespace() -> str:
    """The pid namespace (a container's own, say): process ids mean nothing outside it. Empty where there are none."""
    try:
        return Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When the process started, in clock ticks since boot (proc(5), field 22 of stat); empty where unknown.

    Raises:
        ProcessLookupError: no such process, or only its unreaped remains.
    """
    if not BOOT_ID_FILE.exists():
        return ""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(pid) from error
    # The name in the second field may hold spaces and parentheses; the last parenthesis ends it.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        raise ProcessLookupError(pid)
    return fields[19]


def process_identity(pid: int | None = None) -> str:
    """``boot/pid namespace/pid/start time`` of this process, or of *pid* in its namespace.

    Raises:
        ProcessLookupError: no process *pid* runs.
    """
    number = os.getpid() if pid is None else pid
    return "/".join((_boot(), _pid_namespace(), str(number), _start_time(number)))


def is_dead(identity: str) -> bool:
    """Whether the process named *identity* has certainly ended.

    False also when that can't be known: another pid namespace; Windows, where asking for a process would end it.
    """
    boot, namespace, pid, start_time = identity.split("/")
    if boot != _boot():
        # Without boots to tell apart this is another machine's name, and its processes can't be seen from here.
        return BOOT_ID_FILE.exists()
    if namespace != _pid_namespace():
        return False
    try:
        if BOOT_ID_FILE.exists():
            return _start_time(int(pid)) != start_time
        if os.name == "posix":
            os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # it runs, as another user
    return False
