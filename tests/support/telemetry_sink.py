"""Where the tests' telemetry goes: on loopback, an OTLP collector and Application Insights' ingestion in one server."""

import gzip
import ipaddress
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

MANAGED_IDENTITY_TOKEN = "the-managed-identitys-token"


class TelemetrySink:
    """A server that keeps what it is sent; used as a context. *silent*: it takes everything and never answers.

    With a *folder* it speaks TLS under a certificate that it makes and keeps there.
    """

    def __init__(self, *, silent: bool = False, folder: Path | None = None) -> None:
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.metrics: list[Metric] = []
        self.items: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.token_requests: list[str] = []
        self.arrived = threading.Condition()
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, silent=silent))
        self._server.daemon_threads = True
        scheme = "http"
        if folder is not None:
            scheme, self.certificate = "https", _certificate(folder)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="telemetry sink", daemon=True).start()
        return self

    def __exit__(self, *of: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def named(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, name: str, count: int = 1, *, seconds: float = 60) -> None:
        """Wait until there are so many spans of that name."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.named(name)) >= count, seconds), f"no {name} came"

    def metric_names(self) -> set[str]:
        """The names of all metrics that came."""
        return {metric.name for metric in self.metrics}

    def take(self, path: str, body: bytes, authorization: str | None) -> None:
        """Keep what was posted."""
        with self.arrived:
            self.bodies.append(body)
            if path == "/v1/traces":
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    told = {item.key: item.value.string_value for item in resource.resource.attributes}
                    self.resources.append(told)
                    for scope in resource.scope_spans:
                        self.spans.extend(scope.spans)
            elif path == "/v1/metrics":
                for resource_metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope_metrics in resource_metrics.scope_metrics:
                        self.metrics.extend(scope_metrics.metrics)
            elif path.endswith("/track"):
                self.items.extend(json.loads(body))
                self.authorizations.append(authorization)
            self.arrived.notify_all()


def _handler(sink: TelemetrySink, *, silent: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if silent:
                sink.released.wait()
                return
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            sink.take(self.path.split("?")[0], body, self.headers.get("authorization"))
            count = len(json.loads(body)) if self.path.endswith("/track") else 0
            self._answer({"itemsReceived": count, "itemsAccepted": count, "errors": []} if count else None)

        def do_GET(self) -> None:
            """The identity endpoint of an app on Azure."""
            sink.token_requests.append(self.path)
            expires = int(datetime.now(UTC).timestamp()) + 3600
            self._answer(
                {
                    "access_token": MANAGED_IDENTITY_TOKEN,
                    "expires_on": str(expires),
                    "resource": "x",
                    "token_type": "Bearer",
                }
            )

        def _answer(self, content: dict[str, Any] | None) -> None:
            data = json.dumps(content).encode() if content else b""
            self.send_response(200)
            self.send_header("content-type", "application/json" if content else "application/x-protobuf")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Handler


def _certificate(folder: Path) -> Path:
    """A key and a certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "telemetry sink")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "telemetry-sink.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file
