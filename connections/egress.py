"""The one way out: HTTP sessions that reach only a vendor's public hosts, over TLS, within a time limit.

Each hop is checked, so redirects are too: the scheme, the host against the vendor's list, the addresses that the name
resolves to before connecting, and the address that was connected to before anything is sent (a name server may answer
differently the second time).
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

SALESFORCE_HOSTS: Final = (".salesforce.com", ".force.com", ".salesforce.mil", ".cloudforce.com", ".sfcrmproducts.cn")
"""Domains that serve Salesforce orgs: login and My Domain hosts, government and China clouds included."""

GOOGLE_HOSTS: Final = (".www.googleapis.com", ".oauth2.googleapis.com", ".content.googleapis.com", ".docs.google.com")
"""Drive's API, its token endpoint, where media may come from, and export links; a dot before each, or other hosts whose
names end so would pass."""

GOOGLE_LINK_HOSTS: Final = (".docs.google.com", ".googleusercontent.com")
"""Export links, and where they redirect to: hosts like ``doc-0k-1s-docs.googleusercontent.com``, which get no login."""

SLACK_HOSTS: Final = (".slack.com",)
"""Slack's Web API and its workspaces."""

CONNECT_TIMEOUT_SECONDS: Final = 10.0
READ_TIMEOUT_SECONDS: Final = 120.0
"""A SOQL query is ended by Salesforce itself after two minutes (QUERY_TIMEOUT)."""

REDIRECTS: Final = 3

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address."""

Timeout = tuple[float, float]
"""Seconds to connect, seconds without a byte while reading."""


class RefusedDestinationError(Exception):
    """A call that may not leave: another scheme, a host that is not the vendor's, or an address that is not public."""


def vendor_session(
    hosts: Sequence[str],
    *,
    simulator: str | None = None,
    timeout: Timeout = (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS),
) -> requests.Session:
    """A session for the vendor whose domains are *hosts* (``.salesforce.com``: it and what is below it).

    *simulator* is the address of a vendor simulator on this machine (``http://127.0.0.1:8801``): the vendor's
    ``https`` URLs go there instead. Only a local home sets it.

    Proxies, ``.netrc`` and certificate settings of the environment are not read: a ``.netrc`` entry would replace the
    Authorization header.

    Raises:
        ValueError: *simulator* is no http address of this machine.
    """
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = REDIRECTS
    adapter = _VendorAdapter(hosts, timeout) if simulator is None else _SimulatorAdapter(hosts, timeout, simulator)
    session.adapters.clear()
    session.mount("https://", adapter)
    # Whatever is not https reaches the same adapter, which refuses it with a clear word.
    session.mount("", adapter)
    return session


class _GuardedConnection(HTTPSConnection):
    """Connects to public addresses alone."""

    def _new_conn(self) -> socket.socket:
        _require_public(self.host, {str(info[4][0]) for info in _resolve(self.host, self.port)})
        connection = super()._new_conn()
        try:
            _require_public(self.host, {str(connection.getpeername()[0])})
        except BaseException:
            connection.close()
            raise
        return connection


class _GuardedPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedConnection


class _VendorAdapter(HTTPAdapter):
    """Checks where each request goes, redirects included, and gives it a time limit."""

    def __init__(self, hosts: Sequence[str], timeout: Timeout) -> None:
        self._hosts = tuple(hosts)
        self._timeout = timeout
        super().__init__(max_retries=0, pool_connections=2, pool_maxsize=4)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"https": _GuardedPool}

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        self.check(request.url or "")
        options["timeout"] = options.get("timeout") or self._timeout
        return super().send(request, *args, **options)

    def check(self, url: str) -> None:
        """Refuse what is not the vendor's.

        Raises:
            RefusedDestinationError: scheme, port or host are not.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower().rstrip(".")
        if parts.scheme != "https":
            raise RefusedDestinationError(f"{parts.scheme or 'a URL without scheme'}://{host}: only https leaves")
        if parts.port not in (None, 443):
            raise RefusedDestinationError(f"{host}: port {parts.port} is not the vendor's")
        if not any(host.endswith(suffix) or host == suffix.removeprefix(".") for suffix in self._hosts):
            raise RefusedDestinationError(f"{host} is no host of this vendor")


class _SimulatorAdapter(_VendorAdapter):
    """Sends the vendor's URLs to a simulator on this machine; what is not the vendor's is refused as ever."""

    def __init__(self, hosts: Sequence[str], timeout: Timeout, simulator: str) -> None:
        parts = urlsplit(simulator)
        if parts.scheme != "http" or not _is_loopback(parts.hostname or ""):
            raise ValueError(f"a simulator is an http address of this machine, not {simulator}")
        self._simulator = parts
        super().__init__(hosts, timeout)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        HTTPAdapter.init_poolmanager(self, *args, **kwargs)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        url = request.url or ""
        self.check(url)
        parts = urlsplit(url)
        there = self._simulator
        rewritten = request.copy()
        rewritten.url = urlunsplit((there.scheme, there.netloc, there.path.rstrip("/") + parts.path, parts.query, ""))
        rewritten.headers["X-Forwarded-Host"] = parts.netloc
        options["timeout"] = options.get("timeout") or self._timeout
        response = HTTPAdapter.send(self, rewritten, *args, **options)
        # Redirects and messages speak of the address that was asked for.
        response.url = url
        response.request = request
        return response


def _resolve(host: str, port: int | None) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise requests.ConnectionError(f"{host} can't be resolved: {error.strerror}") from error


def _require_public(host: str, addresses: set[str]) -> None:
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        inner = _carried(address)
        if not inner.is_global or inner.is_multicast:
            raise RefusedDestinationError(f"{host} leads to {address}, which is no public address")


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address inside a mapped, 6to4 or NAT64 address, which is where the packets end up; else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
