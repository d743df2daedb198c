"""How far the stages are with each shard, and which have stood still."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from messaging.times import from_text, to_text
from shards.cosmos_container import together
from shards.cosmos_documents import checked_id, is_legal_id, progress_item, stored_progress
from shards.cosmos_open_store import CosmosOpenStore
from shards.cosmos_queries import count_behind, first_behind, lagging, progress_of
from shards.store import Progress, Stage, StoreUnavailableError

MAX_TRIES = 20
"""How often a change that others always came before is tried before it is given up for now."""

_LATER_STAGES = (Stage.ENRICHED, Stage.PREPARED, Stage.EMBEDDED)

Change = Callable[[Progress | None], Progress | None]
"""What the progress of a shard becomes; None: it stays."""


class CosmosProgress(CosmosOpenStore):
    """What :class:`~shards.store.ShardStore` keeps of the progress of stages."""

    async def progress(self, tenant_id: str, shard_ids: Sequence[str]) -> dict[str, Progress]:
        """See :meth:`shards.store.ShardStore.progress`."""
        return {shard_id: progress for shard_id, (progress, _) in (await self._known(tenant_id, shard_ids)).items()}

    async def _known(self, tenant_id: str, shard_ids: Iterable[str]) -> dict[str, tuple[Progress, str]]:
        """The progress of those of the shards that have one, with its etag."""
        rows = await self._progress.some(
            tenant_id,
            filter(is_legal_id, shard_ids),
            key=lambda shard_id: (tenant_id, shard_id),
            query=lambda ids: progress_of(tenant_id, ids),
        )
        return {row["id"]: (stored_progress(row), row["_etag"]) for row in rows if row["kind"] == "progress"}

    async def advance(self, tenant_id: str, stage: Stage, shards: Sequence[tuple[str, str, int]]) -> None:
        """See :meth:`shards.store.ShardStore.advance`."""
        if not shards:
            return
        await self._enter(tenant_id)
        now = to_text(self._clock())
        reached: dict[str, tuple[str, int]] = {}
        for shard_id, shard_type_id, revision in shards:
            if revision > reached.get(checked_id(shard_id), ("", 0))[1]:
                reached[shard_id] = (shard_type_id, revision)

        def change(shard_id: str) -> Change:
            shard_type_id, revision = reached[shard_id]

            def further(known: Progress | None) -> Progress | None:
                if known is None:
                    known = Progress(tenant_id, shard_id, shard_type_id)
                elif getattr(known, stage.value) >= revision:
                    return None
                moved = {"shard_type_id": shard_type_id, stage.value: revision, "updated_at": now}
                return replace(known, **moved)  # type: ignore[arg-type]  # the stages are fields of Progress

            return further

        await self._change(tenant_id, {shard_id: change(shard_id) for shard_id in reached})

    async def _take_back_embedded(self, tenant_id: str, shard_ids: Iterable[str]) -> None:
        """Say of shards with a chunk without a vector that their newest revision is not embedded."""
        now = to_text(self._clock())

        def back(known: Progress | None) -> Progress | None:
            if known is None or known.normalized == 0 or known.embedded < known.normalized:
                return None
            return replace(known, embedded=known.normalized - 1, updated_at=now)

        await self._change(tenant_id, dict.fromkeys(shard_ids, back))

    async def _change(self, tenant_id: str, changes: dict[str, Change]) -> None:
        """Bring each change into the progress of its shard: over what is read, and again where others were first."""
        left = changes
        for _ in range(MAX_TRIES):
            known = await self._known(tenant_id, left)
            written = await together(
                self._write_progress(change, known.get(shard_id)) for shard_id, change in left.items()
            )
            left = {
                shard_id: change for (shard_id, change), done in zip(left.items(), written, strict=True) if not done
            }
            if not left:
                return
        raise StoreUnavailableError(
            f"others wrote the progress of {len(left)} shards of {tenant_id} {MAX_TRIES} times meanwhile"
        )

    async def _write_progress(self, change: Change, known: tuple[Progress, str] | None) -> bool:
        """Whether the change is in the store, or has nothing to change."""
        progress, etag = (None, "") if known is None else known
        changed = change(progress)
        if changed is None:
            return True
        item = progress_item(changed)
        written = await (self._progress.create(item) if progress is None else self._progress.replace(item, etag))
        return written is not None

    async def lagging(self, *, before: str, limit: int = 1000) -> list[Progress]:
        """See :meth:`shards.store.ShardStore.lagging`. The one that has stood still longest comes first.

        One query a tenant, of what lags alone: where nothing does, the least that a query costs.
        """
        moment = to_text(from_text(before))
        found = await together(
            self._progress.first(
                tenant_id,
                lagging(tenant_id, before=moment, limit=limit),
                lambda item: (item["updatedAt"], item["id"]),
                limit,
            )
            for tenant_id in await self._tenant_ids()
        )
        items = sorted((item for items in found for item in items), key=lambda item: (item["updatedAt"], item["id"]))
        return [stored_progress(item) for item in items[:limit]]

    async def stages_behind(self) -> dict[Stage, int]:
        """See :meth:`shards.store.ShardStore.stages_behind`. Stages are counted where anything is behind at all."""
        found = await together(self._stages_behind(tenant_id) for tenant_id in await self._tenant_ids())
        return {stage: sum(counts.get(stage, 0) for counts in found) for stage in _LATER_STAGES}

    async def _stages_behind(self, tenant_id: str) -> dict[Stage, int]:
        if not await self._progress.rows(tenant_id, first_behind(tenant_id)):
            return {}
        counts = await together(
            self._progress.count(tenant_id, count_behind(tenant_id, stage.value)) for stage in _LATER_STAGES
        )
        return dict(zip(_LATER_STAGES, counts, strict=True))
