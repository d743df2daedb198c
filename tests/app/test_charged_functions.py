"""What each function asks of the store is counted under the function's own name."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from the_app import app

from local.home import DEFAULT_SCHEDULES
from local.host.app_index import AppIndex, IndexedFunction, index_app
from local.host.host_json import read_host_json
from shards.request_charges import NO_FUNCTION, RequestCharges, gives_way

ROOT = Path(__file__).parents[2]
BLUEPRINTS = ("api.blueprint", "ingestion.blueprint", "operations.blueprint", "processors.blueprint")
ASKS_NOTHING = {"health"}


class Store:
    """Charges whoever asks for it, and is away."""

    def __init__(self) -> None:
        self.charges = RequestCharges()
        self.gave_way: set[bool] = set()

    def ask(self, *_: Any, **__: Any) -> Any:
        """Be asked."""
        self.charges.record("read", {"x-ms-request-charge": "1"})
        self.gave_way.add(gives_way())
        raise RuntimeError("away")

    async def run(self, function: IndexedFunction) -> None:
        """Run a function that is given nothing it could use."""
        try:
            await function.call(None)
        except RuntimeError as error:
            assert str(error) == "away"


@pytest.fixture(scope="module")
def index() -> AppIndex:
    """The functions of the app."""
    return index_app(app, read_host_json(ROOT / "host.json"), environment=DEFAULT_SCHEDULES)


async def test_what_a_function_asks_for_is_charged_to_it(index: AppIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    functions = [*index.http, *index.timers, *index.queues, *index.feeds]
    assert len(functions) > len(index.http) > 0
    for function in functions:
        if function.name in ASKS_NOTHING:
            continue
        store = Store()
        for blueprint in BLUEPRINTS:
            monkeypatch.setattr(importlib.import_module(blueprint), "services", store.ask)
        await store.run(function)
        assert {charge.function for charge in store.charges.charges()} == {function.name}


async def test_what_nobody_runs_is_charged_to_nobody() -> None:
    store = Store()
    with pytest.raises(RuntimeError):
        store.ask()
    assert [charge.function for charge in store.charges.charges()] == [NO_FUNCTION]


async def test_first_loads_give_way_and_nothing_else_does(index: AppIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    gave_way = {}
    for function in index.queues:
        store = Store()
        for module in ("processors", "ingestion"):
            monkeypatch.setattr(f"{module}.blueprint.services", _Anything)
            monkeypatch.setattr(f"{module}.blueprint.consume", store.ask)
        monkeypatch.setattr("processors.blueprint.until_the_chain_digests", _at_once)
        await store.run(function)
        gave_way[function.queue] = store.gave_way
    assert gave_way.pop("ingestion-events-bulk") == {True}
    assert set(map(tuple, gave_way.values())) == {(False,)}


async def _at_once(_: object) -> None:
    """There is room in the chain."""


class _Anything:
    def __getattr__(self, name: str) -> None:
        return None
