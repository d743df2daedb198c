"""Where a client that only knows ``https://….salesforce.com`` is turned to the simulator."""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class SimulatorAdapter(HTTPAdapter):
    """A transport for ``requests.Session.mount("https://", …)``: calls to Salesforce hosts go to *base_url* instead.

    Path, query, headers and body stay as they are; no proxy is used. Any other host is refused, so that a session with
    this adapter can reach nothing but the simulator.

    Raises:
        ValueError: *base_url* is not ``http://`` on a loopback address.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
            raise ValueError(f"a simulator listens on http://127.0.0.1, not on {base_url}")
        self._netloc = parts.netloc
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send the request to the simulator.

        Raises:
            requests.exceptions.InvalidURL: the request is not for ``https://….salesforce.com``.
        """
        parts = urlsplit(str(request.url))
        if parts.scheme != "https" or not (parts.hostname or "").endswith(".salesforce.com"):
            raise requests.exceptions.InvalidURL(f"{parts.scheme}://{parts.netloc} is no Salesforce host")
        turned = request.copy()
        turned.url = urlunsplit(("http", self._netloc, parts.path, parts.query, ""))
        options["proxies"] = {}
        return super().send(turned, *args, **options)
