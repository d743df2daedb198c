"""The host as real processes: what serves, what restarts, what ends, and that nothing is lost by it."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.host.errors import HostError
from local.host.supervisor import HostOptions, Supervisor
from messaging.bus import Message
from messaging.queues import QueueProperties
from messaging.sqlite_bus import SqliteMessageBus
from shards.identity import shard_id
from shards.model import Acl, Shard, encode_shard

HOSTED = Path(__file__).parent / "hosted"
QUEUES = {name: QueueProperties(name, max_delivery_count=3) for name in ("first", "second", "slow", "stuck")}
PATIENCE = 60.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads process trees from /proc")


@pytest.fixture
def options(tmp_path: Path) -> HostOptions:
    environment = {"HOSTED_DATA": str(tmp_path), "PYTHONPATH": f"{HOSTED}{os.pathsep}{HOSTED.parents[2]}"}
    return HostOptions(
        state_dir=tmp_path / "state",
        port=0,
        app="hosted_app",
        services="hosted_services",
        grace=timedelta(seconds=PATIENCE),
        environment=environment,
    )


class Host:
    """A started host, its log, and what the app wrote down."""

    def __init__(self, options: HostOptions) -> None:
        self.options = options
        self.lines: list[str] = []
        self.supervisor = Supervisor(options, report=self.lines.append)

    def evidence(self, kind: str) -> list[dict[str, Any]]:
        return evidence(self.options, kind)

    @property
    def hold(self) -> Path:
        """While this file is there, no run of ``slow`` ends."""
        return Path(self.options.environment["HOSTED_DATA"], "hold")

    async def get(self, path: str) -> tuple[int, Any]:
        return await asyncio.to_thread(get, self.supervisor.port, path)


def evidence(options: HostOptions, kind: str) -> list[dict[str, Any]]:
    path = Path(options.environment["HOSTED_DATA"]) / "evidence.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def get(port: int, path: str, host: str = "localhost", method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - it is other processes that make it hold
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@asynccontextmanager
async def running(options: HostOptions) -> AsyncIterator[Host]:
    started = Host(options)
    await started.supervisor.start()
    try:
        yield started
    finally:
        started.hold.unlink(missing_ok=True)
        await started.supervisor.stop()


@pytest.fixture
async def host(options: HostOptions) -> AsyncIterator[Host]:
    async with running(options) as started:
        yield started


@pytest.fixture
async def impatient(options: HostOptions) -> AsyncIterator[Host]:
    """A host that gives a function two seconds."""
    async with running(replace(options, host_json=HOSTED / "impatient.json")) as started:
        yield started


async def send(options: HostOptions, queue: str, ids: list[str]) -> None:
    bus = SqliteMessageBus(Path(options.environment["HOSTED_DATA"]) / "bus.sqlite", QUEUES)
    await bus.send(queue, [Message(b"{}", message_id) for message_id in ids])
    await bus.close()


async def left(options: HostOptions) -> dict[str, int]:
    bus = SqliteMessageBus(Path(options.environment["HOSTED_DATA"]) / "bus.sqlite", QUEUES)
    depths = await bus.depths()
    await bus.close()
    return {name: depth.active + depth.locked + depth.scheduled for name, depth in depths.items()}


async def test_all_triggers_run_each_in_its_own_process(host: Host) -> None:
    ids = [f"m{number}" for number in range(120)]
    await send(host.options, "first", ids)
    shard = Shard(
        id=shard_id("acme", "salesforce", "00D000000000001", "Account", "001000000000001"),
        tenant_id="acme",
        shard_type_id="c_account",
        structured_data={"name": "Acme"},
        acl=Acl.of("tenant"),
        created_at="2026-01-01T00:00:00.000Z",
        updated_at="2026-01-01T00:00:00.000Z",
    )
    (Path(host.options.environment["HOSTED_DATA"]) / "feed.jsonl").write_bytes(encode_shard(shard) + b"\n")
    await until(lambda: len(host.evidence("second")) == len(ids))
    await until(lambda: bool(host.evidence("feed")) and bool(host.evidence("tick")))
    status, answer = await host.get("/api/hello/Ann")

    assert (status, answer["name"]) == (200, "Ann")
    assert sorted(entry["id"] for entry in host.evidence("second")) == sorted(ids)
    assert host.evidence("feed")[0]["ids"] == [shard.id]
    assert answer["pid"] == host.supervisor.http_pid
    assert {entry["pid"] for entry in host.evidence("second")} == set(host.supervisor.worker_pids)
    assert await left(host.options) == dict.fromkeys(QUEUES, 0)


async def test_a_worker_that_is_killed_mid_batch_is_started_again_and_its_messages_are_processed(host: Host) -> None:
    ids = [f"m{number}" for number in range(30)]
    host.hold.touch()
    await send(host.options, "slow", ids)
    await until(lambda: bool(host.evidence("slow-begun")))
    [killed] = host.supervisor.worker_pids
    os.kill(killed, signal.SIGKILL)
    host.hold.unlink()
    await until(lambda: sum(len(entry["ids"]) for entry in host.evidence("slow-ended")) == len(ids))

    assert host.supervisor.worker_pids != [killed]
    assert not any(entry["pid"] == killed for entry in host.evidence("slow-ended"))
    assert any(max(entry["counts"]) == 2 for entry in host.evidence("slow-begun"))
    assert any("SIGKILL" in line and str(killed) in line for line in host.lines)
    assert (await host.get("/api/hello/Ann"))[0] == 200


async def test_a_graceful_stop_finishes_what_runs_and_keeps_the_rest_for_the_next_start(options: HostOptions) -> None:
    ids = [f"m{number}" for number in range(150)]
    await send(options, "slow", ids)
    first = Host(options)
    first.hold.touch()
    await first.supervisor.start()
    await until(lambda: bool(first.evidence("slow-begun")))
    stopping = asyncio.create_task(first.supervisor.stop())
    await asyncio.sleep(0.2)  # it is asked to stop before it is let go on; even a late one would do two batches first
    first.hold.unlink()
    await stopping
    done = [message for entry in first.evidence("slow-ended") for message in entry["ids"]]
    begun = [message for entry in first.evidence("slow-begun") for message in entry["ids"]]
    assert sorted(begun) == sorted(done)
    assert (await left(options))["slow"] == len(ids) - len(done) > 0

    second = Host(options)
    await second.supervisor.start()
    await until(lambda: sum(len(entry["ids"]) for entry in second.evidence("slow-ended")) == len(ids))
    await second.supervisor.stop()
    ended = [message for entry in second.evidence("slow-ended") for message in entry["ids"]]
    assert sorted(ended) == sorted(ids)
    assert (await left(options))["slow"] == 0


async def test_a_second_worker_shares_the_queues_but_not_the_timers(options: HostOptions) -> None:
    async with running(replace(options, workers=2)) as host:
        assert len(set(host.supervisor.worker_pids)) == 2
        host.hold.touch()
        await send(options, "slow", [f"m{number}" for number in range(300)])
        await until(lambda: len({entry["pid"] for entry in host.evidence("slow-begun")}) == 2)
        await until(lambda: len(host.evidence("tick")) >= 2)
        assert {entry["pid"] for entry in host.evidence("tick")} == {host.supervisor.worker_pids[0]}


async def test_a_thread_that_outstays_the_timeout_costs_its_process_and_the_message_comes_again(
    impatient: Host,
) -> None:
    [before] = impatient.supervisor.worker_pids
    await send(impatient.options, "stuck", ["m"])
    await until(lambda: bool(impatient.evidence("unstuck")))

    assert [entry["count"] for entry in impatient.evidence("stuck")][:2] == [1, 2]
    assert impatient.supervisor.worker_pids != [before]
    told = "function stuck took longer than the functionTimeout of 2 s (message m"
    assert any(told in line for line in impatient.lines)


async def test_a_request_that_outstays_the_timeout_is_answered_and_the_door_stays_open(impatient: Host) -> None:
    status, problem = await asyncio.to_thread(get, impatient.supervisor.port, "/api/stuck", method="POST")
    assert (status, problem["status"]) == (504, 504)
    async with asyncio.timeout(PATIENCE):
        # A machine that stands still for two seconds makes one of any function outstay its time.
        while (status := (await impatient.get("/api/hello/Ann"))[0]) == 504:
            continue
    assert status == 200


async def test_requests_wait_while_the_door_is_started_again(host: Host) -> None:
    pid = host.supervisor.http_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))
    status, answer = await host.get("/api/hello/Ann")
    assert status == 200
    assert answer["pid"] != pid


async def test_a_running_host_refuses_a_foreign_host_name_and_a_second_host_on_its_folder(host: Host) -> None:
    status, problem = await asyncio.to_thread(get, host.supervisor.port, "/api/hello/Ann", "evil.example")
    assert (status, problem["title"]) == (400, "Bad Request")
    with pytest.raises(HostError, match=f"process {os.getpid()}.*already runs"):
        await Host(host.options).supervisor.start()
    assert (await host.get("/api/hello/Ann"))[0] == 200


async def test_a_port_in_use_is_one_line_and_nothing_is_started(options: HostOptions) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        host = Host(replace(options, port=port))
        with pytest.raises(HostError, match=f"^port {port} is in use; .*--port$"):
            await host.supervisor.start()
    assert host.supervisor.worker_pids == []


async def test_an_app_that_cannot_be_indexed_fails_the_start_with_its_reason(options: HostOptions) -> None:
    host = Host(replace(options, app="no_such_app"))
    with pytest.raises(HostError, match="there is no module no_such_app"):
        await host.supervisor.start()
    assert host.supervisor.http_pid is None


RUNNER = """
import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from local.host.supervisor import HostOptions, run_host

