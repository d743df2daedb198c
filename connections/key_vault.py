"""Secrets in Azure Key Vault: the twin for the home on Azure."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from urllib.parse import urlsplit

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.keyvault.secrets import KeyVaultSecret
from azure.keyvault.secrets.aio import SecretClient

from connections.secrets import Secret, SecretError, SecretsUnavailableError, secret_name
from messaging.times import Clock, to_text, utc_now

KEPT_FOR = timedelta(seconds=60)
"""How long a value is used before it is read again."""

CALL_TIMEOUT = timedelta(seconds=20)
"""How long one read may take with its retries; a poll waits for it under its lease."""

LONGEST_PART = 62
"""Characters that tenant and name may each take of the 127 of a secret's name."""

_PLAIN = re.compile(r"(?!0[xh])[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_DISABLED = "SecretDisabled"


def key_vault_name(tenant_id: str, name: str) -> str:
    """``<tenant>--<name>``: what the vault calls the secret *name* of *tenant_id*; no two references share one.

    A vault's names have letters without regard to case, digits and dashes, 127 in all. Tenant and name in lower-case
    letters, digits and single dashes are themselves; any other is ``0x`` and the hexadecimal digits of its UTF-8 bytes.
    What then has more than 62 characters is ``0h`` and the first 60 hexadecimal digits of its SHA-256.
    """
    return f"{_part(tenant_id)}--{_part(name)}"


def _part(text: str) -> str:
    content = text.encode(errors="surrogatepass")
    part = text if _PLAIN.match(text) else f"0x{content.hex()}"
    return part if len(part) <= LONGEST_PART else f"0h{sha256(content).hexdigest()[: LONGEST_PART - 2]}"


def secret_client(vault_url: str, credential: AsyncTokenCredential) -> SecretClient:
    """A client of the vault that gives up in seconds. The caller closes *credential*."""
    return SecretClient(
        vault_url, credential, retry_total=3, retry_backoff_factor=0.5, connection_timeout=5, read_timeout=10
    )


@dataclass(frozen=True, slots=True)
class _Kept:
    """A value and the read it came from: when it began, and which of all reads it was."""

    secret: Secret
    read_at: datetime
    read: int


class KeyVaultSecrets:
    """``secret:acme/sf-key`` is the newest version of the vault's secret ``acme--sf-key``; see :func:`key_vault_name`.

    A value is kept for :data:`KEPT_FOR`, and many who ask for one at the same time share a read. So a changed secret is
    taken up without a restart: within a minute, or at once by who asks for a fresh one.

    Args:
        connect: makes the client, when the first call needs it; :meth:`close` closes it.
        clock: the present moment.
        expiring: is told at each read of a secret that has an expiry date: tenant, name, and how long it is off.
    """

    def __init__(
        self,
        connect: Callable[[], SecretClient],
        *,
        clock: Clock = utc_now,
        expiring: Callable[[str, str, timedelta], None] | None = None,
    ) -> None:
        self._connect = connect
        self._expiring = expiring
        self._made: SecretClient | None = None
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._reading: dict[str, asyncio.Task[Secret]] = {}
        self._reads = 0

    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:
        """The secret that *reference* names in the space of *tenant_id*; *fresh* is read after the call began."""
        name = key_vault_name(tenant_id, secret_name(tenant_id, reference))
        if fresh:
            return await self._read(reference, name)
        kept = self._kept.get(name)
        if kept is not None and kept.read_at <= self._clock() < kept.read_at + KEPT_FOR:
            return kept.secret
        if name not in self._reading:
            reading = asyncio.create_task(self._read(reference, name))
            self._reading[name] = reading
            reading.add_done_callback(partial(self._forget_reading, name))
        # Shielded: one who no longer waits must not take the value from the others.
        return await asyncio.shield(self._reading[name])

    async def close(self) -> None:
        """End the reads in progress and close the client, when there is one."""
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        if self._made is not None:
            await self._made.close()
            self._made = None

    def _forget_reading(self, name: str, reading: asyncio.Task[Secret]) -> None:
        del self._reading[name]
        if not reading.cancelled():
            # Looked at, so that a failure that nobody waited for any more is no noise in the log.
            reading.exception()

    async def _read(self, reference: str, name: str) -> Secret:
        """Ask the vault, and keep the value unless a later read has kept its own."""
        now = self._clock()
        self._reads += 1
        read = self._reads
        try:
            async with asyncio.timeout(CALL_TIMEOUT.total_seconds()):
                found = await self._client.get_secret(name)
        except ResourceNotFoundError:
            raise SecretError(f"{reference} is not in the vault: {self._mend(name)}") from None
        except (AzureError, TimeoutError, ValueError) as error:
            # ValueError: what the vault at this address asks a token for is no vault's.
            raise self._refused(error, reference, name) from error
        secret = self._usable(found, reference, name, now)
        kept = self._kept.get(name)
        if kept is None or kept.read < read:
            self._kept[name] = _Kept(secret, now, read)
        return secret

    def _usable(self, found: KeyVaultSecret, reference: str, name: str, now: datetime) -> Secret:
        """The value; the vault itself gives out expired ones."""
        until, since = found.properties.expires_on, found.properties.not_before
        if until is not None and self._expiring is not None:
            tenant_id, _, plain = reference.removeprefix("secret:").partition("/")
            self._expiring(tenant_id, plain, until - now)
        if until is not None and until <= now:
            raise SecretError(f"{reference} expired at {to_text(until)}: {self._mend(name)}")
        if since is not None and now < since:
            raise SecretError(f"{reference} is not valid before {to_text(since)}: {self._mend(name)}")
        if not found.value:
            raise SecretError(f"{reference} is empty: {self._mend(name)}")
        return Secret(found.value)

    def _refused(
        self, error: AzureError | TimeoutError | ValueError, reference: str, name: str
    ) -> SecretError | SecretsUnavailableError:
        if isinstance(error, HttpResponseError) and error.status_code == 403:
            codes = _codes(error)
            if _DISABLED in codes:
                return SecretError(
                    f"{reference} is disabled: enable {name} in the vault {self._vault}, or {self._mend(name)}"
                )
            # Of the whole app, not of this secret: no connection is to blame, and a new role takes minutes to hold.
            return SecretsUnavailableError(
                f"the vault {self._vault} refused the read of {name} ({'/'.join(codes) or 403}): give the app's"
                " identity the role Key Vault Secrets User on the vault, and look whether its network rules let it in"
            )
        if isinstance(error, ClientAuthenticationError):
            return SecretsUnavailableError(
                f"the vault {self._vault} could not be read: the app's identity has no token for it"
                f" ({type(error).__name__}); check the identity's settings"
            )
        match error:
            case TimeoutError():
                told = f"no answer within {CALL_TIMEOUT.total_seconds():.0f} s"
            case HttpResponseError(status_code=int(status)):
                told = f"it answered {status}"
            case ValueError():
                told = "what answers there is no Key Vault: check SHARDLINE_KEY_VAULT_URL"
            case _:
                told = type(error).__name__
        return SecretsUnavailableError(f"the vault {self._vault} could not be read: {told}")

    def _mend(self, name: str) -> str:
        return f"set it with `az keyvault secret set --vault-name {self._vault} --name {name} --file FILE`"

    @property
    def _client(self) -> SecretClient:
        if self._made is None:
            self._made = self._connect()
        return self._made

    @property
    def _vault(self) -> str:
        host = urlsplit(self._client.vault_url).hostname or self._client.vault_url
        return host.split(".", maxsplit=1)[0]


def _codes(error: HttpResponseError) -> list[str]:
    """The service's own codes for what is wrong, the outer one first."""
    codes: list[str] = []
    if error.error is not None:
        inner = error.error.innererror or {}
        codes = [code for code in (error.error.code, inner.get("code")) if isinstance(code, str)]
    return codes
