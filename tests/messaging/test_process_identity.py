"""A process is told from the dead, and from another that later has its number."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from messaging import process_identity
from messaging.process_identity import is_dead
from messaging.process_identity import process_identity as identity


def test_this_process_lives() -> None:
    assert identity() == identity()
    assert not is_dead(identity())


def test_an_ended_process_is_dead_before_and_after_its_parent_has_noticed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    name = identity(child.pid)
    assert not is_dead(name)
    child.kill()
    assert child.stdout is not None
    child.stdout.read()  # ends when the child has: it is a zombie from here on
    deadline = time.monotonic() + 10
    while not is_dead(name):
        assert time.monotonic() < deadline, "a zombie passed for a living process"
    child.communicate()
    assert is_dead(name)
    with pytest.raises(ProcessLookupError):
        identity(child.pid)


def test_the_same_number_with_another_start_is_another_process() -> None:
    boot, namespace, pid, start = identity().split("/")
    assert is_dead("/".join((boot, namespace, pid, str(int(start) - 1))))
    assert is_dead("/".join(("another-boot", namespace, pid, start)))


def test_a_process_of_another_namespace_is_not_judged() -> None:
    boot, _, _, start = identity().split("/")
    assert not is_dead("/".join((boot, "pid:[1]", "999999999", start)))


def test_without_proc_the_number_alone_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    process_identity._boot.cache_clear()
    monkeypatch.setattr(process_identity, "BOOT_ID_FILE", Path("/nowhere"))
    try:
        here = identity()
        boot, namespace, _, start = here.split("/")
        assert start == ""
        assert not is_dead(here)
        assert is_dead("/".join((boot, namespace, str(child.pid), "")))
        assert not is_dead("/".join(("another-machine", namespace, str(child.pid), "")))
    finally:
        process_identity._boot.cache_clear()