def say(line):
    print(line, file=sys.stderr, flush=True)

async def serving(port):
    say(f"serving on http://localhost:{port}")

options = HostOptions(state_dir=Path(sys.argv[1]), port=int(sys.argv[2]), app="hosted_app",
    services="hosted_services", grace=timedelta(seconds=60))
asyncio.run(run_host(options, report=say, serving=serving))
"""


@contextmanager
def running_command(options: HostOptions, port: int = 0) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(options.state_dir), str(port)],
        env={**os.environ, **options.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def wait_for_line(process: subprocess.Popen[str], part: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if part in line:
            return line
    raise AssertionError(f"the host ended without saying {part!r}")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_children_end_when_the_supervisor_is_killed_and_the_next_start_takes_over(options: HostOptions) -> None:
    with running_command(options) as process:
        port = int(wait_for_line(process, "serving on").rsplit(":", 1)[1])
        children = children_of(process.pid)
        assert len(children) == 2
        for child in children:
            os.kill(child, signal.SIGSTOP)
        process.kill()
        process.wait()
        with running_command(options, port) as second:
            # By then it has asked for the port, unless the machine is slow.
            time.sleep(3)
            for child in children:
                os.kill(child, signal.SIGCONT)
            wait_for_line(second, "serving on")
            assert not any(map(alive, children))
            assert get(port, "/api/hello/Ann")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_host_with_exit_code_0(options: HostOptions, number: signal.Signals) -> None:
    with running_command(options) as process:
        wait_for_line(process, "serving on")
        children = children_of(process.pid)
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE) == 0
        assert not any(map(alive, children))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_host_is_ready_ends_its_start(options: HostOptions, number: signal.Signals) -> None:
    with running_command(options) as process:
        deadline = time.monotonic() + PATIENCE
        while len(children := children_of(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.stderr is not None
        lines = process.stderr.read().splitlines()
        assert process.wait(timeout=PATIENCE) == 0
        assert len(children) == 2
        assert not any(map(alive, children))
    assert "stopping" in lines
    assert [line for line in lines if "serving on" in line or "Traceback" in line or "rror" in line] == []
