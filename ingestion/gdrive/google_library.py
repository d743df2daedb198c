"""Google's client library for one user: its service over the one way out, with exact numbers and this source's errors.

Nothing but :mod:`ingestion.gdrive.client` imports it, and that when it first calls: the library is heavy.
"""

import logging
from collections.abc import Callable
from typing import Any

import requests
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.model import JsonModel

from connections.egress import RefusedDestinationError
from connections.secrets import Secret
from ingestion.errors import CredentialError, SourceError, TransientError
from ingestion.gdrive.errors import FileRefusedError, of_response
from ingestion.gdrive.http import LARGEST_ANSWER, UNREADABLE_KEY, DriveHttp
from messaging import codec
from messaging.times import Clock

# It warns of each refusal without saying of what; the error that follows says it with its remedy.
logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)


class ExactModel(JsonModel):  # type: ignore[misc] # the library has no types
    """The library's reading of JSON, with exact numbers."""

    def deserialize(self, content: bytes) -> Any:
        """What *content* says."""
        return codec.decode(content)


class GoogleLibrary:
    """Opened with the key in *secret*. Not safe between threads.

    Raises:
        CredentialError: the secret holds no key of a service account.
    """

    def __init__(self, secret: Secret, subject: str, simulator: str | None, clock: Clock) -> None:
        try:
            key = codec.decode(secret.reveal().encode())
        except codec.DecodeError:
            raise CredentialError(UNREADABLE_KEY) from None
        if not isinstance(key, dict):
            raise CredentialError(UNREADABLE_KEY)
        self.secret = secret
        self._clock = clock
        self._http = DriveHttp(key, subject, simulator=simulator)
        self._service = build(
            "drive", "v3", http=self._http, static_discovery=True, cache_discovery=False, model=ExactModel(False)
        )

    def run(self, request: Callable[[Any], Any], *, limit: int = LARGEST_ANSWER) -> Any:
        """The answer, of *limit* bytes at most, to the request that *request* makes with the service.

        Raises:
            SourceError: see :mod:`ingestion.gdrive.errors`.
        """
        return self._translated(lambda: request(self._service).execute(num_retries=0), limit)

    def linked(self, link: str, *, limit: int) -> bytes:
        """What is at *link*, as :meth:`run`."""
        content: bytes = self._translated(lambda: self._followed(link), limit)
        return content

    def close(self) -> None:
        """Give back connections."""
        self._http.close()

    def _followed(self, link: str) -> bytes:
        try:
            answer, content = self._http.link(link)
        except RefusedDestinationError as error:
            raise FileRefusedError("link", str(error)) from None
        if answer.status >= 300:
            raise of_response(int(answer.status), content, answer, self._clock())
        return content

    def _translated(self, call: Callable[[], Any], limit: int) -> Any:
        self._http.limit = limit
        try:
            return call()
        except SourceError:
            raise
        except HttpError as error:
            raise of_response(int(error.resp.status), error.content, error.resp, self._clock()) from None
        except RefusedDestinationError as error:
            raise CredentialError(f"the call was not made: {error}") from None
        except (codec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise TransientError(f"Drive's answer is not what it should be ({type(error).__name__})") from None
        except requests.RequestException as error:
            raise TransientError(f"Drive can't be reached ({type(error).__name__})") from None
