"""Slack's own SDK, whose calls leave by the one way out. It is imported where a first call is made."""

import logging
import threading
from contextlib import suppress
from typing import Any
from urllib.request import Request

import requests
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from ingestion.slack.errors import NoJsonError
from messaging import codec

# It tells each failed call as an error, without whose it was; what is raised says it, and is told with its remedy.
logging.getLogger("slack_sdk.web.base_client").setLevel(logging.CRITICAL)


class GuardedWebClient(WebClient):
    """The SDK's client over a session of :mod:`connections.egress`. One call at a time; the session is not closed."""

    def __init__(self, token: str, session: requests.Session) -> None:
        # Without its own retries: what is tried again, and when, is decided above.
        super().__init__(token=token, retry_handlers=[])
        self._session = session
        self._turn = threading.Lock()
        self._answer: tuple[int, dict[str, str], str] = (0, {}, "")

    def ask(self, method: str, arguments: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers (by lower-case name) and body of the answer, whatever it says.

        Raises:
            NoJsonError: the body is no JSON object.
            requests.RequestException: there was no answer.
            RefusedDestinationError: the call may not leave.
        """
        with self._turn:
            with suppress(SlackApiError):  # the answer says what the error would
                self.api_call(method, params=arguments)
            status, headers, text = self._answer
        try:
            # Not what the SDK has parsed: that has floats.
            body = codec.decode(text)
        except codec.DecodeError:
            raise NoJsonError(status) from None
        if not isinstance(body, dict):
            raise NoJsonError(status)
        return status, headers, body

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        """The SDK's one place where HTTP is spoken."""
        sent = req.data if isinstance(req.data, bytes) else None
        response = self._session.post(url, data=sent, headers=dict(req.header_items()))
        headers = {name.lower(): value for name, value in response.headers.items()}
        response.encoding = response.encoding or "utf-8"
        self._answer = (response.status_code, headers, response.text)
        return {"status": response.status_code, "headers": headers, "body": response.text}
