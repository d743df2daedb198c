"""What the host reads out of a FunctionApp and its host.json, and what it refuses to run."""

import json
import logging
import typing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import azure.functions as func
import pytest

from local.host.app_index import AppIndex, index_app, load_app
from local.host.errors import HostError
from local.host.host_json import HostSettings, read_host_json

Batch = typing.List[func.ServiceBusMessage]  # noqa: UP006 - the worker indexes no list[…]


def index(*decorated: Callable[[func.FunctionApp], object], environment: dict[str, str] | None = None) -> AppIndex:
    app = func.FunctionApp()
    for decorate in decorated:
        decorate(app)
    return index_app(app, HostSettings(), environment=environment or {})


def test_functions_are_read_by_trigger_with_their_settings_resolved() -> None:
    def decorate(app: func.FunctionApp) -> None:
        @app.function_name("renamed")
        @app.service_bus_queue_trigger(arg_name="messages", connection="C", queue_name="%QUEUE%", cardinality="many")
        async def work(messages: Batch, context: func.Context) -> None: ...

        @app.timer_trigger(arg_name="timer", schedule="%TIMES%", run_on_startup=True, use_monitor=False)
        def tick(timer: func.TimerRequest) -> None: ...

        @app.route("items/{id}", methods=["GET", "DELETE"], auth_level="anonymous")
        def items(req: func.HttpRequest) -> func.HttpResponse:
            return func.HttpResponse()

        @app.route()
        def anything(req: func.HttpRequest) -> func.HttpResponse:
            return func.HttpResponse()

        @app.cosmos_db_trigger(
            arg_name="documents", connection="C", database_name="d", container_name="shards", max_items_per_invocation=7
        )
        def follow(documents: func.DocumentList) -> None: ...

    found = index(decorate, environment={"QUEUE": "jobs", "TIMES": "0 * * * * *"})
    [queue], [timer], [feed] = found.queues, found.timers, found.feeds
    assert (queue.name, queue.queue, queue.batches, queue.is_async, queue.wants_context) == (
        "renamed",
        "jobs",
        True,
        True,
        True,
    )
    assert (timer.schedule.expression, timer.run_on_startup, timer.use_monitor) == ("0 * * * * *", True, False)
    assert (feed.max_items, feed.poll_delay, feed.from_beginning) == (7, timedelta(seconds=5), False)
    by_name = {one.name: one for one in found.http}
    assert (by_name["items"].methods, by_name["items"].auth_level) == (("GET", "DELETE"), "anonymous")
    assert (by_name["anything"].route.template, by_name["anything"].auth_level) == ("anything", "function")
    assert "PATCH" in by_name["anything"].methods


def test_an_app_can_be_indexed_again() -> None:
    app = func.FunctionApp()

    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def tick(timer: func.TimerRequest) -> None: ...

    first = index_app(app, HostSettings())
    assert [timer.name for timer in index_app(app, HostSettings()).timers] == [timer.name for timer in first.timers]


def queue_without_setting(app: func.FunctionApp) -> None:
    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="%MISSING%")
    def work(message: func.ServiceBusMessage) -> None: ...


def queue_with_sessions(app: func.FunctionApp) -> None:
    @app.service_bus_queue_trigger(arg_name="message", connection="C", queue_name="q", is_sessions_enabled=True)
    def work(message: func.ServiceBusMessage) -> None: ...


def topic(app: func.FunctionApp) -> None:
    @app.service_bus_topic_trigger(arg_name="message", connection="C", topic_name="t", subscription_name="s")
    def work(message: func.ServiceBusMessage) -> None: ...


def output_binding(app: func.FunctionApp) -> None:
    @app.service_bus_queue_output(arg_name="out", connection="C", queue_name="q")
    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def work(timer: func.TimerRequest, out: func.Out[str]) -> None: ...


def blob_trigger(app: func.FunctionApp) -> None:
    @app.blob_trigger(arg_name="blob", path="a/b", connection="C")
    def work(blob: func.InputStream) -> None: ...


def bad_schedule(app: func.FunctionApp) -> None:
    @app.timer_trigger(arg_name="timer", schedule="0 61 * * * *")
    def work(timer: func.TimerRequest) -> None: ...


def extra_parameter(app: func.FunctionApp) -> None:
    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def work(timer: func.TimerRequest, more: int = 1) -> None: ...


def missing_parameter(app: func.FunctionApp) -> None:
    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def work(clock: func.TimerRequest) -> None: ...


def other_container(app: func.FunctionApp) -> None:
    @app.cosmos_db_trigger(arg_name="documents", connection="C", database_name="d", container_name="parked")
    def work(documents: func.DocumentList) -> None: ...


def shared_route(app: func.FunctionApp) -> None:
    @app.route("items/{id}", methods=["GET"])
    def one(req: func.HttpRequest) -> str:
        return ""

    @app.route("Items/{key}", methods=["GET", "PUT"])
    def other(req: func.HttpRequest) -> str:
        return ""


def same_name(app: func.FunctionApp) -> None:
    for _ in range(2):

        @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
        def work(timer: func.TimerRequest) -> None: ...


