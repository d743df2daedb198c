"""The local home's own key: one for all processes that start together, and nobody else's to read."""

import secrets
import stat
from pathlib import Path

import pytest

from api.tokens import local_key


def test_processes_that_start_together_have_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one asks while the first makes the key."""
    file = tmp_path / "token.key"
    others: list[bytes] = []
    random_bytes = secrets.token_bytes

    def interrupted(count: int) -> bytes:
        if not others:
            others.append(b"")
            others[0] = local_key(file)
        return random_bytes(count)

    monkeypatch.setattr(secrets, "token_bytes", interrupted)
    key = local_key(file)
    assert len(key) == 32
    assert others == [key]
    assert local_key(file) == key


def test_only_its_owner_reads_the_key_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "token.key"
    local_key(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
