"""The benches judge rightly, and watch functions that exist."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from bench.hostile import judge
from bench.page_server import PAGE, Pages
from bench.time_shares import WATCHED
from local.salesforce.contacts import numbered_id
from local.salesforce.hostile import hostile_epochs
from messaging import codec

LAST = hostile_epochs()[-1]


@pytest.fixture
def truth() -> dict[str, dict[str, Any]]:
    """All that the org holds in the end."""
    return {str(record["Id"]): dict(record) for record in LAST.records.values()}


def test_a_tool_that_has_everything_has_no_fault(truth: dict[str, dict[str, Any]]) -> None:
    verdict = judge("all", truth, LAST, [1], duplicates="0")
    assert (verdict.lost_ties, verdict.lost_late, verdict.lost_others) == (0, 0, 0)
    assert (verdict.stale, verdict.soft_missed, verdict.ghosts) == (0, 0, "0")


def test_each_fault_is_counted_as_its_own_kind(truth: dict[str, dict[str, Any]]) -> None:
    for number in (1000, 1049, 1050, 1200):
        del truth[numbered_id("003", number)]
    truth[numbered_id("003", 3)]["Name"] = "v0-3"
    truth[numbered_id("003", 25)]["IsDeleted"] = False
    truth[numbered_id("003", 15)] = {"Name": "gone", "IsDeleted": False}
    verdict = judge("some", truth, LAST, [1], duplicates="0")
    assert (verdict.lost_ties, verdict.lost_late, verdict.lost_others) == (2, 1, 1)
    assert (verdict.stale, verdict.soft_missed, verdict.ghosts) == (1, 1, "1")


def _pages(pages: Pages, since: str) -> Iterator[tuple[int, dict[str, Any]]]:
    page: int | None = 0
    while page is not None:
        status, body = pages.rows(since, page)
        answer = codec.decode(body)
        yield status, answer
        if status == 200:
            page = answer["next_page"]


def test_the_page_server_serves_an_epoch_whole_with_its_failures() -> None:
    pages = Pages(0)
    pages.set_epoch(0, failing=True, delay=0)
    answers = list(_pages(pages, "2000-01-01T00:00:00.000Z"))
    assert [status for status, _ in answers if status != 200] == [429, 500]
    rows = [row["Id"] for status, answer in answers if status == 200 for row in answer["records"]]
    assert len(rows) == len(set(rows)) == 1000
    assert pages.calls == len(answers) == 12


def test_the_contacts_come_in_pages_that_name_the_next() -> None:
    pages = [codec.decode(page) for page in Pages(PAGE + 1).contacts]
    assert [len(page["records"]) for page in pages] == [PAGE, 1]
    assert [page["next_page"] for page in pages] == [1, None]


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.name)
def test_what_is_watched_is_there(watched: Any) -> None:
    owner: Any = importlib.import_module(watched.module)
    *path, name = watched.name.split(".")
    for part in path:
        owner = getattr(owner, part)
    assert callable(getattr(owner, name))
