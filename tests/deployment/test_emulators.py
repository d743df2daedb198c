"""`make compose-up` and `make func`: what they start, with what, and what they say when something is missing."""

import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from local.emulators.password import make_password_file
from local.emulators.wait import wait_for
from local.emulators.with_settings import SettingsFileError, environment_with, values_of

ROOT = Path(__file__).parents[2]


class Answers(BaseHTTPRequestHandler):
    """503 until it was asked *needed* times, then the status of its path."""

    needed = 3
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(503 if self.asked < self.needed else int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that needs some time."""
    Answers.asked = 0
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_waiting_ends_when_all_answer_whatever_they_want_first(server: str) -> None:
    assert wait_for({"one": f"{server}/200", "other": f"{server}/400"}, patience=30, between=0.01) == {}
    assert Answers.asked >= Answers.needed


def test_who_stays_silent_is_named_with_the_reason(server: str) -> None:
    silent = wait_for({"slow": f"{server}/500", "nobody": "127.0.0.1:1/"}, patience=0, between=0.01)
    assert silent["slow"] == "it answers 503"
    assert "refused" in silent["nobody"]


def test_the_password_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "emulators.env"
    assert make_password_file(file) is True
    name, _, password = file.read_text().strip().partition("=")
    assert name == "MSSQL_SA_PASSWORD"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(password) >= 32
    # What the server asks for, and nothing that a shell or a compose file would read otherwise.
    assert all(re.search(kind, password) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    assert password.isalnum()
    assert make_password_file(file) is False
    assert file.read_text().endswith(f"={password}\n")


def test_a_command_runs_with_the_values_of_the_file_below_what_the_shell_sets(tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    file.write_text(json.dumps({"IsEncrypted": False, "Values": {"ONE": "file", "TWO": "file"}}))
    program = "import os; print(os.environ['ONE'], os.environ['TWO'])"
    done = subprocess.run(
        [sys.executable, "-m", "local.emulators.with_settings", str(file), sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TWO": "shell"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["file", "shell"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "is missing: copy local.settings.example.json"),
        ("{", "is no JSON"),
        ("[]", 'has no "Values"'),
        ('{"Values": {"ONE": 1}}', "all texts"),
        ('{"IsEncrypted": true, "Values": {}}', "func settings decrypt"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(text: str | None, told: str, tmp_path: Path) -> None:
    file = tmp_path / "local.settings.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsFileError, match=re.escape(told)):
        values_of(file)


def test_what_the_shell_sets_goes_first() -> None:
    assert environment_with({"A": "file", "B": "file"}, {"B": "shell"}) == {"A": "file", "B": "shell"}


def test_the_example_reaches_the_emulators_with_their_published_keys() -> None:
    values = values_of(ROOT / "local.settings.example.json")
    assert values["ServiceBusConnection"].endswith("UseDevelopmentEmulator=true;")
    assert values["AzureWebJobsStorage"] == "UseDevelopmentStorage=true"
    assert values["CosmosConnection"].startswith(
        "AccountEndpoint=http://localhost:8081/;AccountKey=C2y6yDjf5/R+ob0N8A7C"
    )


def test_no_password_is_written_into_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for service in ("mssql", "servicebus"):
        assert services[service]["environment"]["MSSQL_SA_PASSWORD"].startswith("${MSSQL_SA_PASSWORD:?")
    assert services["servicebus"]["depends_on"] == {"mssql": {"condition": "service_healthy"}}
    assert "ports" not in services["mssql"]
    assert ".cache/" in (ROOT / ".gitignore").read_text().splitlines()


class Make:
    """Runs targets of the Makefile on programs that only write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.calls = folder, folder / "bin", folder / "calls"
        self.bin.mkdir()
        for name in ("sh", "cp", "test", "env"):
            program = next(path for path in (Path("/bin") / name, Path("/usr/bin") / name) if path.exists())
            (self.bin / name).symlink_to(program)
        for name in ("python", "shardline"):
            self.program(name)

    def program(self, name: str, *, answer: int = 0) -> None:
        file = self.bin / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\nexit {answer}\n')
        file.chmod(0o755)

    def __call__(self, target: str) -> "subprocess.CompletedProcess[str]":
        command = ["make", "--silent", "-C", str(self.folder), "-f", str(ROOT / "Makefile"), f"BIN={self.bin}", target]
        # The environment is there already, as far as these targets are concerned.
        command += [f"--old-file=.venv/{file}" for file in (".installed", ".installed-dev")]
        make = next(path for path in (Path("/usr/bin/make"), Path("/bin/make")) if path.exists())
        command[0] = str(make)
        environment = {"PATH": str(self.bin), "HOME": str(self.folder)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The Makefile in a folder of its own."""
    (tmp_path / ".venv").mkdir()
    for name in (".venv/.installed", ".venv/.installed-dev", "pyproject.toml", "requirements.txt"):
        (tmp_path / name).touch()
    (tmp_path / "local.settings.example.json").write_text("example")
    return Make(tmp_path)


def test_compose_up_makes_a_password_starts_and_waits(make: Make) -> None:
    make.program("docker")
    assert make("compose-up").returncode == 0
    assert make.called() == [
        "docker compose version",
        "python -m local.emulators.password .cache/emulators.env",
        "docker compose --env-file .cache/emulators.env up --detach",
        "python -m local.emulators.wait",
    ]


def test_compose_down_leaves_nothing(make: Make) -> None:
    make.program("docker")
    (make.folder / ".cache").mkdir()
    (make.folder / ".cache/emulators.env").touch()
    assert make("compose-down").returncode == 0
    assert make.called() == [
        "docker compose version",
        "docker compose --env-file .cache/emulators.env down --volumes",
    ]


def test_compose_down_says_when_there_is_nothing_to_end(make: Make) -> None:
    make.program("docker")
    done = make("compose-down")
    assert done.returncode != 0
    assert "nothing to end" in done.stderr


@pytest.mark.parametrize("target", ["compose-up", "compose-down"])
def test_without_docker_make_says_what_is_needed(make: Make, target: str) -> None:
    done = make(target)
    assert done.returncode != 0
    assert "Docker with Compose is needed" in done.stderr
    assert make.called() == []


def test_func_makes_its_settings_provisions_and_starts(make: Make) -> None:
    make.program("func")
    assert make("func").returncode == 0
    assert (make.folder / "local.settings.json").read_text() == "example"
    assert make.called() == [
        f"python -m local.emulators.with_settings local.settings.json {make.bin}/shardline provision --without-search",
        "func start",
    ]


def test_func_keeps_settings_that_are_there(make: Make) -> None:
    make.program("func")
    (make.folder / "local.settings.json").write_text("mine")
    assert make("func").returncode == 0
    assert (make.folder / "local.settings.json").read_text() == "mine"


def test_func_does_not_start_what_could_not_be_provisioned(make: Make) -> None:
    make.program("func")
    make.program("python", answer=1)
    assert make("func").returncode != 0
    assert not any(call.startswith("func") for call in make.called())


def test_without_core_tools_func_says_how_to_get_them(make: Make) -> None:
    done = make("func")
    assert done.returncode != 0
    assert "azure-functions-core-tools@4" in done.stderr