@pytest.mark.parametrize(
    ("decorate", "reason"),
    [
        (queue_without_setting, "function work: the setting MISSING that '%MISSING%' names is missing"),
        (queue_with_sessions, "function work: queues with sessions"),
        (topic, "function work: topics"),
        (output_binding, "function work: the binding serviceBus 'out' is not supported"),
        (blob_trigger, "function work: the trigger blobTrigger is not supported"),
        (bad_schedule, "function work: schedule '0 61 .*: '61' is no minute"),
        (extra_parameter, "function work: no binding gives it the parameter 'more'"),
        (missing_parameter, "function work: it has no parameter 'timer'"),
        (other_container, "function work: container 'parked' has no change feed"),
        (shared_route, "functions other and one both answer GET items"),
        (same_name, "unique function name"),
    ],
)
def test_what_cannot_run_here_is_refused_in_one_line(
    decorate: Callable[[func.FunctionApp], object], reason: str
) -> None:
    with pytest.raises(HostError, match=reason) as raised:
        index(decorate)
    assert "\n" not in str(raised.value)


def test_a_retry_policy_is_noted_as_not_applied() -> None:
    def decorate(app: func.FunctionApp) -> None:
        @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
        @app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:00:10")
        def tick(timer: func.TimerRequest) -> None: ...

    assert index(decorate).notes == ("the retry policy of function tick is not applied on one machine",)


def test_the_products_own_app_can_run_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for schedule in ("SHARDLINE_POLL_SCHEDULE", "SHARDLINE_RECONCILE_SCHEDULE"):
        monkeypatch.setenv(schedule, "0 */5 * * * *")
    monkeypatch.setenv("SHARDLINE_HOME", "local")
    monkeypatch.setenv("SHARDLINE_DATA_DIR", "not-opened")
    found = load_app("function_app")
    assert {queue.queue for queue in found.queues} >= {"ingestion-events", "shard-emission", "embedding-jobs"}
    assert found.timers
    assert any(one.route.template == "health" for one in found.http)


def write(folder: Path, content: object) -> Path:
    path = folder / "host.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_host_json_keeps_azures_defaults_for_what_it_does_not_name(tmp_path: Path) -> None:
    assert read_host_json(write(tmp_path, {"version": "2.0"})) == HostSettings()


def test_host_json_is_read(tmp_path: Path) -> None:
    bus = {
        "maxMessageBatchSize": 256,
        "minMessageBatchSize": 2,
        "maxBatchWaitTime": "00:00:05",
        "maxConcurrentCalls": 8,
        "maxAutoLockRenewalDuration": "00:10:00.5",
    }
    content = {
        "version": "2.0",
        "functionTimeout": "1.00:10:00",
        "extensions": {"http": {"routePrefix": "v1/api"}, "serviceBus": bus},
        "logging": {"logLevel": {"default": "Information", "Function.noisy": "Error"}},
    }
    assert read_host_json(write(tmp_path, content)) == HostSettings(
        route_prefix="v1/api",
        max_message_batch_size=256,
        min_message_batch_size=2,
        max_batch_wait_time=timedelta(seconds=5),
        max_concurrent_calls=8,
        max_auto_lock_renewal=timedelta(minutes=10, milliseconds=500),
        function_timeout=timedelta(days=1, minutes=10),
        log_levels={"default": logging.INFO, "Function.noisy": logging.ERROR},
    )


def test_a_timeout_of_minus_one_is_no_timeout(tmp_path: Path) -> None:
    assert read_host_json(write(tmp_path, {"version": "2.0", "functionTimeout": "-1"})).function_timeout is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "can't be read as JSON"),
        ("[]", "the file must be a JSON object"),
        ({}, "version must be"),
        ({"version": "2.0", "functionTimeout": "5m"}, "functionTimeout: '5m' is no time span"),
        ({"version": "2.0", "functionTimeout": 5}, "functionTimeout must be a text"),
        ({"version": "2.0", "extensions": []}, "extensions must be a JSON object"),
        (
            {"version": "2.0", "extensions": {"serviceBus": {"maxMessageBatchSize": 0}}},
            "extensions.serviceBus.maxMessageBatchSize must be a whole number from 1",
        ),
        (
            {"version": "2.0", "extensions": {"serviceBus": {"maxMessageBatchSize": 2, "minMessageBatchSize": 3}}},
            "minMessageBatchSize is above maxMessageBatchSize",
        ),
        (
            {"version": "2.0", "extensions": {"serviceBus": {"maxBatchWaitTime": "00:03:00"}}},
            "maxBatchWaitTime is above",
        ),
        ({"version": "2.0", "logging": {"logLevel": {"default": "Loud"}}}, "logging.logLevel.default must be one of"),
    ],
)
def test_a_wrong_host_json_names_the_place(tmp_path: Path, content: object, reason: str) -> None:
    with pytest.raises(HostError, match=reason):
        read_host_json(write(tmp_path, content))


def test_a_missing_host_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"host\.json is missing"):
        read_host_json(tmp_path / "host.json")
