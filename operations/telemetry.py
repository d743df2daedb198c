"""Where traces and metrics go: the SDK, and the exporters of the destinations that the environment names.

Without a destination nothing of the SDK is loaded, and the app's spans and instruments cost nothing. What a destination
can't take is dropped: it waits in queues of a fixed length, for threads of their own, so that a destination which is
away neither slows the chain nor breaks it.
"""

import asyncio
import atexit
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api

from messaging import tracing
from operations.metrics import Metrics
from settings import Settings, SettingsError

log = logging.getLogger(__name__)

APPLICATION_INSIGHTS: Final = "APPLICATIONINSIGHTS_CONNECTION_STRING"
APPLICATION_INSIGHTS_LOGIN: Final = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"
OTLP: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
OTLP_TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
OTLP_METRICS: Final = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
OTLP_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
TRACES: Final = "OTEL_TRACES_EXPORTER"
METRICS: Final = "OTEL_METRICS_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"

SERVICE: Final = "shardline"
"""``service.name``, unless ``OTEL_SERVICE_NAME`` says otherwise. The host's own telemetry has the app's name."""

FLUSH_WITHIN: Final = 5.0
"""Seconds that the end of a process waits at most for what is still to be exported."""

QUEUED_SPANS: Final = 8192
"""Spans that wait for export at most (some 16 MB): those of a few large batches, which end at once.
``OTEL_BSP_MAX_QUEUE_SIZE`` says otherwise."""

LONGEST_VALUE: Final = 256
"""Characters of an attribute's value: some are what a producer wrote."""

REPORTED_EVERY: Final = 300.0
"""Seconds between two lines in the log that an export has failed."""

_REPORTERS: Final = ("opentelemetry", "azure.monitor.opentelemetry")
"""The loggers above those that say so, for each batch and with a traceback."""

_PLAIN: Final = re.compile(r"[\w ,.'-]{1,100}\Z")
"""What of a report can be told: no address, which may hold a key."""


class _Provider(Protocol):
    def shutdown(self) -> object:
        """Export what is left, and no more."""


class _Ending:
    """A provider's orderly end, in a thread that is there before it is needed: at exit no thread can be started."""

    def __init__(self, provider: _Provider) -> None:
        self._provider = provider
        self._asked = threading.Event()
        self._done = threading.Event()
        threading.Thread(target=self._end, name="telemetry end", daemon=True).start()

    def _end(self) -> None:
        self._asked.wait()
        try:
            self._provider.shutdown()
        finally:
            self._done.set()

    def ask(self) -> None:
        self._asked.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, seconds: float) -> None:
        self._done.wait(seconds)


@dataclass(frozen=True)
class Telemetry:
    """The telemetry of a process: its *metrics*, and what is its own to end."""

    metrics: Metrics = field(default_factory=Metrics)
    _endings: Sequence[_Ending] = ()
    _until: list[float] = field(default_factory=list, compare=False)

    async def close(self) -> None:
        """Export what is left, for :data:`FLUSH_WITHIN` at most; nothing is exported after it."""
        until = self._ask()
        while not all(ending.done for ending in self._endings) and time.monotonic() < until:  # noqa: ASYNC110 - a thread's end
            await asyncio.sleep(0.01)

    def close_at_once(self) -> None:
        """As :meth:`close`, where no loop runs on."""
        until = self._ask()
        for ending in self._endings:
            ending.wait(max(0.0, until - time.monotonic()))

    def _ask(self) -> float:
        """Ask for the end, and until when it may be waited for: asked again, there is not more time."""
        for ending in self._endings:
            ending.ask()
        if not self._until:
            self._until.append(time.monotonic() + FLUSH_WITHIN)
        return self._until[0]


def configure(settings: Settings, environment: Mapping[str, str] = os.environ) -> Telemetry:
    """The telemetry that settings and environment ask for; once a process, as the providers are the process's own.

    Where the host has installed providers already, they are taken: nothing is exported twice.

    Raises:
        SettingsError: a destination can't be what was written.
    """
    if tracing.tracer() is not None:
        log.info("traces and metrics go where the host sends its own")
        return Telemetry(Metrics(metrics_api.get_meter(tracing.SCOPE)))
    wanted = _Destinations.of(settings, environment)
    if not wanted:
        return Telemetry()
    return _installed(wanted)


@dataclass(frozen=True, slots=True)
class _Destinations:
    """What goes where."""

    application_insights: str | None
    otlp_traces: bool
    otlp_metrics: bool
    console: bool
    traces: bool
    metrics: bool

    def __bool__(self) -> bool:
        return bool(self.application_insights or self.otlp_traces or self.otlp_metrics or self.console)

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str]) -> "_Destinations":
        """What settings and environment name; nothing at all when ``OTEL_SDK_DISABLED`` is true.

        Raises:
            SettingsError: one of them is malformed.
        """
        enabled = environment.get(DISABLED, "").strip().lower() != "true"
        traces = environment.get(TRACES) != "none"
        metrics = environment.get(METRICS) != "none"
        otlp = _address(OTLP, environment)
        otlp_traces = _address(OTLP_TRACES, environment) or otlp
        otlp_metrics = _address(OTLP_METRICS, environment) or otlp
        if (otlp_traces or otlp_metrics) and environment.get(OTLP_PROTOCOL, "") not in ("", "http/protobuf"):
            raise SettingsError(f"{OTLP_PROTOCOL} is {environment[OTLP_PROTOCOL]}: only http/protobuf is spoken here")
        insights = environment.get(APPLICATION_INSIGHTS)
        login = environment.get(APPLICATION_INSIGHTS_LOGIN)
        if insights and login and "authorization=aad" not in login.replace(" ", "").lower().split(";"):
            raise SettingsError(f"{APPLICATION_INSIGHTS_LOGIN} is malformed: it reads ClientId=…;Authorization=AAD")
        return cls(
            application_insights=insights if enabled else None,
            otlp_traces=enabled and traces and otlp_traces,
            otlp_metrics=enabled and metrics and otlp_metrics,
            console=enabled and settings.telemetry == "console",
            traces=traces,
            metrics=metrics,
        )


