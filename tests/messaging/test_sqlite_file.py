"""The stamped file that the SQLite twins stand on."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from messaging import checkpoints, sqlite
from messaging.sqlite import DataFileError, FileBusyError, SqliteFile

SCHEMA = "CREATE TABLE item (name TEXT)"


def opened(path: Path, version: int = 1, application_id: int = 77) -> SqliteFile:
    return SqliteFile(path, schema=SCHEMA, version=version, application_id=application_id)


def insert(name: str) -> Callable[[apsw.Connection], None]:
    def work(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO item VALUES (?)", (name,))

    return work


def names(connection: apsw.Connection) -> list[object]:
    return [name for (name,) in connection.execute("SELECT name FROM item ORDER BY rowid")]


async def test_what_is_written_is_there_when_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.sqlite"
    file = opened(path)
    await file.write(insert("one"))
    file.close()
    file.close()
    file = opened(path)
    assert await file.run(names) == ["one"]
    assert await file.run(lambda connection: connection.pragma("journal_mode")) == "wal"
    file.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "is damaged or no SQLite file"),
        (os.urandom(20_000), "is damaged or no SQLite file"),
        (bytes(8_192), "is damaged or no SQLite file"),
    ],
)
def test_a_broken_file_is_named_in_one_line_and_left_alone(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=said) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert f"move the whole folder {tmp_path} away" in str(caught.value)
    assert path.read_bytes() == content


def test_a_file_cut_short_is_named_as_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    opened(path).close()
    path.write_bytes(path.read_bytes()[:4_096])
    with pytest.raises(DataFileError, match="damaged"):
        opened(path)


async def test_damage_met_later_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    file = opened(path)
    await file.write(lambda connection: [insert("x" * 1_000)(connection) for _ in range(100)])
    file.close()
    content = bytearray(path.read_bytes())
    content[3 * 4_096 :] = os.urandom(len(content) - 3 * 4_096)
    path.write_bytes(content)
    file = opened(path)
    with pytest.raises(DataFileError, match="damaged"):
        await file.run(names)
    file.close()


def test_a_file_of_another_kind_or_version_is_refused_unchanged(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.sqlite"
    connection = apsw.Connection(str(foreign))
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(DataFileError, match="of another kind"):
        opened(foreign)
    assert foreign.read_bytes() == before
    ours = tmp_path / "ours.sqlite"
    opened(ours, version=2).close()
    with pytest.raises(DataFileError, match="format 2, newer than the 1"):
        opened(ours, version=1)
    with pytest.raises(DataFileError, match="format 2, older than the 3"):
        opened(ours, version=3)
    with pytest.raises(DataFileError, match="of another kind"):
        opened(ours, version=2, application_id=78)
    with pytest.raises(DataFileError, match="can't be read and written"):
        opened(tmp_path)


def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / f"{number}.sqlite"
        failures: list[BaseException] = []

        def make(path: Path = path, failures: list[BaseException] = failures) -> None:
            try:
                opened(path).close()
            except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


async def test_a_failing_write_leaves_nothing(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.sqlite")

    def work(connection: apsw.Connection) -> None:
        insert("half")(connection)
        raise LookupError("midway")

    with pytest.raises(LookupError, match="midway"):
        await file.write(work)
    await file.write(insert("whole"))
    assert await file.run(names) == ["whole"]
    file.close()


async def test_the_event_loop_goes_on_while_the_file_works(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.sqlite")
    gate = threading.Event()
    task = asyncio.create_task(file.run(lambda _: gate.wait(100)))
    await asyncio.sleep(0.01)
    assert not task.done()
    gate.set()
    assert await task is True
    file.close()


async def test_a_cancelled_write_is_done_whole_or_not_at_all(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.sqlite")
    begun, gate = threading.Event(), threading.Event()
    undone: list[str] = []

    def slow(connection: apsw.Connection) -> str:
        insert("begun")(connection)
        begun.set()
        gate.wait(100)
        insert("and ended")(connection)
        return "result"

    running = asyncio.create_task(file.write(slow, if_cancelled=lambda _, result: undone.append(result)))
    assert await asyncio.to_thread(begun.wait, 100)
    waiting = asyncio.create_task(file.write(insert("never")))
    also_waiting = asyncio.create_task(file.write(insert("never"), if_cancelled=lambda _, __: undone.append("never")))
    await asyncio.sleep(0)
    for task in (running, waiting, also_waiting):
        task.cancel()
    results = await asyncio.gather(running, waiting, also_waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    gate.set()
    assert await file.run(names) == ["begun", "and ended"]
    file.close()
    assert undone == ["result"]


async def test_a_write_lock_held_too_long_by_another_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 5)
    monkeypatch.setattr(sqlite, "BUSY_ATTEMPTS", 3)
    first, second = opened(tmp_path / "a.sqlite"), opened(tmp_path / "a.sqlite")
    begun, gate = threading.Event(), threading.Event()

    def hold(connection: apsw.Connection) -> None:
        insert("first")(connection)
        begun.set()
        gate.wait(100)

    holding = asyncio.create_task(first.write(hold))
    assert await asyncio.to_thread(begun.wait, 100)
    with pytest.raises(FileBusyError, match=r"a\.sqlite is locked"):
        await second.write(insert("second"))
    assert await second.run(names) == [], "reads go on beside a write"
    gate.set()
    await holding
    await second.write(insert("second"))
    assert await second.run(names) == ["first", "second"]
    first.close()
    second.close()


def test_the_log_stays_bounded_under_readers_that_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(checkpoints, "LARGEST_LOG_PAGES", 200)
    monkeypatch.setattr(checkpoints, "READERS_WAIT", 60)  # each reads for a moment, however long that takes here
    path = tmp_path / "a.sqlite"
    writer, readers = opened(path), [opened(path), opened(path)]
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    ended = threading.Event()

    def read(index: int) -> None:
        """Read over and over, each time until the other reader has begun."""

        def once(connection: apsw.Connection) -> None:
            turns[index].acquire()
            connection.execute("BEGIN; SELECT count(*) FROM item").fetchall()
            turns[1 - index].release()
            time.sleep(0.003)
            connection.execute("COMMIT")

        while not ended.is_set():
            readers[index].run_now(once)
        turns[1 - index].release()

    threads = [threading.Thread(target=read, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    largest = 0
    for _ in range(150):
        writer.run_now(lambda _: writer.transaction(insert("x" * 40_000)))
        largest = max(largest, Path(f"{path}-wal").stat().st_size)
    ended.set()
    for thread in threads:
        thread.join()
    for file in (writer, *readers):
        file.close()
    assert largest < 500 * 4_096  # of the 1,650 pages that were written


def test_the_log_is_begun_anew_while_two_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_PAGES", 50)
    path = tmp_path / "a.sqlite"
    writers = [opened(path), opened(path)]
    written = [0, 0]
    begun: set[bytes] = set()

    def write(number: int) -> None:
        while len(begun) < 4 and written[number] < 3_000:
            writers[number].run_now(lambda _: writers[number].transaction(insert("x" * 40_000)))
            written[number] += 1
            with Path(f"{path}-wal").open("rb") as log:
                begun.add(log.read(24)[16:])  # the salts, which are new each time that the log is begun anew
            time.sleep(0.001)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(writers[0].run_now(names)) == sum(written)
    for file in writers:
        file.close()
    assert len(begun) >= 4


def test_a_checkpoint_that_fails_is_told_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_PAGES", 5)
    path = tmp_path / "a.sqlite"
    file = opened(path)
    path.rename(tmp_path / "elsewhere.sqlite")
    for number in range(8):
        asyncio.run(file.write(insert(f"{number}" * 5_000)))
    assert len(file.run_now(names)) == 8
    file.close()
    assert "its log could not be moved into it" in caplog.text
    assert not path.exists(), "no empty file takes the place of the one that was moved away"


async def test_what_waits_to_be_written_goes_in_one_transaction(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.sqlite")
    commits: list[int] = []
    begun, gate = threading.Event(), threading.Event()

    def count_commits(connection: apsw.Connection) -> None:
        def committed() -> bool:
            commits.append(1)
            return False

        connection.set_commit_hook(committed)

    def hold(_: apsw.Connection) -> None:
        begun.set()
        gate.wait(100)

    await file.run(count_commits)
    holding = asyncio.create_task(file.run(hold))
    assert await asyncio.to_thread(begun.wait, 100)
    waiting = [asyncio.create_task(file.write_together(insert(f"{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    waiting[3].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(holding, *waiting, return_exceptions=True)
    assert await file.run(names) == ["0", "1", "2", "4"]
    assert len(commits) == 1
    file.close()


async def test_one_that_fails_undoes_none_of_the_others(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.sqlite")
    begun, gate = threading.Event(), threading.Event()

    def hold(_: apsw.Connection) -> None:
        begun.set()
        gate.wait(100)

    def fail(connection: apsw.Connection) -> None:
        insert("of the one that fails")(connection)
        raise ZeroDivisionError

    holding = asyncio.create_task(file.run(hold))
    assert await asyncio.to_thread(begun.wait, 100)
    works = [insert("first"), fail, insert("last")]
    waiting = [asyncio.create_task(file.write_together(work)) for work in works]
    await asyncio.sleep(0)
    gate.set()
    await holding
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ZeroDivisionError, type(None)]
    assert await file.run(names) == ["first", "last"]
    file.close()


async def test_what_is_to_be_written_after_the_end_fails_each_time(tmp_path: Path) -> None:
    file = opened(tmp_path / "a.sqlite")
    file.close()
    for _ in range(2):
        async with asyncio.timeout(60):
            with pytest.raises(RuntimeError, match="after shutdown"):
                await file.write_together(insert("late"))
