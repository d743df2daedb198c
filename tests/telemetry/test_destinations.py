"""Where telemetry goes, in processes of their own: nowhere, to stderr, to a collector, to Application Insights."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from running_app import running_app
from telemetry_sink import MANAGED_IDENTITY_TOKEN, TelemetrySink

from operations.telemetry import Telemetry, configure
from settings import Settings, SettingsError

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "support" / "telemetry_process.py"
INSTRUMENTATION = "InstrumentationKey=00000000-0000-0000-0000-000000000000"
VARIABLES = ("OTEL_", "APPLICATIONINSIGHTS_", "SHARDLINE_", "AZURE_")


def environment(**variables: str) -> dict[str, str]:
    """This one, without what it says of telemetry, and with *variables*."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLES)}
    return {**clean, "PYTHONPATH": f"{ROOT}{os.pathsep}{PROGRAM.parent}", **variables}


def run(folder: Path, records: int = 3, **variables: str) -> tuple[dict[str, Any], str]:
    """What the process said, and its log."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder / "data"), str(records)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert (said["vectors"], said["parked"]) == (records, 0)
    return said, done.stderr


def test_without_a_destination_no_sdk_is_loaded(tmp_path: Path) -> None:
    said, log = run(tmp_path)
    assert said["modules"] == []
    assert log == ""


def test_switched_off_no_sdk_is_loaded_whatever_destination_there_is(tmp_path: Path) -> None:
    said, _ = run(tmp_path, OTEL_SDK_DISABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    assert said["modules"] == []


def test_a_collector_gets_the_spans_and_the_metrics(tmp_path: Path) -> None:
    with TelemetrySink() as sink:
        run(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.address)
    normalized, embedded = sink.named("process ingestion-events"), sink.named("process embedding-jobs")
    assert len(normalized) == len(embedded) == 3
    assert {span.trace_id.hex() for span in embedded} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert sink.resources[0]["service.name"] == "shardline"
    assert {"shardline.messages", "shardline.batch.size", "shardline.vectors"} <= sink.metric_names()
    [vectors] = [metric for metric in sink.metrics if metric.name == "shardline.vectors"]
    assert (vectors.unit, vectors.sum.data_points[0].as_int) == ("{vector}", 3)
    assert all(b"Planted" not in body for body in sink.bodies)


def test_each_signal_can_be_left_out_or_sent_elsewhere(tmp_path: Path) -> None:
    with TelemetrySink() as sink:
        run(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.address, OTEL_TRACES_EXPORTER="none")
        assert sink.spans == []
        assert sink.metrics
    with TelemetrySink() as sink:
        run(tmp_path / "2", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{sink.address}/v1/traces", OTEL_SERVICE_NAME="mine")
        assert sink.metrics == []
        assert sink.named("process ingestion-events")
        assert sink.resources[0]["service.name"] == "mine"


def test_sampling_is_by_the_standard_variables(tmp_path: Path) -> None:
    with TelemetrySink() as sink:
        run(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=sink.address, OTEL_TRACES_SAMPLER="always_off")
    assert sink.spans == []
    assert "shardline.messages" in sink.metric_names()


def test_the_console_gets_a_line_a_span_and_stdout_stays_clean(tmp_path: Path) -> None:
    _, log = run(tmp_path, SHARDLINE_TELEMETRY="console")
    lines = [json.loads(line) for line in log.splitlines()]
    spans = [line for line in lines if "kind" in line]
    assert [span["name"] for span in spans].count("process ingestion-events") == 3
    [metrics] = [line for line in lines if "resource_metrics" in line]
    assert "shardline.messages" in json.dumps(metrics)


def test_a_destination_that_is_not_there_neither_breaks_nor_floods_anything(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
        address = f"http://user:planted-password@127.0.0.1:{taken.getsockname()[1]}/planted-path"
        _, log = run(tmp_path, 300, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_BSP_SCHEDULE_DELAY="50")
    [line] = log.splitlines()
    assert "telemetry is dropped, its destination does not take it" in line
    assert "planted" not in line


def test_a_destination_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    with TelemetrySink(silent=True) as sink:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": sink.address, "OTEL_BSP_MAX_QUEUE_SIZE": "600"}
        run(tmp_path, 300, **variables, OTEL_BSP_SCHEDULE_DELAY="50")
    assert sink.spans == []


def test_sigterm_exports_what_is_left(tmp_path: Path) -> None:
    with TelemetrySink() as sink:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path / "data"), "3", "--hold"],
            env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=sink.address, OTEL_BSP_SCHEDULE_DELAY="600000"),
            stdout=subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            assert sink.spans == []
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
        finally:
            process.kill()
            process.communicate()
    assert len(sink.named("process embedding-jobs")) == 3
    assert "shardline.vectors" in sink.metric_names()


def test_a_running_app_tells_of_its_polls_its_messages_and_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes of ``shardline up`` take the destination of its environment, and export the rest at the stop."""
    with TelemetrySink() as sink:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with running_app(tmp_path / "data") as app:
            token = app.token("ann@larkmoor.example")
            assert app.search(token, {"query": "renewal"}).status_code == 200
        sink.wait_for("POST search")
    [search] = sink.named("POST search")
    assert search.kind == search.SPAN_KIND_SERVER
    [poll] = sink.named("poll salesforce")[:1]
    read = sink.named("create ingestion-events")
    assert len(read) > 200
    assert {link.span_id for span in read for link in span.links} == {poll.span_id}
    traces = {span.trace_id for span in read}
    assert traces == {span.trace_id for span in sink.named("process ingestion-events")}
    assert traces >= {span.trace_id for span in sink.named("process embedding-jobs")}
    assert all(token.encode() not in body and b"renewal" not in body for body in sink.bodies)


