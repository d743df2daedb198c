"""What Google's client library calls through: the shape of ``httplib2.Http`` over the one way out."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import google.auth.exceptions
import google.auth.transport.requests
import httplib2
import requests
from google.oauth2 import service_account

from connections.egress import GOOGLE_HOSTS, GOOGLE_LINK_HOSTS, RefusedDestinationError, vendor_session
from ingestion.errors import CredentialError, TransientError
from ingestion.gdrive.errors import ContentTooLargeError, of_login

SCOPE = "https://www.googleapis.com/auth/drive.readonly"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
"""Where assertions go, whatever the key file says: a file must not choose where they are sent."""

LINK_HOST = "docs.google.com"
"""Where export links lead; the login goes to no other host for them."""

LARGEST_ANSWER = 32 * 1024 * 1024
_BLOCK = 256 * 1024


class DriveHttp:
    """Calls of one user (``""``: of the service account itself). Not safe between threads."""

    def __init__(self, key: Mapping[str, Any], subject: str, *, simulator: str | None) -> None:
        """
        Raises:
            CredentialError: *key* is no key of a service account.
        """
        self._subject = subject
        self._session = vendor_session(GOOGLE_HOSTS, simulator=simulator)
        self._links = vendor_session(GOOGLE_LINK_HOSTS, simulator=simulator)
        self._request = google.auth.transport.requests.Request(session=self._session)
        try:
            self._credentials = service_account.Credentials.from_service_account_info(
                {**key, "token_uri": TOKEN_URI, "universe_domain": "googleapis.com"},
                scopes=[SCOPE],
                subject=subject or None,
            )
        except (ValueError, KeyError, TypeError, AttributeError, google.auth.exceptions.GoogleAuthError):
            # Without its cause, which may quote the key.
            raise CredentialError(UNREADABLE_KEY) from None
        self.limit = LARGEST_ANSWER
        """The most bytes of the next answer."""

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_ignored: Any,
    ) -> tuple[httplib2.Response, bytes]:
        """As ``httplib2.Http.request``; an access token that has ended is renewed once.

        Raises:
            SourceError: Google gives no token, or the answer is larger than :attr:`limit`.
            requests.RequestException: Google can't be reached.
        """
        response, content = self._once(uri, method, body, headers or {})
        if response.status == 401:
            self._refresh()
            response, content = self._once(uri, method, body, headers or {})
        return response, content

    def link(self, uri: str) -> tuple[httplib2.Response, bytes]:
        """As :meth:`request`, of an export link, which may redirect to hosts for downloads, without the login.

        Raises:
            RefusedDestinationError: the link itself leads elsewhere.
        """
        host = urlsplit(uri).hostname
        if host != LINK_HOST:
            raise RefusedDestinationError(f"{host} is no host of export links")
        response, content = self._once(uri, "GET", None, {}, self._links)
        if response.status == 401:
            self._refresh()
            response, content = self._once(uri, "GET", None, {}, self._links)
        return response, content

    def _once(
        self,
        uri: str,
        method: str,
        body: bytes | str | None,
        headers: Mapping[str, str],
        session: requests.Session | None = None,
    ) -> tuple[httplib2.Response, bytes]:
        if not self._credentials.valid:
            self._refresh()
        sent = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        sent["authorization"] = f"Bearer {self._credentials.token}"
        # The library drops the login's header where a redirect leads to another host.
        with (session or self._session).request(method, uri, data=body, headers=sent, stream=True) as answer:
            content = self._content(answer)
        told = {name.lower(): value for name, value in answer.headers.items()}
        return httplib2.Response({**told, "status": str(answer.status_code)}), content

    def _content(self, answer: requests.Response) -> bytes:
        blocks = bytearray()
        limit = self.limit if answer.ok else LARGEST_ANSWER
        said = answer.headers.get("Content-Length", "")
        if said.isascii() and said.isdigit() and int(said) > limit:
            raise ContentTooLargeError(f"the content has {int(said):,} bytes, more than the {limit:,} that are read")
        for block in answer.iter_content(_BLOCK):
            blocks += block
            if len(blocks) > limit:
                raise ContentTooLargeError(f"the content has more than the {limit:,} bytes that are read")
        return bytes(blocks)

    def _refresh(self) -> None:
        try:
            self._credentials.refresh(self._request)
        except google.auth.exceptions.RefreshError as error:
            told = error.args[1] if len(error.args) > 1 else None
            raise of_login(told, retryable=error.retryable, subject=self._subject, scope=SCOPE) from None
        except google.auth.exceptions.TransportError as error:
            raise TransientError(f"Google's token endpoint can't be reached ({type(error).__name__})") from None

    def close(self) -> None:
        """Give back connections."""
        self._session.close()
        self._links.close()


UNREADABLE_KEY = (
    "the secret is no key of a service account: store the whole JSON file that Google Cloud gave when the key was made"
)
