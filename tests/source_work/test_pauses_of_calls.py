"""What the log says of a call that is asked again."""

import logging
from datetime import timedelta

import pytest

from ingestion.errors import SourceError, TransientError
from ingestion.patience import patiently


@pytest.mark.parametrize(
    ("error", "level", "said"),
    [
        (TransientError("the page was HTML"), logging.WARNING, "things.list: try 1 of 4 failed"),
        (TransientError("no call is left", timedelta(milliseconds=1)), logging.DEBUG, "things.list: waits 0.0 s"),
    ],
    ids=["a failure", "a limit that is kept"],
)
async def test_a_limit_that_is_kept_is_no_failure_in_the_log(
    error: SourceError, level: int, said: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.patience.FIRST_WAIT_SECONDS", 0.001)
    tries = 0

    async def call() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error
        return "done"

    with caplog.at_level(logging.DEBUG, "ingestion.patience"):
        assert await patiently("things.list", call) == "done"

    [record] = [one for one in caplog.records if one.name == "ingestion.patience"]
    assert (record.levelno, record.getMessage().startswith(said)) == (level, True), record.getMessage()
    assert str(error) in record.getMessage()
