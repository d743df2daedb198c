"""What a user gets wrong, or finds broken, is one clear line and an exit code: 2 for the call, 1 for the rest."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from shardline_command import Answer, command_environment, command_line, shardline

from cli.main import main
from local.home import prepare_home
from messaging.queues import INGESTION_EVENTS
from shards.identity import chunk_id, shard_id
from shards.model import Shard
from shards.parked import parked_message
from shards.sqlite_store import SqliteShardStore
from shards.store import ShardQuery, ShardWrite, Stage


def complains(answer: Answer, code: int, *words: str) -> None:
    """The command ended with *code* and one line on stderr that has the *words*."""
    assert answer.code == code, answer.error or answer.out
    lines = answer.error.strip().splitlines()
    assert len(lines) == 1, answer.error
    assert lines[0].startswith("shardline: ")
    assert "Traceback" not in answer.error
    for word in words:
        assert word.lower() in lines[0].lower(), lines[0]
    assert answer.out == ""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Calls the command line in this process, which is quicker; for what starts no host of its own."""
    for name in [name for name in os.environ if name.startswith("SHARDLINE_")]:
        monkeypatch.delenv(name)

    def run(*words: str | Path) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        shown = capsys.readouterr()
        return Answer(code, shown.out, shown.err)

    return run


Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one record of the tenant ``acme`` in it, made by a demo of a tiny company."""
    company = write_company(tmp_path_factory.mktemp("company"), 'Id,Name\nA1,"Acme"\n')
    data = tmp_path_factory.mktemp("home") / "data"
    answer = shardline("demo", "--company", company, "--data", data, "--json")
    assert answer.code == 0, answer.error
    return data


def write_company(folder: Path, accounts: str | bytes) -> Path:
    (folder / "salesforce").mkdir(parents=True, exist_ok=True)
    (folder / "company.json").write_text('{"tenantId": "acme"}')
    content = accounts.encode() if isinstance(accounts, str) else accounts
    (folder / "salesforce" / "Account.csv").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["frobnicate"],
        ["up", "--port", "70000"],
        ["up", "--port", "many"],
        ["up", "--workers", "0"],
        ["demo", "--jsn"],
        ["search"],
        ["search", "x", "--limit", "0"],
        ["search", "x", "--principal", "nobody"],
        ["connect"],
        ["export", "everything"],
        ["replay"],
        ["show"],
        ["token"],
        ["token", "--user", "nobody"],
        ["up", "--no-sandbox", "--company", "."],
        ["demo", "--company", "/no/such/folder"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_ends_with_two(
    words: list[str], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDLINE_DATA_DIR", str(tmp_path / "none"))
    complains(call(*words), 2)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["frobnicate"], ""),
        (["search", "--limit", "0"], "search "),
        (["connect", "slack", "--poll-seconds", "0"], "connect slack "),
    ],
)
def test_a_wrong_call_is_led_to_the_help_of_its_own_command(words: list[str], command: str, call: Call) -> None:
    complains(call(*words), 2, f"(see 'shardline {command}--help')")


def test_no_words_at_all_print_the_help(call: Call) -> None:
    answer = call()
    assert (answer.code, answer.error) == (0, "")
    assert answer.out == call("--help").out
    assert "Usage: shardline" in answer.out


def test_the_process_ends_with_the_code_and_the_line() -> None:
    ended = subprocess.run(
        command_line("frobnicate"), env=command_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    complains(Answer(ended.returncode, ended.stdout, ended.stderr), 2, "frobnicate")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["search", "x", "--tenant", "nobody"], "nobody"),
        (["export", "shards", "--tenant", "nobody"], "nobody"),
        (["show", "001000000000000AAA", "--tenant", "acme"], "001000000000000AAA"),
        (["show", "sh_nothing"], "sh_nothing"),
        (["search", "x", "--after", "yesterday"], "--after"),
        (["search", " "], "text"),
        (["search", "x", "--account", "A99"], "A99"),
        (["replay", "pk_nothing"], "pk_nothing"),
        (["search", "x", "--type", "c_acount"], "'c_acount' is none of c_account, "),
        (["search", "x", "--source", "salsforce"], "'salsforce' is none of gdrive, salesforce, slack"),
        (["parked", "--queue", "ingestion"], "'ingestion' is none of embedding-jobs, "),
        (["replay", "--queue", "ingestion"], "'ingestion' is none of embedding-jobs, "),
        (["export", "nope"], "invalid value for 'what': 'nope' is not one of 'shards', 'links'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_named(home: Path, words: list[str], told: str, call: Call) -> None:
    complains(call(*words, "--data", home), 2, told)


@pytest.mark.parametrize("words", [["status"], ["search", "x"], ["export", "links"], ["parked"], ["connections"]])
def test_a_folder_without_a_shardline_is_named(tmp_path: Path, words: list[str], call: Call) -> None:
    complains(call(*words, "--data", tmp_path / "empty"), 1, str(tmp_path / "empty"))
    assert not (tmp_path / "empty").exists(), "reading makes nothing"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"SHARDLINE_HOME": "moon"}, "SHARDLINE_HOME"),
        ({"SHARDLINE_HOME": "azure"}, "ServiceBusConnection"),
        ({"SHARDLINE_HOME": "local"}, "SHARDLINE_DATA_DIR"),
        (
            {
                "SHARDLINE_HOME": "local",
                "SHARDLINE_DATA_DIR": "none",
                "SHARDLINE_SALESFORCE_SIMULATOR": "https://example.com",
            },
            "SHARDLINE_SALESFORCE_SIMULATOR",
        ),
        (
            {
                "SHARDLINE_HOME": "local",
                "SHARDLINE_DATA_DIR": "none",
                "SHARDLINE_RECONCILE_AFTER_SECONDS": "soon",
            },
            "SHARDLINE_RECONCILE_AFTER_SECONDS",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_setting_is_named(
    settings: dict[str, str], named: str, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    complains(call("status"), 1, named)


@pytest.mark.parametrize("schedule", ["every minute", "61 * * * * *"])
def test_a_wrong_schedule_ends_the_host_with_its_name(tmp_path: Path, schedule: str) -> None:
    answer = shardline(
        "up",
        "--no-sandbox",
        "--port",
        "0",
        "--data",
        tmp_path / "data",
        environment={"SHARDLINE_POLL_SCHEDULE": schedule},
        timeout=60,
    )
    assert answer.code == 1, answer.error
    last = answer.error.strip().splitlines()[-1]
    assert last.startswith("shardline: ")
    assert "poll_due" in answer.error or "SHARDLINE_POLL_SCHEDULE" in answer.error
    assert "Traceback" not in answer.error


def broken_home(data: Path, name: str) -> Path:
    prepare_home(data)
    (data / name).write_bytes(BROKEN)
    return data


BROKEN = b"This is no SQLite file at all. " * 300


@pytest.mark.parametrize("name", ["bus.db", "store.db"])
@pytest.mark.parametrize("words", [["status"], ["search", "x"], ["replay", "--all"]], ids=" ".join)
def test_a_broken_data_file_is_named(tmp_path: Path, name: str, words: list[str], call: Call) -> None:
    data = broken_home(tmp_path / "data", name)
    complains(call(*words, "--data", data), 1, name)
    assert (data / name).read_bytes() == BROKEN, "what is broken is left to people"


@pytest.mark.parametrize(("command", "name"), [("demo", "store.db"), ("up", "bus.db")])
def test_no_host_starts_on_a_broken_data_file(tmp_path: Path, command: str, name: str) -> None:
    data = broken_home(tmp_path / "data", name)
    company = write_company(tmp_path / "company", "Id,Name\nA1,Acme\n")
    words = {"demo": ("--company", company), "up": ("--no-sandbox", "--port", "0")}[command]
    complains(shardline(command, *words, "--data", data), 1, name)
    assert (data / name).read_bytes() == BROKEN


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.write_text("not a folder")
    complains(call("demo", "--data", data), 1, f"{data} can't be used (it is no folder)", "another path")
    monkeypatch.setenv("SHARDLINE_HOME", "local")
    monkeypatch.setenv("SHARDLINE_DATA_DIR", str(data))
    complains(call("status"), 1, f"{data} can't be used (it is no folder)", "another path")


def test_a_path_that_can_not_be_is_named(tmp_path: Path, call: Call) -> None:
    complains(call("demo", "--data", "/proc/x"), 1, "/proc/x can't be used (no such file or directory)", "another path")
    missing = tmp_path / "connection.json"
    words = ("connections", "--tenant", "acme", "--add", missing, "--data", tmp_path)
    complains(call(*words), 1, f"{missing} can't be used (no such file or directory)", "another path")
    missing.write_text("{}")
    complains(call(*words), 1, f"{missing}: system: is missing: it is one of salesforce, slack, gdrive")


def test_a_reason_that_nothing_is_parked_for_is_named(tmp_path: Path, call: Call) -> None:
    data = tmp_path / "data"
    prepare_home(data)
    assert call("parked", "--reason", "failed", "--data", data).code == 0, "nothing is parked at all"
    asyncio.run(park(data, "invalid-record"))
    for words in (["parked"], ["replay"], ["replay", "--dry-run"]):
        complains(call(*words, "--reason", "failed", "--data", data), 2, "'failed' is none of invalid-record")
    assert call("replay", "--dry-run", "--reason", "invalid-record", "--json", "--data", data).json["selected"] == 1


async def park(data: Path, reason: str) -> None:
    store = SqliteShardStore(data / "store.db")
    try:
        message = parked_message(
            queue=INGESTION_EVENTS,
            body=b"{}",
            message_id="m1",
            correlation_id=None,
            properties={"tenantId": "acme"},
            delivery_count=1,
            reason=reason,
            detail="an id that is none",
            parked_at="2026-11-22T12:00:00.000Z",
        )
        await store.park([message])
    finally:
        await store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_data_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    complains(shardline("demo", "--data", tmp_path / "closed" / "data"), 1, "closed")


@pytest.mark.parametrize(
    ("accounts", "told"),
    [
        ("", ("Account.csv",)),
        ("Id,Id,Name\nA1,A1,Acme\n", ("Account.csv", "Id")),
        ('Id,Name\nA1,"never closed\nA2,Other\n', ("Account.csv",)),
        (b"Id,Name\nA1,\x81\x8d\n", ("Account.csv",)),
        ("Id,Name\nA1,Acme,one,too,many\n", ("Account.csv",)),
    ],
    ids=["empty", "a column twice", "an open quote", "no known encoding", "too many values"],
)
def test_a_bad_csv_is_named(tmp_path: Path, accounts: str | bytes, told: tuple[str, ...]) -> None:
    company = write_company(tmp_path / "company", accounts)
    complains(shardline("demo", "--company", company, "--data", tmp_path / "data"), 1, *told)


def test_a_company_json_that_is_none_is_named(tmp_path: Path) -> None:
    company = write_company(tmp_path / "company", "Id,Name\nA1,Acme\n")
    (company / "company.json").write_text("{tenantId: acme}")
    complains(shardline("demo", "--company", company, "--data", tmp_path / "data"), 1, "company.json")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_in_use_is_named(tmp_path: Path, taken_port: int) -> None:
    answer = shardline("up", "--no-sandbox", "--port", str(taken_port), "--data", tmp_path / "data")
    complains(answer, 1, str(taken_port), "--port")


@contextmanager
def started(words: list[str | Path], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A command in a session of its own, so that a signal to its process group is what Ctrl-C is on a terminal."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command_line(*words), env=command_environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)


def content(folder: Path) -> dict[str, bytes]:
    """What stands in the folder's own files that a run would write anew."""
    return {name: (folder / name).read_bytes() for name in ("home.env", "home.lock", "function.key")}


