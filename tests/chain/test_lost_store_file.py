"""The store's file is lost and the queues' file kept: the next run brings all of it back, links and vectors too."""

from pathlib import Path

from part_of_sample import part_of_sample
from shardline_command import shardline

from local.sandbox import SYSTEMS


def test_a_run_after_the_store_was_lost_brings_back_what_there_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    demo = ("demo", "--json", "--data", data, "--company", part_of_sample(tmp_path / "company", SYSTEMS))
    first = shardline(*demo)
    assert first.code == 0
    for file in data.glob("store.db*"):
        file.unlink()

    again = shardline(*demo)

    assert again.code == 0
    assert all(again.json["events"][system] for system in SYSTEMS)
    for kept in ("shards", "deleted", "links", "linksPending", "chunks", "vectors", "queues", "parked"):
        assert again.json[kept] == first.json[kept], kept
    assert again.json["vectors"] > 250
