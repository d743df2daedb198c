"""How long a secret of Key Vault is still good is measured whenever it is read."""

from datetime import UTC, datetime, timedelta

import pytest
from captured_telemetry import Captured
from key_vault_peer import KeyVaultPeer

from connections.key_vault import KeyVaultSecrets
from connections.secrets import SecretError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEFT = "shardline.expiry.left"


async def test_the_days_that_a_secret_is_still_good_are_measured_at_each_read(captured: Captured) -> None:
    vault = KeyVaultPeer()
    await vault.start()
    secrets = KeyVaultSecrets(vault.client, clock=lambda: NOW, expiring=captured.telemetry.metrics.secret_expires)
    try:
        vault.keep("acme--sf-key", "planted-value", exp=int((NOW + timedelta(days=9, hours=12)).timestamp()))
        vault.keep("acme--lasting", "planted-value")
        await secrets.get("acme", "secret:acme/sf-key")
        await secrets.get("acme", "secret:acme/lasting")
        of_secret = {"shardline.tenant_id": "acme", "shardline.kind": "secret", "shardline.name": "sf-key"}
        assert captured.points()[LEFT] == [(of_secret, 9.5)]

        vault.keep("acme--sf-key", "planted-value", exp=int((NOW - timedelta(days=1)).timestamp()))
        with pytest.raises(SecretError):
            await secrets.get("acme", "secret:acme/sf-key", fresh=True)
        assert captured.points()[LEFT] == [(of_secret, -1.0)]
    finally:
        await secrets.close()
        await vault.stop()
