"""What may leave, and where to."""

import http.server
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from connections.egress import SALESFORCE_HOSTS, RefusedDestinationError, vendor_session


@pytest.mark.parametrize(
    "url",
    [
        "http://acme.my.salesforce.com/",
        "https://example.com/",
        "https://salesforce.com.evil.example/",
        "https://evilsalesforce.com/",
        "https://user@127.0.0.1/",
        "https://acme.my.salesforce.com:8443/",
        "https://acme.my.salesforce.com@evil.example/",
    ],
)
@pytest.mark.parametrize("simulator", [None, "http://127.0.0.1:9"])
def test_only_the_vendors_own_https_addresses_are_called(url: str, simulator: str | None) -> None:
    with pytest.raises(RefusedDestinationError):
        vendor_session(SALESFORCE_HOSTS, simulator=simulator).get(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.9",
        "100.64.0.1",
        "224.0.0.1",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "::1",
        "fe80::1",
        "fc00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::",
    ],
)
def test_a_vendor_host_that_resolves_to_an_inner_address_is_not_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    answer = [(family, socket.SOCK_STREAM, 6, "", (address, 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: answer)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was connected to"))

    with pytest.raises(RefusedDestinationError, match="no public address"):
        vendor_session(SALESFORCE_HOSTS).get("https://acme.my.salesforce.com/")


def test_an_address_that_changes_between_the_check_and_the_connection_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _server(lambda _: (200, {}, b"inner")) as port:
        real = socket.getaddrinfo
        answers = iter([[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))]])
        inner = real("127.0.0.1", port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: next(answers, inner))

        with pytest.raises(RefusedDestinationError, match=r"127\.0\.0\.1"):
            vendor_session(SALESFORCE_HOSTS).get("https://acme.my.salesforce.com/")


def test_redirects_are_checked_too() -> None:
    with _server(lambda _: (302, {"Location": "https://example.com/"}, b"")) as port:
        session = vendor_session(SALESFORCE_HOSTS, simulator=f"http://127.0.0.1:{port}")
        with pytest.raises(RefusedDestinationError, match=r"example\.com"):
            session.get("https://acme.my.salesforce.com/")


def test_a_simulator_gets_the_vendors_calls_whole() -> None:
    seen: list[Any] = []

    def answer(handler: http.server.BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        seen.append((handler.path, handler.headers["Authorization"]))
        return 200, {}, b"{}"

    with _server(answer) as port:
        session = vendor_session(SALESFORCE_HOSTS, simulator=f"http://127.0.0.1:{port}")
        response = session.get(
            "https://acme.my.salesforce.com/services/data/?q=a+b", headers={"Authorization": "Bearer x"}
        )

    assert seen == [("/services/data/?q=a+b", "Bearer x")]
    assert response.url == "https://acme.my.salesforce.com/services/data/?q=a+b"


@pytest.mark.parametrize("address", ["http://10.0.0.1:80", "https://127.0.0.1:80", "http://simulator.example"])
def test_a_simulator_elsewhere_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="this machine"):
        vendor_session(SALESFORCE_HOSTS, simulator=address)


def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        session = vendor_session(SALESFORCE_HOSTS, simulator=f"http://127.0.0.1:{port}", timeout=(1, 0.2))
        with pytest.raises(requests.Timeout):
            session.get("https://acme.my.salesforce.com/")


@contextmanager
def _server(answer: Any) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
