"""A lock that a process keeps for its life, on a file that tells others who has it."""

import fcntl
import os
from pathlib import Path
from typing import IO


class LockHeldError(Exception):
    """Another process has the lock; *owner* is its id as far as it can be told."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"process {owner} has the lock")
        self.owner = owner


def take_lock(path: Path) -> IO[bytes]:
    """Take the lock on *path* until what is returned is closed; the kernel gives it back when the process ends.

    Raises:
        LockHeldError: another process has it.
        OSError: the file can't be made.
    """
    lock = path.open("a+b")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        owner = lock.read(20).decode(errors="replace").strip()
        lock.close()
        raise LockHeldError(owner or "not yet known") from None
    lock.truncate(0)
    lock.write(str(os.getpid()).encode())
    lock.flush()
    return lock
