"""A Key Vault for tests: the secrets' REST dialect over TLS on a free loopback port, for the real SDK to talk to.

As the service it answers a call without a token by the challenge that says where to get one (401), keeps versions,
takes names without regard to case, and gives its errors as ``{"error": {"code", "message", "innererror"}}``
(learn.microsoft.com/rest/api/keyvault/secrets).
"""

import asyncio
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from aiohttp import web
from azure.core.credentials import AccessToken
from azure.keyvault.secrets.aio import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

TOKEN = "the-app-identitys-token"
_CHALLENGE = 'Bearer authorization="https://login.invalid/its-directory", resource="https://vault.azure.net"'
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class FakeIdentity:
    """A credential that has its token at once."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.scopes: list[str] = []

    async def get_token(self, *scopes: str, **options: object) -> AccessToken:
        """The token."""
        self.scopes.extend(scopes)
        return AccessToken(self.token, int(datetime.now(UTC).timestamp()) + 3600)

    async def close(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *of: object) -> None:
        """Nothing to close."""


@dataclass
class Refusal:
    """An answer in place of the secret."""

    status: int
    code: str
    inner: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = None
    """How often; None: until it is taken back."""

    def response(self) -> web.Response:
        """The error as the service words it."""
        error: dict[str, Any] = {"code": self.code, "message": f"{self.code}, says the vault"}
        if self.inner is not None:
            error["innererror"] = {"code": self.inner}
        return web.json_response({"error": error}, status=self.status, headers=self.headers)


NOT_FOUND = Refusal(404, "SecretNotFound")
DISABLED = Refusal(403, "Forbidden", "SecretDisabled")


class KeyVaultPeer:
    """A vault without secrets, in the test's own event loop; :meth:`start` it, and :meth:`stop` it in the end."""

    def __init__(self) -> None:
        self._versions: dict[str, list[dict[str, Any]]] = {}
        self._runner: web.AppRunner | None = None
        self.port = 0
        self.refusal: Refusal | None = None
        self.reads: list[str] = []
        """The names that were asked for with a token, in order, repeated tries included."""
        self.asked = asyncio.Event()
        """Set when a read has arrived."""
        self.may_answer = asyncio.Event()
        """Cleared, reads that have taken their value wait for it with the answer."""
        self.may_answer.set()

    @property
    def url(self) -> str:
        """The vault's address."""
        return f"https://127.0.0.1:{self.port}"

    def client(self, identity: FakeIdentity | None = None, **options: Any) -> SecretClient:
        """A client of the real SDK, which need not believe the certificate and the address."""
        quick = {"retry_backoff_factor": 0.01, "retry_total": 2}
        trusting = {"connection_verify": False, "verify_challenge_resource": False}
        return SecretClient(self.url, identity or FakeIdentity(), **(quick | trusting | options))

    def keep(self, name: str, value: str, **attributes: Any) -> None:
        """Make a new version of the secret; *attributes* as in REST: ``enabled``, ``exp``, ``nbf`` (Unix seconds)."""
        if not 1 <= len(name) <= 127 or not set(name.lower()) <= _NAME_CHARACTERS:
            raise ValueError(f"{name!r} is no name that a vault takes")
        versions = self._versions.setdefault(name.lower(), [])
        versions.append(
            {
                "value": value,
                "id": f"{self.url}/secrets/{name}/{len(versions) + 1:032x}",
                "attributes": {"enabled": True, **attributes},
            }
        )

    @contextmanager
    def refusing(self, refusal: Refusal) -> Iterator[None]:
        """Answer so while the block runs."""
        self.refusal = refusal
        try:
            yield
        finally:
            self.refusal = None

    async def start(self) -> None:
        """Listen, again on the same port after :meth:`stop`."""
        app = web.Application()
        app.router.add_get("/secrets/{name}/{version:.*}", self._get)
        app.router.add_put("/secrets/{name}", self._set)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=_server_context())
        await site.start()
        [(_, self.port)] = self._runner.addresses

    async def stop(self) -> None:
        """Be away: refuse connections, and drop those there are. Stopping twice is harmless."""
        self.may_answer.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _get(self, request: web.Request) -> web.Response:
        if (challenge := _challenged(request)) is not None:
            return challenge
        name = request.match_info["name"]
        self.reads.append(name)
        refusal = self._refused(name)
        versions = [
            version
            for version in self._versions.get(name.lower(), [])
            if version["id"].endswith("/" + request.match_info["version"]) or not request.match_info["version"]
        ]
        self.asked.set()
        await self.may_answer.wait()
        if refusal is None and versions:
            return web.json_response(versions[-1])
        return (refusal or NOT_FOUND).response()

    async def _set(self, request: web.Request) -> web.Response:
        if (challenge := _challenged(request)) is not None:
            return challenge
        name, sent = request.match_info["name"], await request.json()
        self.keep(name, sent["value"], **sent.get("attributes", {}))
        return web.json_response(self._versions[name.lower()][-1])

    def _refused(self, name: str) -> Refusal | None:
        if self.refusal is not None and self.refusal.times != 0:
            if self.refusal.times is not None:
                self.refusal.times -= 1
            return self.refusal
        versions = self._versions.get(name.lower())
        return DISABLED if versions and not versions[-1]["attributes"]["enabled"] else None


def _challenged(request: web.Request) -> web.Response | None:
    """What a call without the identity's token gets."""
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    return Refusal(401, "Unauthorized", headers={"WWW-Authenticate": _CHALLENGE}).response()


def _server_context() -> ssl.SSLContext:
    """TLS with a certificate of its own, made now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "key vault peer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peer.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(file)
    return context
