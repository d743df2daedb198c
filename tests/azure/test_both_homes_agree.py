"""The sample company through both homes: the same shards, links, chunks and vectors, field by field.

One home is this machine's: SQLite files and the local host. The other is Azure's: Service Bus, Cosmos DB and blobs on
the wire, and Microsoft's worker. Both poll the same simulated Salesforce, each in a run of its own.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from azure_home import AzureHome
from chain_rig import HostedRig, current
from home_picture import HomePicture, differences, picture_of
from pydantic import HttpUrl

from composition import Services
from ingestion.work import handle_source_work
from local.sandbox import SAMPLE_COMPANY, Sandbox, play
from messaging.contracts import SourceWork
from messaging.times import to_text, utc_now
from processors.outcome import Done, Later

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("azure agrees")]

TENANT = "larkmoor"


async def poll(services: Services, sandbox: Sandbox) -> None:
    """Read all of the sandbox's Salesforce into the home's first queue."""
    simulated = services.settings.model_copy(update={"salesforce_simulator": HttpUrl(sandbox.addresses["salesforce"])})
    polling = replace(services, settings=simulated)
    connection = await polling.connections.save(sandbox.connections[0])
    work = SourceWork(
        tenant_id=connection.tenant_id,
        connection_id=connection.connection_id,
        work="poll",
        due_at=to_text(utc_now()),
    )
    while isinstance(outcome := await handle_source_work(work, polling.ingestion), Later):
        pass
    assert isinstance(outcome, Done), outcome


async def on_one_machine(folder: Path, sandbox: Sandbox) -> HomePicture:
    """What the local home makes of the sandbox."""
    rig = HostedRig(folder)
    try:
        await poll(rig.services, sandbox)
        await rig.drain()
        return await picture_of(rig.store, TENANT, with_times_of_reading=False)
    finally:
        await rig.close()


async def on_azure(home: AzureHome, sandbox: Sandbox) -> HomePicture:
    """What the home on Azure makes of it."""
    await poll(home.services, sandbox)
    await home.until_idle()
    assert (await home.parked(), home.dead_letters()) == ([], [])
    return await picture_of(home.services.store, TENANT, with_times_of_reading=False)


async def test_the_sample_company_is_the_same_in_both_homes(
    home: AzureHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.blueprint.services", current.get)
    with play(SAMPLE_COMPANY, systems=("salesforce",)) as sandbox:
        assert sandbox.tenant_id == TENANT
        for name, secret in sandbox.secrets.items():
            monkeypatch.setenv(name, secret)
        local = await on_one_machine(tmp_path / "local", sandbox)
        azure = await on_azure(home, sandbox)
    assert len(local.shards) > 300
    assert local.incomplete == []
    assert differences(local, azure) == []
    assert azure.counts == local.counts
