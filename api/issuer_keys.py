"""Reader tokens of an identity provider, checked with the keys that it publishes (JSON Web Key Set, RFC 7517)."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import requests
from urllib3.exceptions import HTTPError

from api.tokens import ABSURD, InvalidTokenError, Reader, TokenRules, VerificationUnavailableError
from connections.egress import RefusedDestinationError, vendor_session

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384")
"""Signatures whose checking key may be public. No HS…: a public key would then sign."""

FRESH_SECONDS: Final = 3600.0
"""How long published keys are taken for current."""
ASK_AGAIN_SECONDS: Final = 60.0
"""The least time between two looks for a key id that is not there, so that forged ids can't make us ask for ever."""
AWAY_SECONDS: Final = 5.0
"""How long an issuer that did not answer is left alone: nobody waits for the same silence twice."""
READ_SECONDS: Final = 15.0
"""How long the whole document may take, from the name's resolution to its last byte: whoever asks waits for it."""
MAX_BYTES: Final = 512 * 1024

FetchKeys = Callable[[], Awaitable[bytes]]


class IssuerKeys:
    """Checks tokens against an issuer's keys, which are read when first needed and again when they may have changed.

    Keys once read serve on while the issuer is away.
    """

    def __init__(self, fetch: FetchKeys, rules: TokenRules, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._rules = rules
        self._monotonic = monotonic
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._asked_at: float | None = None
        self._failed: tuple[float, VerificationUnavailableError] | None = None
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Reader:
        """See :meth:`api.tokens.TokenVerifier.verify`."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.InvalidTokenError, *ABSURD):
            raise InvalidTokenError("the token is malformed: it is no signed JSON Web Token") from None
        if header.get("alg") not in ALGORITHMS:
            raise InvalidTokenError(f"the token is signed in another way than {' or '.join(ALGORITHMS)}")
        key = await self._key(str(header.get("kid")))
        return self._rules.reader(token, key.key, [key.algorithm_name])

    async def _key(self, key_id: str) -> jwt.PyJWK:
        # Nobody whose key is known waits for the read that another's unknown one has brought about.
        if self._must_read(key_id):
            async with self._lock:
                if self._must_read(key_id):
                    await self._read()
        if key_id not in self._keys:
            raise InvalidTokenError("the token is signed with a key that its issuer does not publish")
        return self._keys[key_id]

    def _must_read(self, key_id: str) -> bool:
        if self._asked_at is None:
            return True
        age = self._monotonic() - self._asked_at
        return age > (FRESH_SECONDS if key_id in self._keys else ASK_AGAIN_SECONDS)

    async def _read(self) -> None:
        if self._failed is not None and self._monotonic() - self._failed[0] < AWAY_SECONDS:
            raise VerificationUnavailableError(str(self._failed[1]))
        try:
            found = _keys_by_id(await self._fetch())
        except VerificationUnavailableError as error:
            if not self._keys:
                self._failed = (self._monotonic(), error)
                raise
        else:
            self._keys = found
        self._asked_at = self._monotonic()


def _keys_by_id(document: bytes) -> dict[str, jwt.PyJWK]:
    try:
        content = json.loads(document)
        listed = content["keys"]
        described: list[dict[str, Any]] = [key for key in listed if isinstance(key, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise VerificationUnavailableError("the issuer's key document is no JSON Web Key Set") from None
    keys: dict[str, jwt.PyJWK] = {}
    for key in described:
        if key.get("use", "sig") != "sig" or not isinstance(key.get("kid"), str):
            continue
        try:
            known = jwt.PyJWK(key)
        except jwt.PyJWTError:
            # A provider may publish kinds of keys that are nobody's here.
            continue
        if known.algorithm_name in ALGORITHMS:
            keys[key["kid"]] = known
    if not keys:
        raise VerificationUnavailableError("the issuer publishes no key that tokens can be checked with")
    return keys


def keys_at(url: str, *, simulator: str | None = None) -> FetchKeys:
    """Reads the keys at *url* over TLS, from a public address alone, within :data:`READ_SECONDS`.

    *simulator* is an issuer on this machine that stands for the one at *url*: see
    :func:`connections.egress.vendor_session`.
    """
    session = vendor_session((urlsplit(url).hostname or "",), simulator=simulator, timeout=(5.0, 10.0))
    # One thread: an answer whose very headers never end holds no second one, whoever asks meanwhile.
    reading = ThreadPoolExecutor(1, thread_name_prefix="issuer-keys")

    def read() -> bytes:
        until = time.monotonic() + READ_SECONDS
        with session.get(url, stream=True) as answer:
            answer.raise_for_status()
            return _content(answer, until)

    async def fetch() -> bytes:
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(reading, read)
        except TimeoutError:
            raise VerificationUnavailableError(
                f"the issuer's keys at {url} can't be read within {READ_SECONDS:g} s"
            ) from None
        except (requests.RequestException, HTTPError, RefusedDestinationError) as error:
            raise VerificationUnavailableError(f"the issuer's keys at {url} can't be read: {error}") from error

    return fetch


def _content(answer: requests.Response, until: float) -> bytes:
    """The document, unless it is too long, or not whole at *until* on the monotonic clock.

    Raises:
        TimeoutError: it is not whole by then.
        requests.RequestException, urllib3.exceptions.HTTPError: it can't be read.
    """
    content = bytearray()
    # What has come, however little: a read of a whole buffer would wait until that is full.
    while part := answer.raw.read1(16 * 1024, decode_content=True):
        content += part
        if len(content) > MAX_BYTES:
            raise requests.RequestException(f"the document is longer than {MAX_BYTES} bytes")
        if time.monotonic() > until:
            raise TimeoutError
    return bytes(content)