def _address(name: str, environment: Mapping[str, str]) -> bool:
    """Whether the setting names an address.

    Raises:
        SettingsError: it is set to something that is none.
    """
    text = environment.get(name, "").strip()
    if not text:
        return False
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{name} is malformed: it must be an address like http://127.0.0.1:4318")
    return True


def _installed(wanted: _Destinations) -> Telemetry:
    """The providers of this process, with all exporters that are *wanted*."""
    # Here and below: the SDK and the exporters are loaded by a process that exports, and by no other.
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        ConsoleMetricExporter,
        MetricExporter,
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import SpanLimits, TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter  # noqa: PLC0415

    spans: list[SpanExporter] = []
    readings: list[MetricExporter] = []
    if wanted.application_insights:
        _add_application_insights(wanted.application_insights, spans, readings)
    if wanted.otlp_traces:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

        spans.append(OTLPSpanExporter())
    if wanted.otlp_metrics:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

        readings.append(OTLPMetricExporter())
    if wanted.console:
        # To stderr, a line each: what a command prints may be read by a program.
        spans.append(ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n"))
        readings.append(ConsoleMetricExporter(out=sys.stderr, formatter=lambda read: f"{read.to_json(indent=None)}\n"))

    resource = Resource.create(_resource())
    endings: list[_Ending] = []
    if wanted.traces:
        provider = TracerProvider(
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=LONGEST_VALUE),
        )
        for exporter in spans:
            provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_queued_spans()))
        trace_api.set_tracer_provider(provider)
        endings.append(_Ending(provider))
    metrics = Metrics()
    if wanted.metrics:
        readers = [PeriodicExportingMetricReader(exporter) for exporter in readings]
        meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        metrics_api.set_meter_provider(meters)
        metrics = Metrics(meters.get_meter(tracing.SCOPE))
        endings.append(_Ending(meters))
    reported = _SeldomReported()
    for name in _REPORTERS:
        reporter = logging.getLogger(name)
        reporter.addHandler(reported)
        reporter.propagate = False
    telemetry = Telemetry(metrics, endings)
    atexit.register(telemetry.close_at_once)
    _close_on_sigterm(telemetry)
    return telemetry


def _queued_spans() -> int | None:
    """None leaves it to the environment."""
    return None if "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ else QUEUED_SPANS


def _resource() -> dict[str, str]:
    """What all telemetry of this process has; what the environment says stands."""
    own = {"service.instance.id": f"{socket.gethostname()}:{os.getpid()}"}
    if "OTEL_SERVICE_NAME" not in os.environ:
        own["service.name"] = SERVICE
    written = {pair.split("=", 1)[0].strip() for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")}
    return {name: value for name, value in own.items() if name not in written}


def _add_application_insights(connection: str, spans: list[Any], readings: list[Any]) -> None:
    """Add the exporters of Application Insights.

    They log in themselves as ``APPLICATIONINSIGHTS_AUTHENTICATION_STRING`` says. They would also keep batches on the
    disk, and report on themselves to addresses of Microsoft's: not here, unless the environment says otherwise.

    Raises:
        SettingsError: *connection* is no connection string of Application Insights.
    """
    for name in ("STATSBEAT_DISABLED_ALL", "SDKSTATS_DISABLED", "CONTROLPLANE_DISABLED"):
        os.environ.setdefault(f"APPLICATIONINSIGHTS_{name}", "true")
    # It would log each request with its address.
    logging.getLogger("azure.core.pipeline.policies.http_logging_policy").setLevel(logging.WARNING)
    from azure.monitor.opentelemetry.exporter import (  # noqa: PLC0415
        AzureMonitorMetricExporter,
        AzureMonitorTraceExporter,
    )

    options = {"connection_string": connection, "disable_offline_storage": True, "retry_total": 3}
    try:
        spans.append(AzureMonitorTraceExporter(**options))
        readings.append(AzureMonitorMetricExporter(**options))
    except ValueError as error:
        raise SettingsError(f"{APPLICATION_INSIGHTS} is malformed: {error}") from None


class _SeldomReported(logging.Handler):
    """Says now and then, in one line, that a destination takes nothing, in place of the reports about it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told_at = -REPORTED_EVERY

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on what was reported, if nothing was for a while."""
        now = time.monotonic()
        if now - self._told_at >= REPORTED_EVERY:
            self._told_at = now
            log.warning("telemetry is dropped, its destination does not take it (%s)", _plainly(record))


def _plainly(record: logging.LogRecord) -> str:
    """What the record says, without its traceback and without any text that may be an address."""
    if record.exc_info and record.exc_info[0]:
        return record.exc_info[0].__name__
    if not isinstance(record.args, tuple) or not record.args:
        return record.msg if _PLAIN.match(str(record.msg)) else record.name
    told = tuple(argument if isinstance(argument, int | float) else _plain(argument) for argument in record.args)
    return str(record.msg) % told


def _plain(argument: object) -> str:
    if isinstance(argument, BaseException):
        return type(argument).__name__
    return str(argument) if _PLAIN.match(str(argument)) else "…"


def _close_on_sigterm(telemetry: Telemetry) -> None:
    """Have SIGTERM close the telemetry, in a process that it would end at once; others have an end of their own."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return

    def close(number: int, _frame: FrameType | None) -> None:
        telemetry.close_at_once()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, close)
