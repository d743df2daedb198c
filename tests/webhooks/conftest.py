"""Webhooks over new files, for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from webhook_rig import WebhookRig


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WebhookRig]:
    """The webhooks, with connections of two tenants."""
    made = WebhookRig(tmp_path)
    monkeypatch.setattr("ingestion.blueprint.services", made.services)
    try:
        await made.connect()
        yield made
    finally:
        await made.close()