def test_no_second_run_touches_a_folder_in_use(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "up.log"
    company = write_company(tmp_path / "company", "Id,Name\nA1,Acme\n")
    with started(["up", "--no-sandbox", "--port", "0", "--data", data], log) as first:
        wait_until(lambda: b"Stop with" in log.read_bytes(), first, log)
        before = content(data)
        for words in (["up", "--port", "0"], ["up", "--no-sandbox"], ["demo"], ["demo", "--company", company]):
            answer = shardline(*words, "--data", data)
            complains(answer, 1, f"another Shardline (process {first.pid}) runs on {data}", "stop it first")
        assert content(data) == before
        assert shardline("status", "--data", data, "--json").json["connections"] == []
        first.send_signal(signal.SIGTERM)
        assert first.wait(100) == 0
    again = shardline("demo", "--company", company, "--data", data, "--json")
    assert again.code == 0, again.error


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        (["up", "--port", "0"], "home.lock"),
        (["up", "--port", "0"], "store.db"),
        (["demo"], "home.lock"),
        (["demo"], "host/worker.lock"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_ctrl_c_before_the_work_is_done_ends_quietly(tmp_path: Path, words: list[str], moment: str) -> None:
    data, log = tmp_path / "data", tmp_path / "run.log"
    seen = data / moment
    with started([*words, "--data", data], log) as process:
        wait_until(seen.exists, process, log)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(100) in (0, 130)
    said = log.read_text()
    assert [line for line in said.splitlines() if "Traceback" in line or "rror" in line or "killed" in line] == []


def test_ctrl_c_at_a_question_ends_quietly(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "connect.log"
    prepare_home(data)
    ours, its = os.openpty()
    with log.open("wb") as output:
        words = command_line("connect", "slack", "--tenant", "acme", "--data", data)
        process = subprocess.Popen(words, env=command_environment(), stdin=its, stdout=output, stderr=output)
    try:
        wait_until(lambda: b"Name of the secret" in log.read_bytes(), process, log)
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(its)
    assert log.read_text().endswith("shardline: interrupted\n")
    assert "Traceback" not in log.read_text()


AMID_AN_IMPORT = """
import os
import runpy
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)
module = sys.argv.pop()

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt as error:
                raise RuntimeError("what an interrupt becomes in a module") from error

sys.meta_path.insert(0, Interrupts())
runpy.run_module(sys.argv.pop(), run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("cli.main", "typer"),
        ("cli.main", "local.sandbox"),
        ("local.salesforce", "local.company"),
        ("local.slack", "local.company"),
        ("local.gdrive", "starlette"),
    ],
)
def test_ctrl_c_while_modules_are_read_ends_quietly(tmp_path: Path, program: str, module: str) -> None:
    words = ["demo", "--data", str(tmp_path / "data")] if program == "cli.main" else []
    command = [sys.executable, "-c", AMID_AN_IMPORT, *words, program, module]
    ended = subprocess.run(command, env=command_environment(), capture_output=True, text=True, timeout=100, check=False)
    complains(Answer(ended.returncode, ended.stdout, ended.stderr), 130, "interrupted")


@pytest.mark.parametrize("words", [["up"], ["demo"]])
def test_another_home_than_the_local_one_is_not_run_here(
    words: list[str], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDLINE_HOME", "azure")
    complains(call(*words, "--data", tmp_path / "data"), 2, "local home only", "SHARDLINE_HOME")
    assert not (tmp_path / "data").exists()


def test_a_company_without_an_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "company").mkdir()
    for words in (["demo"], ["up", "--port", "0"]):
        answer = shardline(*words, "--company", tmp_path / "company", "--data", tmp_path / "data")
        complains(answer, 1, "no export", str(tmp_path / "company" / "salesforce"))


def test_a_link_in_a_company_is_warned_of_once(tmp_path: Path) -> None:
    company = write_company(tmp_path / "company", "Id,Name\nA1,Acme\n")
    (company / "salesforce" / "Contact.csv").symlink_to(company / "salesforce" / "Account.csv")
    answer = shardline("demo", "--company", company, "--data", tmp_path / "data")
    assert answer.code == 0, answer.error
    assert answer.error.count("Contact.csv") == 1


def test_a_demo_that_leaves_a_chunk_without_a_vector_fails(tmp_path: Path) -> None:
    company, data = write_company(tmp_path / "company", "Id,Name\nA1,Acme\n"), tmp_path / "data"
    assert shardline("demo", "--company", company, "--data", data).code == 0
    asyncio.run(write_chunk_without_a_vector(data))
    answer = shardline("demo", "--company", company, "--data", data, "--json")
    assert answer.code == 1
    assert answer.error.splitlines()[-1].startswith("shardline: the pipeline is idle, but 1 of ")
    assert answer.json["chunks"] == answer.json["vectors"] + 1


async def write_chunk_without_a_vector(data: Path) -> None:
    """A chunk of a shard that does not go through the chain, so that nothing will ever embed it."""
    store = SqliteShardStore(data / "store.db")
    try:
        first, other = await write_second_shard(store)
        [chunk] = await store.chunks("acme", first.id)
        stray = msgspec.structs.replace(chunk, id=chunk_id(other.id, 0), shard_id=other.id, vector=None, model=None)
        await store.put_chunks("acme", [stray])
    finally:
        await store.close()


def test_a_demo_does_what_an_ended_run_left_behind(tmp_path: Path) -> None:
    company, data = write_company(tmp_path / "company", "Id,Name\nA1,Acme\n"), tmp_path / "data"
    assert shardline("demo", "--company", company, "--data", data).code == 0
    asyncio.run(write_shard_without_an_emission(data))
    answer = shardline("demo", "--company", company, "--data", data, "--json")
    assert answer.code == 0, answer.error
    assert answer.json["chunks"] == answer.json["vectors"] == 2


async def write_shard_without_an_emission(data: Path) -> None:
    store = SqliteShardStore(data / "store.db")
    try:
        _, other = await write_second_shard(store)
        await store.advance("acme", Stage.NORMALIZED, [(other.id, other.shard_type_id, other.revision)])
    finally:
        await store.close()


async def write_second_shard(store: SqliteShardStore) -> tuple[Shard, Shard]:
    """The account that is there, and another one that is written beside it."""
    [first] = (await store.query(ShardQuery("acme", shard_type_ids=("c_account",)))).items
    other = msgspec.structs.replace(
        first,
        id=shard_id("acme", "test", "here", "Account", "B2"),
        structured_data={**first.structured_data, "name": "Bolt"},
        external_relationships=[],
        internal_relationships=[],
    )
    await store.write_many([ShardWrite(other, None)])
    return first, other


@pytest.mark.parametrize(
    "words", [("search", "caf\udce9"), ("show", "\udcff"), ("token", "--user", "\udcff@b.example")]
)
def test_a_word_that_is_no_utf_8_is_a_wrong_call(call: Call, home: Path, words: tuple[str, ...]) -> None:
    complains(call(*words, "--data", home), 2, "is no text in UTF-8", f"shardline {words[0]} --help")


def test_stages_can_not_be_asked_for_that_stand_still_for_ages(call: Call, home: Path) -> None:
    complains(call("reconcile", "--after", "99999999999", "--data", home), 2, "--after", "less than or equal to")


def test_a_data_folder_is_made_for_its_owner_alone(home: Path) -> None:
    assert home.stat().st_mode & 0o777 == 0o700
    assert list((home / "secrets").iterdir()) == [], "those of a played company go with it"
