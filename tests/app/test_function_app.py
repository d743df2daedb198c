"""The app as the Functions worker indexes it: one broken rule there means no functions at all."""

import inspect
import typing
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from the_app import app

from local.home import DEFAULT_SCHEDULES
from local.host.app_index import AppIndex, index_app
from local.host.host_json import read_host_json
from messaging.queues import QUEUES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def index() -> AppIndex:
    """The functions of the app."""
    return index_app(app, read_host_json(ROOT / "host.json"), environment=DEFAULT_SCHEDULES)


def test_each_queue_has_one_consumer(index: AppIndex) -> None:
    assert sorted(function.queue for function in index.queues) == sorted(QUEUES)


def test_the_chain_takes_batches_and_source_work_single_messages(index: AppIndex) -> None:
    single = {function.queue for function in index.queues if not function.batches}
    assert single == {"source-work"}


def test_the_routes_are_those_of_the_documented_api(index: AppIndex) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    for function in index.http:
        for method in function.methods:
            assert f"`{method} {function.route.template}" in page
    assert index.http


def test_the_timers_are_those_of_polls_reconciliation_and_what_goes(index: AppIndex) -> None:
    assert sorted(function.name for function in index.timers) == [
        "expire_payloads",
        "poll_due",
        "reconcile_stages",
        "sweep_file_texts",
    ]


def test_signatures_are_what_the_worker_can_index(index: AppIndex) -> None:
    for function in (*index.http, *index.queues, *index.timers):
        assert inspect.iscoroutinefunction(inspect.unwrap(function.call))
        hints = typing.get_type_hints(inspect.unwrap(function.call))
        names = set(inspect.signature(function.call).parameters)
        assert names == {function.parameter}
        hint: Any = hints[function.parameter]
        if typing.get_origin(hint) is not None:
            assert typing.get_args(hint) == (func.ServiceBusMessage,)
            assert typing.get_origin(hint) is list
