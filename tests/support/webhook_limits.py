"""Posts the largest and most expensive bodies there are to the webhooks, in a process of bounded memory and time.

It prints a line for each body, ``status name``, and ends by a signal or with an error when a bound is passed.
"""

import asyncio
import gzip
import logging
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unittest.mock import patch

from webhook_rig import ORG, TEAM, WebhookRig

CPU_SECONDS: Final = 30
"""For all of them together, generously; the worst alone took two minutes where nothing bounded it."""
MEMORY: Final = 480 * 1024 * 1024
"""Bytes above what the process has before the first; the worst took five times that of a body of 254 KB."""

XML = [("Content-Type", "text/xml")]
JSON = [("Content-Type", "application/json")]
MB: Final = 1024 * 1024
OPENED = (
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
    b'<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>' + ORG.encode()
)


def xml_bodies() -> Iterator[tuple[str, bytes]]:
    """Names and bodies of nearly 10 MB, or of what costs most for its size."""
    yield (
        "a namespace written out for each element",
        (b'<a xmlns="' + b"u" * (2 * MB) + b'">' + b"<b/>" * 100_000 + b"</a>"),
    )
    yield (
        "a namespace written out for each attribute",
        (b'<a xmlns:x="' + b"u" * 200_000 + b'"><b ' + b" ".join(b'x:a%d=""' % n for n in range(5000)) + b"/></a>"),
    )
    yield (
        "the same below the limit, again and again",
        (
            b'<a xmlns:x="'
            + b"u" * 15_000
            + b'">'
            + (b"<b " + b" ".join(b'x:a%d=""' % n for n in range(1300)) + b"/>") * 500
        ),
    )
    yield "attributes", b"<a " + b" ".join(b'a%d=""' % n for n in range(200_000)) + b"/>"
    yield "elements", b"<a>" + b"<b/>" * (2 * MB)
    yield "depth", b"<a>" * (3 * MB)
    yield "one text", OPENED + b"0" * (9 * MB)
    yield "references to characters", OPENED + b"&#65;" * (2 * MB - 100_000)
    yield "a comment", b"<a><!--" + b"c" * (9 * MB)
    yield "comments", b"<a>" + b"<!---->" * (MB + MB // 4)
    yield "declarations", b"<a" + b"".join(b' xmlns:n%d="u"' % n for n in range(100_000)) + b"/>"
    yield (
        "billion laughs",
        (
            b'<!DOCTYPE l [<!ENTITY l0 "lol">'
            + b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
            + b"]><l>&l11;</l>"
        ),
    )


def json_bodies() -> Iterator[tuple[str, bytes]]:
    """The same in JSON."""
    yield "empty lists", b"[" + b"[]," * (3 * MB) + b"1]"
    yield "empty objects", b"[" + b"{}," * (3 * MB) + b"1]"
    yield "keys", b"{" + b",".join(b'"%x":1' % n for n in range(250_000)) + b"}"
    yield "texts", b"[" + b",".join(b'"%x"' % n for n in range(300_000)) + b"]"
    yield "ids of records", b'{"ids":[' + b",".join(b'"001%012d"' % n for n in range(500_000)) + b"]}"
    yield "ids in no list of ids", b"[" + b",".join(b'"001%012d"' % n for n in range(500_000)) + b"]"
    yield "records", b"[" + b",".join(b'{"Id":"001%012d"}' % n for n in range(400_000)) + b"]"
    yield "depth", b"[" * (9 * MB)
    yield "depth that is closed", b'{"a":' * MB + b"1" + b"}" * MB
    yield "digits of a whole number", b"9" * (9 * MB)
    yield "digits of a fraction", b"0." + b"9" * (9 * MB)
    yield "an exponent", b'{"a":1e' + b"9" * MB + b"}"
    yield "escapes", b'{"a":"' + b"\\u0041" * MB + b'"}'
    yield "fractions", b"[" + b"1.5," * (MB // 2) + b"1]"


async def post_all(rig: WebhookRig) -> None:
    """Post each body, and 50 MB of nothing to each webhook."""
    for name, body in xml_bodies():
        print((await rig.post(rig.address(), body, XML)).status, f"xml: {name}")
    for name, body in json_bodies():
        print((await rig.post(rig.address(), body, JSON)).status, f"json: {name}")
        told = b'{"team_id":"' + TEAM.encode() + b'","a":' + body[: MB - 100] + b"}"
        print((await rig.post("webhooks/slack", told, rig.slack(told))).status, f"slack: {name}")
    packed = gzip.compress(b"0" * (50 * MB))
    print((await rig.post(rig.address(), packed, [*XML, ("Content-Encoding", "gzip")])).status, "packed to Salesforce")
    print(
        (await rig.post("webhooks/slack", packed, [*rig.slack(packed), ("Content-Encoding", "gzip")])).status, "packed"
    )
    for name, path, headers in (
        ("Salesforce", rig.address(), XML),
        ("an address of nobody", "webhooks/salesforce/sf/guess", XML),
        ("Slack", "webhooks/slack", rig.slack(b"")),
        ("Drive", "webhooks/gdrive", rig.drive()),
    ):
        print((await rig.post(path, (b" " * MB for _ in range(50)), headers)).status, f"50 MB to {name}")
    print((await rig.post("webhooks/slack", (b" " * MB for _ in range(101)))).status, "101 MB to the door")


def bound() -> None:
    """Give this process what it has by now, and as much as the bodies may take."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


async def main() -> None:
    """Make the webhooks, then bound the process, then post."""
    with tempfile.TemporaryDirectory() as folder:
        rig = WebhookRig(Path(folder))
        logging.getLogger().setLevel(logging.INFO)
        with patch("ingestion.blueprint.services", rig.services):
            await rig.connect()
            assert (await rig.post(rig.address(), b"<a/>", XML)).status == 400
            assert (await rig.post("webhooks/slack", b"{}", rig.slack(b"{}"))).status == 200
            bound()
            await post_all(rig)
        await rig.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{used.ru_maxrss // 1024} MB, {used.ru_utime + used.ru_stime:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main())
