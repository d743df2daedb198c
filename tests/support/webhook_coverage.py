"""Bodies and headers for the webhooks' parsers, led by what each try reaches.

``webhook_coverage.py DOOR SECONDS FOLDER``: *DOOR* is a vendor. The corpus, which begins with the recorded payloads,
stays in *FOLDER*, as does what broke something.
"""

import asyncio
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import atheris

with atheris.instrument_imports(
    include=["connections", "defusedxml", "ingestion", "messaging", "shards", "xml"], enable_loader_override=False
):
    from webhook_rig import CHANNEL, ORG, OTHER_ORG, OTHER_TEAM, TEAM, signature

    from connections.connection import Connection
    from connections.directory import ConnectionDirectory
    from connections.gdrive_connection import DriveConnection, GoogleAuth
    from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
    from connections.secrets import Secret
    from connections.slack_connection import SlackAuth, SlackConnection
    from ingestion.gdrive import webhook as gdrive
    from ingestion.gdrive.channels import channel_token
    from ingestion.salesforce import webhook as salesforce
    from ingestion.salesforce.outbound_message import ACK
    from ingestion.slack import webhook as slack
    from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts
    from messaging.bus import LARGEST_BODY, Message
    from messaging.contracts import SourceWork
    from messaging.queues import SOURCE_WORK

SAMPLES: Final = Path(__file__).resolve().parents[1] / "samples"
NOW: Final = 1_700_000_000
ACME, GLOBEX = "acme", "globex"
SECRETS: Final = {ACME: "5e" * 16, GLOBEX: "9a" * 16}

LONGEST: Final = 24 * 1024
"""Bytes of an input: what is parsed in a thread would not be seen."""
SECONDS_EACH: Final = 5
MEMORY_MB: Final = 1024


@dataclass
class _Bus:
    """What was queued by the last request; what can't be queued, or not read again, fails."""

    works: list[SourceWork] = field(default_factory=list)

    async def send(self, queue: str, messages: Sequence[Message], *, delay: timedelta | None = None) -> None:
        assert queue == SOURCE_WORK
        for message in messages:
            assert len(message.body) <= LARGEST_BODY
            assert 0 < len(message.message_id) <= 128
            self.works.append(SourceWork.from_bytes(message.body))


class _Registry:
    """The connections of two tenants, of one name each."""

    async def all(self) -> list[Connection]:
        found: list[Connection] = []
        for tenant, team, org in ((ACME, TEAM, ORG), (GLOBEX, OTHER_TEAM, OTHER_ORG)):
            secret = f"secret:{tenant}/secret"
            found += [
                SlackConnection(
                    connection_id="main",
                    tenant_id=tenant,
                    name="Slack",
                    instance=team,
                    auth=SlackAuth(bot_token=secret, signing_secret=secret),
                ),
                SalesforceConnection(
                    connection_id="main",
                    tenant_id=tenant,
                    name="Salesforce",
                    instance=org,
                    auth=SalesforceAuth(flow="jwt-bearer", username="u", consumer_key="k", private_key=secret),
                    objects=tuple(PolledObject(name=name) for name in ("Account", "Contact", "Opportunity")),
                    webhook_secrets=(secret,),
                ),
                DriveConnection(
                    connection_id="main",
                    tenant_id=tenant,
                    name="Drive",
                    auth=GoogleAuth(service_account=secret),
                    channel_secret=secret,
                ),
            ]
        return found


class _Secrets:
    async def get(self, tenant_id: str, reference: str, *, fresh: bool = False) -> Secret:
        return Secret(SECRETS[tenant_id])


class Doors:
    """The webhooks, each as a function that takes an input and fails when what always holds does not."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.bus = _Bus()
        self.seconds = 0.0
        self.renew()

    def renew(self) -> None:
        """A process that remembers nothing, so that nothing is a repeat for ever."""
        self.ports = WebhookPorts(
            self.bus,  # type: ignore[arg-type]  # what a webhook asks of a bus
            ConnectionDirectory(_Registry(), monotonic=lambda: self.seconds),  # type: ignore[arg-type]  # and of these
            _Secrets(),  # type: ignore[arg-type]
            clock=lambda: datetime.fromtimestamp(NOW, UTC),
            monotonic=lambda: self.seconds,
        )

    def _answer(
        self, receive: Callable[[PushRequest, WebhookPorts], Coroutine[Any, Any, PushAnswer]], request: PushRequest
    ) -> tuple[int, str]:
        """Status and body; nothing was queued unless it was accepted, and no secret comes out."""
        self.seconds += 1
        self.bus.works.clear()
        answer = self.loop.run_until_complete(receive(request, self.ports))
        assert answer.status < 500
        assert answer.status < 300 or not self.bus.works, "what was refused was queued"
        for secret in SECRETS.values():
            assert secret not in answer.body
            assert not any(secret in work.model_dump_json() for work in self.bus.works)
        return answer.status, answer.body

    def _owners(self) -> set[str]:
        return {work.tenant_id for work in self.bus.works}

    def slack(self, data: bytes) -> None:
        """Signed by either tenant's app, or with headers that the input brings itself."""
        kind, body = data[:1], data[1:]
        if kind in (b"a", b"g"):
            tenant = ACME if kind == b"a" else GLOBEX
            headers = {
                "x-slack-request-timestamp": str(NOW),
                "x-slack-signature": signature(SECRETS[tenant], str(NOW), body),
            }
            status, _ = self._answer(slack.receive, PushRequest(headers, body))
            assert status in {200, 400, 401}
            assert self._owners() <= {tenant}, "another tenant's app has signed"
            return
        timestamp, signed, body = _parts(data, 3)
        headers = {"x-slack-request-timestamp": _text(timestamp), "x-slack-signature": _text(signed)}
        status, _ = self._answer(slack.receive, PushRequest(headers, body))
        assert status == 401, "nobody has signed"

    def salesforce(self, data: bytes) -> None:
        """To the address of Acme's connection."""
        kind = {b"x": "text/xml; charset=utf-8", b"j": "application/json", b"n": ""}.get(data[:1])
        header, body = (data[:1], data[1:]) if kind is not None else _parts(data, 2)
        headers = {"content-type": _text(header) if kind is None else kind}
        route = {"connectionId": "main", "secret": SECRETS[ACME]}
        status, answer = self._answer(salesforce.receive, PushRequest(headers, body, route))
        assert status in {200, 202, 400, 403, 413, 415}
        assert (status == 200) is (answer == ACK)
        assert self._owners() <= {ACME}
        for work in self.bus.works:
            assert all(len(one) == 18 and one.isalnum() for ids in work.ids.values() for one in ids)

    def gdrive(self, data: bytes) -> None:
        """Headers that the input brings; in place of a name of a tenant stands the token that it makes."""
        channel, token, state, body = (_text(part) for part in _parts(data, 4))
        token = _drive_token(token, channel) if token in SECRETS else token
        headers = {"x-goog-channel-id": channel, "x-goog-channel-token": token, "x-goog-resource-state": state}
        status, _ = self._answer(gdrive.receive, PushRequest(headers, body.encode("utf-8", "surrogatepass")))
        makers = {tenant for tenant in SECRETS if _drive_token(tenant, channel) == token}
        named = re.fullmatch("[A-Za-z0-9_+/=-]{1,64}", channel)
        assert status == (200 if makers and named else 404), "whoever makes the token is taken, and nobody else"
        assert self._owners() <= makers


