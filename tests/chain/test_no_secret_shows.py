"""Credentials of every kind go in; none comes out again: not in a log, an error, a shard, a message or an answer."""

import asyncio
import base64
import json
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kill_campaign import make_company
from shardline_command import Answer, command_environment, command_line, shardline

from composition import Services, build
from connections.connection import Schedule
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from connections.secrets import environment_variable
from local.company import load_company
from local.home import prepare_home
from local.salesforce.auth import Credentials
from local.salesforce.org import Org
from local.salesforce.server import SalesforceSimulator
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from settings import HOME_FILE, load_settings
from shards.store import ShardQuery

ROWS = 40
OWN_KEYS = ("token.key", "function.key")
"""Files that are keys themselves; what is in them must be nowhere else."""

CONSUMER_SECRET = "planted+consumer/secret=Q7x"
WRONG_SECRET = "planted-wrong-secret-K2m"
PASSWORD = "planted&password<W9z>"
SECURITY_TOKEN = "plantedSecurityTokenT4r"
NO_PEM = "planted-text-that-is-no-key-P8v"


def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def forms(secret: str) -> Iterator[bytes]:
    """The ways in which a secret may be written down."""
    yield secret.encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield urllib.parse.quote_plus(secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    yield secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").encode()
    for shift in range(3):
        # Within a Basic header the secret stands behind a key of any length, so at any of the three offsets.
        encoded = base64.b64encode(b"\0" * shift + secret.encode())
        yield encoded[4 if shift else 0 : -4]


def connections(tenant: str, credentials: Credentials) -> dict[str, tuple[SalesforceAuth, dict[str, str]]]:
    """One connection a kind of credential, most of them wrong, as (auth, secrets by name)."""

    def reference(name: str) -> str:
        return f"secret:{tenant}/{name}"

    def client(secret: str) -> SalesforceAuth:
        return SalesforceAuth(
            flow="client-credentials",
            domain="sandbox.my",
            consumer_key=credentials.consumer_key,
            consumer_secret=reference(secret),
        )

    def jwt(key: str) -> SalesforceAuth:
        return SalesforceAuth(
            flow="jwt-bearer",
            username=credentials.username,
            consumer_key=credentials.consumer_key,
            private_key=reference(key),
        )

    def login(password: str) -> SalesforceAuth:
        return SalesforceAuth(
            flow="username-password",
            username=credentials.username,
            password=reference(password),
            security_token=reference("token"),
        )

    return {
        "good": (client("good"), {"good": CONSUMER_SECRET}),
        "wrong-secret": (client("wrong"), {"wrong": WRONG_SECRET}),
        "no-secret": (client("nowhere"), {}),
        "wrong-password": (login("password"), {"password": PASSWORD, "token": SECURITY_TOKEN}),
        "unknown-key": (jwt("key"), {"key": private_key()}),
        "no-key": (jwt("no-key"), {"no-key": NO_PEM}),
    }


async def until_told(services: Services, tenant: str, names: set[str]) -> None:
    """Wait until the good connection is read and the others are known to fail."""
    until = time.monotonic() + 60
    while True:
        known = {one.connection_id: one.status for one in await services.connections.of_tenant(tenant)}
        depths = await services.bus.depths()
        waiting = any(depth.active or depth.locked or depth.scheduled for depth in depths.values())
        if not waiting and all(known[name] == "failed" for name in names - {"good"}):
            return
        assert time.monotonic() < until, f"{known} {depths}"
        await asyncio.sleep(0.1)


def start(data: Path, log: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            command_line("up", "--no-sandbox", "--data", data, "--port", "0"),
            env=command_environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


@pytest.mark.timeout(120)
async def test_no_secret_shows_anywhere(tmp_path: Path) -> None:
    data = tmp_path / "data"
    company = load_company(make_company(tmp_path / "company", ROWS, 1))
    tenant = company.tenant_id
    credentials = Credentials(consumer_secret=CONSUMER_SECRET)
    log = tmp_path / "up.log"
    with SalesforceSimulator(Org(company), credentials) as simulator:
        simulator.api.faults.add("unavailable-html", times=1)
        simulator.api.faults.add("session-expired", times=1, skip=2)
        prepare_home(data, simulators={"salesforce": simulator.base_url})
        services = build(load_settings(data / HOME_FILE))
        wanted = connections(tenant, credentials)
        environment = {"SHARDLINE_LOG_LEVEL": "DEBUG", "SHARDLINE_SALESFORCE_SIMULATOR": simulator.base_url}
        planted: list[str] = [CONSUMER_SECRET, PASSWORD + SECURITY_TOKEN]
        for name, (auth, secrets) in wanted.items():
            for secret, value in secrets.items():
                environment[environment_variable(tenant, secret)] = value
                planted.append(value)
            connection = await services.connections.save(
                SalesforceConnection(
                    connection_id=name,
                    tenant_id=tenant,
                    system="salesforce",
                    name=name,
                    auth=auth,
                    objects=(PolledObject(name="Account"), PolledObject(name="Contact"), PolledObject(name="Nope__c")),
                    schedule=Schedule(poll_seconds=3600),
                )
            )
            work = SourceWork(tenant_id=tenant, connection_id=name, work="poll", due_at=connection.created_at)
            await services.bus.send(SOURCE_WORK, [work.to_message(SOURCE_WORK)])
        host = start(data, log, environment)
        try:
            await until_told(services, tenant, set(wanted))
            answers = [
                shardline(*words, "--data", data)
                for words in (
                    ("status",),
                    ("status", "--json"),
                    ("connections",),
                    ("connections", "--json"),
                    ("parked", "--json"),
                    ("export", "shards", "--tenant", tenant),
                    ("export", "links", "--tenant", tenant),
                )
            ]
        finally:
            host.send_signal(signal.SIGTERM)
            host.wait(60)
        planted += list(simulator.api.login._sessions)
        assert len(planted) > len(wanted) + 1, "a session was had"
        failed = {one.connection_id: one.error_message or "" for one in await services.connections.of_tenant(tenant)}
        shards = await services.store.query(ShardQuery(tenant, include_deleted=True), limit=1000)
        await services.close()

    assert failed["good"] == ""
    assert sum(shard.shard_type_id == "c_contact" for shard in shards.items) == ROWS
    assert all(message and "\n" not in message for name, message in failed.items() if name != "good")
    assert "SHARDLINE_SECRET_" in failed["no-secret"], "what is missing is named"
    assert [answer.code for answer in answers] == [0] * len(answers)
    keys = {name: (data / name).read_text().strip() for name in OWN_KEYS if (data / name).exists()}
    shown = written(tmp_path, answers)
    assert len(shown) > 5
    assert b"wrong-secret" in shown["up.log"]
    unknown = [line for line in shown["up.log"].splitlines() if b"WARNING" in line and b"Nope__c" in line]
    assert len(unknown) == 1, "an object that the org does not have is told in one line"
    assert b"Traceback" not in shown["up.log"]
    for secret in [*planted, *keys.values()]:
        # Of a private key, any line of it gives it away.
        for part in secret.splitlines() if "PRIVATE KEY" in secret else [secret]:
            if part.startswith("-----"):
                continue
            for form in forms(part):
                where = [name for name, content in shown.items() if form in content]
                assert not where, f"a secret shows in {where} as {form!r}"


def written(folder: Path, answers: list[Answer]) -> dict[str, bytes]:
    """All that was written or answered, by where: files of the data folder, the log, the commands' outputs."""
    shown = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in OWN_KEYS
    }
    for number, answer in enumerate(answers):
        shown[f"answer {number}"] = f"{answer.out}\n{answer.error}".encode()
    return shown


def test_the_search_for_secrets_would_find_one() -> None:
    """The check above can fail: each form is found in what a careless program would write."""
    header = base64.b64encode(f"key:{CONSUMER_SECRET}".encode())
    assert any(form in b"Authorization: Basic " + header for form in forms(CONSUMER_SECRET))
    assert any(
        form in f"client_secret={urllib.parse.quote_plus(CONSUMER_SECRET)}".encode() for form in forms(CONSUMER_SECRET)
    )
    assert any(form in json.dumps({"password": PASSWORD}).encode() for form in forms(PASSWORD))
