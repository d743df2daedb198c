"""Each query that the Cosmos DB store asks, once, with every condition that it can have."""

from shards.cosmos_queries import (
    ChunkFilter,
    Query,
    ShardFilter,
    active_links,
    chunk_states,
    chunk_states_by_id,
    chunks_by_id,
    chunks_of,
    count_behind,
    count_chunks,
    count_parked,
    count_shards,
    first_behind,
    first_chunks,
    kept_charges,
    lagging,
    linking_shards,
    live_shards,
    matching_shards,
    named_shards,
    nearest_chunks,
    next_parked_reason,
    next_shard_type,
    parked_by_id,
    parked_in_order,
    passing_shards,
    progress_of,
    ranked_chunks,
    redirects,
    scopes_of,
    shards_by_id,
    shards_in_order,
    shards_waiting,
    shards_with_links,
    tenant_directory,
)
from shards.store import ShardQuery


def example_queries() -> dict[str, Query]:
    """Each query once, with every condition it can have: what a server must be able to answer."""
    given = ShardFilter(("c_account",), ("crm",), ("set_1",), ("sh_1", "sh_2"), "2026-01-01", "2026-02-01")
    chunks = ChunkFilter(("c_account",), ("set_1", "set_2"), ("sh_1",), ("sh_2", "sh_3"))
    everything = ShardQuery(
        "acme", ("c_account",), "crm", "org", "Account", "001", "connection", "2026-01-01", "2026-02-01"
    )
    return {
        "shards_by_id": shards_by_id("acme", ["sh_1", "sh_2"]),
        "shards_in_order": shards_in_order(everything, ["set_1"], after="2026-01-01 sh_1", limit=101),
        "linking_shards": linking_shards("acme", ["sh_1", "sh_2"], after="sh_0", limit=101),
        "shards_with_links": shards_with_links("acme", after="sh_0", limit=101),
        "redirects": redirects("acme", ["sh_1"]),
        "live_shards": live_shards("acme", ["sh_1"]),
        "active_links": active_links("acme"),
        "next_shard_type": next_shard_type("acme", "c_account"),
        "count_shards": count_shards("acme", live=True, shard_type_id="c_account"),
        "matching_shards": matching_shards("acme", given, limit=1001),
        "passing_shards": passing_shards("acme", given, ["sh_1"]),
        "named_shards": named_shards("acme", given, ["acme"], prefix="rene", limit=50),
        "progress_of": progress_of("acme", ["sh_1"]),
        "lagging": lagging("acme", before="2026-01-01", limit=1000),
        "first_behind": first_behind("acme"),
        "count_behind": count_behind("acme", "embedded"),
        "scopes_of": scopes_of("acme", ["user:ann@acme.example", "tenant"]),
        "kept_charges": kept_charges(""),
        "tenant_directory": tenant_directory(""),
        "chunk_states": chunk_states("acme", ["sh_1"]),
        "chunk_states_by_id": chunk_states_by_id("acme", ["sh_1.00000"]),
        "chunks_of": chunks_of("acme", "sh_1"),
        "chunks_by_id": chunks_by_id("acme", ["sh_1.00000"]),
        "shards_waiting": shards_waiting("acme", ["sh_1"], limit=100),
        "first_chunks": first_chunks("acme", ["sh_1"], scopes=["set_1"]),
        "count_chunks": count_chunks("acme", with_vector=True),
        "nearest_chunks": nearest_chunks("acme", chunks, [0.6, 0.8], limit=50),
        "ranked_chunks": ranked_chunks("acme", chunks, ["acme", "renewal"], limit=50),
        "parked_in_order": parked_in_order("acme", reason="poison", queue="q", after="2026-01-01 pk_1", limit=101),
        "parked_by_id": parked_by_id("acme", ["pk_1"]),
        "next_parked_reason": next_parked_reason("acme", ""),
        "count_parked": count_parked("acme", "poison"),
    }