def _drive_token(tenant: str, channel: str) -> str:
    connection = DriveConnection(connection_id="main", tenant_id=tenant, name="", auth=GoogleAuth(service_account=""))
    return channel_token(connection, channel, Secret(SECRETS[tenant]))


def _parts(data: bytes, number: int) -> list[bytes]:
    """*data* between its first line feeds."""
    found = data.split(b"\n", number - 1)
    return found + [b""] * (number - len(found))


def _text(raw: bytes) -> str:
    """A header's value as hosts hand it over."""
    return raw.decode("latin-1")


def seeds(door: str) -> Iterator[bytes]:
    """The first inputs: payloads as they were recorded, of the connections here."""
    if door == "gdrive":
        for tenant in SECRETS:
            for state in (b"sync", b"change"):
                for token in (tenant, _drive_token(tenant, CHANNEL)):
                    yield b"\n".join((CHANNEL.encode(), token.encode(), state, b""))
        return
    if door == "slack":
        files = sorted((SAMPLES / "slack").glob("events*/*.json"))
        for file in files:
            body = re.sub(rb'("team_id"\s*:\s*)"[^"]*"', rb'\1"' + TEAM.encode() + b'"', file.read_bytes())
            yield b"a" + body
            yield b"g" + body.replace(TEAM.encode(), OTHER_TEAM.encode())
            timestamp = str(NOW).encode()
            yield b"\n".join((timestamp, signature("0" * 32, timestamp.decode(), body).encode(), body))
        return
    folder = SAMPLES / "salesforce"
    for file in [*folder.glob("outbound/*"), *folder.glob("callout/*"), *folder.glob("cdc/*")]:
        body = file.read_bytes()
        for theirs in (b"00D5g000000OPENEA4", b"00DD0000000muCUMAY", b"00DD0000000muCU", b"012345678901234"):
            body = body.replace(theirs, ORG[: len(theirs)].encode())
        yield (b"x" if file.suffix == ".xml" else b"j") + body
        yield b"n" + body


def words(door: str) -> set[bytes]:
    """What the parsers look for: names, ids and marks in the payloads, and what breaks a careless reader."""
    found = {word for seed in seeds(door) for word in re.findall(rb"[\w:.@/+-]{2,60}", seed)}
    found |= {b"<!DOCTYPE", b"<!ENTITY x 'y'>", b"&x;", b"<![CDATA[", b"]]>", b"\xef\xbb\xbf", b"\xff\xfe", b"\\ud800"}
    return found | {b"1e999999", b"NaN", b"-0", b"\\u0000", b"001*", b"000000000000000AAA", b"GAP_OVERFLOW", b"[[[[{"}


def main(door: str, seconds: str, folder: Path) -> None:
    """Fuzz *door*; ends the process, with 77 where something was found."""
    logging.disable(logging.CRITICAL)
    corpus = folder / door
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(door)):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = folder / f"{door}.dict"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in sorted(words(door)))
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
    doors = Doors()
    take = {"slack": doors.slack, "salesforce": doors.salesforce, "gdrive": doors.gdrive}[door]
    tries = 0

    def once(data: bytes) -> None:
        nonlocal tries
        tries += 1
        if tries % 1000 == 0:
            doors.renew()
        take(data)

    options = {
        "max_total_time": seconds,
        "max_len": LONGEST,
        "timeout": SECONDS_EACH,
        "rss_limit_mb": MEMORY_MB,
        "dict": dictionary,
        "artifact_prefix": f"{folder}{os.sep}{door}-",
        "print_final_stats": 1,
    }
    atheris.Setup([sys.argv[0], str(corpus), *(f"-{name}={value}" for name, value in options.items())], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
