"""A second run on the same data folder finds nothing to do: no shard written, nothing emitted, nothing embedded."""

from pathlib import Path
from typing import Any

from part_of_sample import part_of_sample
from shardline_command import shardline

from composition import build
from local.sandbox import SYSTEMS
from settings import HOME_FILE, load_settings
from shards.model import shard_document
from shards.store import ShardQuery


async def kept(data: Path, tenant: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Everything kept of the company, times and etags included, and where the change feed stands."""
    services = build(load_settings(data / HOME_FILE))
    try:
        found: dict[str, Any] = {}
        cursor: str | None = None
        while True:
            page = await services.store.query(ShardQuery(tenant, include_deleted=True), cursor=cursor)
            for shard in page.items:
                if not shard.shard_type_id.startswith("integration."):
                    chunks = await services.store.chunks(tenant, shard.id)
                    found[shard.id] = (shard.etag, shard_document(shard), chunks)
            cursor = page.cursor
            if cursor is None:
                break
        progress = await services.store.progress(tenant, list(found))
        changes = (await services.store.changes(after=None, limit=100_000)).shards
        feed = [(shard.id, shard.etag) for shard in changes if not shard.shard_type_id.startswith("integration.")]
        return {name: (*rest, progress[name]) for name, rest in found.items()}, feed
    finally:
        await services.close()


async def test_a_second_demo_run_writes_emits_and_embeds_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    demo = ("demo", "--json", "--data", data, "--company", part_of_sample(tmp_path / "company", SYSTEMS))
    first = shardline(*demo)
    assert (first.code, first.error.count("Traceback")) == (0, 0)
    summary = first.json
    tenant = summary["tenantId"]
    total = sum(summary["shards"].values()) + summary["deleted"]
    assert all(summary["events"][system] for system in SYSTEMS)
    assert sum(summary["events"].values()) >= total > 450
    assert summary["vectors"] == summary["chunks"] > 0
    assert (summary["parked"], summary["deadLettered"], set(summary["queues"].values())) == (0, 0, {0})
    before = await kept(data, tenant)
    assert len(before[0]) == total

    second = shardline(*demo)
    assert second.code == 0
    assert await kept(data, tenant) == before
    again = second.json
    assert {stage: done["messages"] for stage, done in again["stages"].items()} == {
        "normalize": 0,
        "enrich": 0,
        "prepare": 0,
        "embed": 0,
    }
    assert again["events"] == {"salesforce": 0, "slack": 0, "gdrive": 0}
    for field in (
        "shards",
        "deleted",
        "links",
        "linksPending",
        "chunks",
        "vectors",
        "queues",
        "parked",
        "deadLettered",
    ):
        assert again[field] == summary[field]