@pytest.fixture
def insights(tmp_path: Path) -> Any:
    """Application Insights over TLS, as it is."""
    with TelemetrySink(folder=tmp_path) as sink:
        yield sink


def test_application_insights_gets_both_under_the_apps_identity(tmp_path: Path, insights: TelemetrySink) -> None:
    run(
        tmp_path,
        APPLICATIONINSIGHTS_CONNECTION_STRING=f"{INSTRUMENTATION};IngestionEndpoint={insights.address}/",
        APPLICATIONINSIGHTS_AUTHENTICATION_STRING="ClientId=the-identity;Authorization=AAD",
        REQUESTS_CA_BUNDLE=str(insights.certificate),
        IDENTITY_ENDPOINT=f"{insights.address}/token",
        IDENTITY_HEADER="secret-header",
    )
    assert set(insights.authorizations) == {f"Bearer {MANAGED_IDENTITY_TOKEN}"}
    assert all("the-identity" in request for request in insights.token_requests)
    requests = [item["data"]["baseData"] for item in insights.items if item["data"]["baseType"] == "RequestData"]
    [normalized] = [one for one in requests if one["name"] == "process ingestion-events"][:1]
    assert normalized["success"] is True
    assert normalized["properties"]["shardline.correlation_id"] == "c0ffee"
    assert normalized["properties"]["shardline.outcome"] == "done"
    roles = {item["tags"]["ai.cloud.role"] for item in insights.items}
    assert roles == {"shardline"}
    operations = {item["tags"].get("ai.operation.id") for item in insights.items}
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in operations
    metrics = {
        metric["name"]
        for item in insights.items
        if item["data"]["baseType"] == "MetricData"
        for metric in item["data"]["baseData"]["metrics"]
    }
    assert {"shardline.messages", "shardline.lag.embedded"} <= metrics
    assert all(b"Planted" not in body for body in insights.bodies)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is malformed"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://x"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is malformed"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc",
        ),
        (
            {
                "APPLICATIONINSIGHTS_CONNECTION_STRING": INSTRUMENTATION,
                "APPLICATIONINSIGHTS_AUTHENTICATION_STRING": "x",
            },
            "APPLICATIONINSIGHTS_AUTHENTICATION_STRING is malformed",
        ),
        (
            {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=none"},
            "APPLICATIONINSIGHTS_CONNECTION_STRING is malformed",
        ),
    ],
)
def test_a_malformed_destination_is_named_in_one_line(variables: dict[str, str], named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        configure(Settings(home="local", data_dir=tmp_path), variables)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_providers_of_the_host_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY``: what the worker has set up exports, nothing twice."""
    of_host = trace.NoOpTracerProvider()
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", of_host)
    found = configure(Settings(home="local", data_dir=tmp_path), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    assert found.metrics.on
    assert trace.get_tracer_provider() is of_host
    assert found == Telemetry(found.metrics), "it has nothing of its own to close"
