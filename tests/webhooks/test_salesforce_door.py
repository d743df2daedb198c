"""What the Salesforce webhook makes of hostile requests: bodies of any kind at a true address, and false addresses."""

import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hostile_json import RAW, cut_and_patched, hostile
from hypothesis import given
from hypothesis import strategies as st
from webhook_rig import ACME, GLOBEX, ORG, OTHER_ORG, WebhookRig, examples

from ingestion.salesforce.outbound_message import ACK, FAULT

FOLDER = Path(__file__).resolve().parents[1] / "samples" / "salesforce"
XML, JSON = ("Content-Type", "text/xml; charset=utf-8"), ("Content-Type", "application/json")
OWNERS = ((ACME, "sf", ORG), (GLOBEX, "sf", OTHER_ORG), (GLOBEX, "sf-other", OTHER_ORG))
ORGS_OF_SAMPLES = (b"00D5g000000OPENEA4", b"00DD0000000muCUMAY", b"00DD0000000muCU", b"012345678901234")


def _as_of(org: str, body: bytes) -> bytes:
    for theirs in ORGS_OF_SAMPLES:
        body = body.replace(theirs, org[: len(theirs)].encode())
    return body


def _samples() -> list[Any]:
    files = [*FOLDER.glob("callout/*.json"), *FOLDER.glob("cdc/*.json")]
    found = [json.loads(_as_of(ORG, file.read_bytes())) for file in sorted(files)]
    assert len(found) > 6
    return found


MESSAGES = [_as_of(ORG, file.read_bytes()) for file in sorted(FOLDER.glob("outbound/*obm*.xml"))]
NAMES = st.sampled_from(
    (
        *("Id", "id", "ids", "recordIds", "ChangeEventHeader", "changeType", "entityName", "commitTimestamp"),
        *("transactionKey", "sequenceNumber", "detail", "data", "payload", "current", "attributes", "type", "source"),
        *("orgId", "OrganizationId", "object", "GAP_OVERFLOW", "UPDATE", "Account", "accounts", "SessionId", "001*"),
        *(ORG, ORG[:15], OTHER_ORG, "0016g000007WEfIAAW", "0016g000007WEfI", "000000000000000", "0" * 18),
        *(f"aws.partner/salesforce.com/{ORG}/x", f"aws.partner/salesforce.com/{OTHER_ORG}"),
    )
)
BODIES = st.sampled_from(_samples()).flatmap(lambda sample: hostile(sample, NAMES))
PIECES = st.binary(max_size=40) | st.sampled_from(
    (
        *RAW,
        *(b"<", b">", b"&", b"<!DOCTYPE x>", b"&lol;", b"<![CDATA[", b"]]>", b"<?x?>", b"<!--", b"\x00", b"\xff\xfe"),
        *(b"<sf:Id>0016g000007WEfIAAW</sf:Id>", b'<?xml version="1.1"?>', b"</soapenv:Body>", b"<SessionId/>"),
        *(f"<OrganizationId>{OTHER_ORG}</OrganizationId>".encode(), b' xmlns="urn:x"', b' xsi:type="sf:x y"'),
    )
)
KINDS = st.sampled_from(
    ("", "application/json", "text/xml", "application/soap+xml", "text/plain", "é", "xml,json", "A" * 60_000, "\x00")
)


@examples(150)
@given(
    body=BODIES
    | cut_and_patched(BODIES, PIECES)
    | cut_and_patched(st.sampled_from(MESSAGES), PIECES)
    | cut_and_patched(cut_and_patched(st.sampled_from(MESSAGES), PIECES), PIECES)
    | PIECES,
    kind=KINDS,
    owner=st.sampled_from(OWNERS),
)
async def test_whatever_is_posted_to_an_address_is_its_own_connections_alone(
    rig: WebhookRig, body: bytes, kind: str, owner: tuple[str, str, str]
) -> None:
    tenant, name, _ = owner
    answer = await rig.post(rig.address(tenant, name), body, [("Content-Type", kind)] if kind else [])

    assert answer.status in (200, 202, 400, 403, 413, 415)
    assert {(work.tenant_id, work.connection_id) for work in answer.taken} <= {(tenant, name)}
    assert (answer.status == 200) is (answer.body.decode() == ACK)


@examples(80)
@given(
    name=st.sampled_from(("sf", "sf-other", "drive", "chat", "nobody", "%00", "sf%2f", "SF", "é", "A" * 5000)),
    false=st.data(),
    body=st.sampled_from((b"{}", *MESSAGES)),
)
async def test_no_address_is_guessed(rig: WebhookRig, name: str, false: st.DataObject, body: bytes) -> None:
    known = [secret for (_, of), secret in rig.tokens.of.items() if of == name]
    others = [secret for (_, of), secret in rig.tokens.of.items() if of != name]
    near = [made for one in known for made in (one[:-1], one + "0", one.upper(), one + "%20", one + "%00", f"{one},")]
    guess = false.draw(
        st.sampled_from([*others, *near, "%ff%fe", "%ed%a0%80", "null", "0" * 60_000])
        | st.text(min_size=1, max_size=40).map(lambda text: quote(text, safe=""))
    )
    answer = await rig.post(f"webhooks/salesforce/{quote(name, safe='%')}/{guess}", body, [XML])
    assert (answer.status, answer.taken) == (404, [])


@examples(60)
@given(
    owner=st.sampled_from(OWNERS),
    orgs=st.lists(
        st.sampled_from((ORG, ORG[:15], OTHER_ORG, OTHER_ORG[:15], ORG.lower(), ORG[:17], ORG + "0", "", "é" * 15)),
        min_size=1,
        max_size=3,
    ),
    kind=st.sampled_from(("message", "keys", "relay")),
)
async def test_another_orgs_push_is_refused_at_a_true_address(
    rig: WebhookRig, owner: tuple[str, str, str], orgs: list[str], kind: str
) -> None:
    tenant, name, own = owner
    record = {"Id": "0016g000007WEfIAAW", "attributes": {"type": "Account"}}
    body, header = b"", JSON
    match kind:
        case "message":
            body, header = MESSAGES[0].replace(ORG.encode(), orgs[-1].encode()), XML
            orgs = orgs[-1:]
        case "keys":
            body = json.dumps([{"orgId": org, "records": [record]} for org in orgs]).encode()
        case "relay":
            orgs = [org for org in orgs if org.startswith("00D") and len(org) in (15, 18)] or [own]
            told = [{"source": f"aws.partner/salesforce.com/{org}/x", "detail": [record]} for org in orgs]
            body = json.dumps(told).encode()
    answer = await rig.post(rig.address(tenant, name), body, [header])

    if all(len(org) in (15, 18) and org[:15] == own[:15] for org in orgs):
        assert answer.status in (200, 202)
    else:
        assert (answer.status in (400, 403), answer.taken) == (True, [])


SOAP = b'<?xml version="1.0" encoding="UTF-8"?>'
ENTITIES = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
HOSTILE_XML = {
    "billion laughs": b'<!DOCTYPE l [<!ENTITY l0 "lol">' + ENTITIES + b"]><l>&l9;</l>",
    "quadratic": b'<!DOCTYPE l [<!ENTITY a "' + b"a" * 50_000 + b'">]><l>' + b"&a;" * 50_000 + b"</l>",
    "external entity": b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><l>&x;</l>',
    "external call": b'<!DOCTYPE l SYSTEM "http://127.0.0.1:9/x.dtd"><l/>',
    "parameter entity": b'<!DOCTYPE l [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x">%p;]><l/>',
    "a mere document type": b"<!DOCTYPE l><l/>",
    "inclusion": b'<l xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/></l>',
    "deep": b"<a>" * 100_000,
    "deep and closed": b"<a>" * 20_000 + b"</a>" * 20_000,
    "undefined entity": b"<l>&nope;</l>",
    "two roots": b"<a/><b/>",
    "nothing": b"<",
    "not to its end": MESSAGES[0][:-20],
    "a number of a character too far": b"<l>&#x110000;</l>",
    "unknown encoding": b'<?xml version="1.0" encoding="utf-7"?><l>+ADw-</l>',
    "encoding of a module": b'<?xml version="1.0" encoding="zlib_codec"?><l/>',
    "encoding that is a path": b'<?xml version="1.0" encoding="../../etc"?><l/>',
    "an encoding that it is not in": MESSAGES[0].replace(b"UTF-8", b"UTF-16"),
    "no notifications": b'<e xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body/></e>',
    "another namespace": MESSAGES[0].replace(b"http://soap.sforce.com/2005/09/outbound", b"urn:other"),
    "another envelope": MESSAGES[0].replace(b"http://schemas.xmlsoap.org/soap/envelope/", b"urn:other"),
    "no organization": MESSAGES[0].replace(ORG.encode(), b""),
    "a long attribute": b'<l a="' + b"a" * 100_000 + b'"/>',
    "many attributes": b"<l " + b" ".join(b'a%d=""' % n for n in range(20_000)) + b"/>",
    "the same attribute": b'<l a="" a=""/>',
}


@pytest.mark.parametrize("name", HOSTILE_XML)
async def test_hostile_xml_is_refused(rig: WebhookRig, name: str) -> None:
    body = HOSTILE_XML[name]
    for made in (body, SOAP + body) if body[:2] != b"<?" else (body,):
        answer = await rig.post(rig.address(), made, [XML])
        assert (answer.status, answer.body.decode(), answer.taken) == (400, FAULT, [])
        assert "root:" not in "".join(rig.heard.lines)


def _notifications(number: int, **instead: str) -> bytes:
    told = {"id": "04l5g{0:010d}", "record": "001{0:012d}", "type": "sf:Account", **instead}
    records = "".join(
        f"<Notification><Id>{told['id'].format(n)}</Id><sObject xsi:type={json.dumps(told['type'])}"
        f' xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>{told["record"].format(n)}</sf:Id></sObject>'
        "</Notification>"
        for n in range(number)
    )
    return (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><s:Body>'
        f'<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>{ORG}</OrganizationId>'
        f"<SessionId>SESSION-SECRET</SessionId>{records}</notifications></s:Body></s:Envelope>"
    ).encode()


async def test_messages_that_are_not_quite_one(rig: WebhookRig) -> None:
    assert (await rig.post(rig.address(), _notifications(100), [XML])).status == 200
    utf16 = _notifications(2, id="04l5h{0:010d}").decode().encode("utf-16")
    assert (await rig.post(rig.address(), utf16, [XML])).status == 200
    for body in (
        _notifications(101),
        _notifications(0),
        _notifications(1, id=""),
        _notifications(1, record=""),
        _notifications(1, id="SESSION-SECRET"),
        _notifications(1, record="<![CDATA[<x>]]>"),
        _notifications(1, record="../../../../x/{0}"),
        _notifications(1, type=""),
        _notifications(1, type="sf:A'; DROP TABLE x"),
        _notifications(1, type="sf:" + "A" * 200),
        _notifications(2).replace(b"SESSION-SECRET", b"SESSION-SECRET" * 40_000).replace(b"<Notification>", b"<x>", 1),
    ):
        answer = await rig.post(rig.address(), body, [XML])
        assert (answer.status, answer.taken) == (400, [])


async def test_sessions_go_nowhere(rig: WebhookRig) -> None:
    for body, kind in (
        (_notifications(3), XML),
        (
            json.dumps({"what": "no record", "session_id": "SESSION-SECRET", "in": [{"SessionId": "SESSION-SECRET"}]}),
            JSON,
        ),
        (json.dumps({"Id": "0016g000007WEfIAAW", "sessionId": "SESSION-SECRET"}), JSON),
    ):
        answer = await rig.post(rig.address(), body if isinstance(body, bytes) else body.encode(), [kind])
        assert (answer.status in (200, 202), len(answer.taken)) == (True, 1)


async def test_what_says_that_it_is_packed_is_never_unpacked(rig: WebhookRig) -> None:
    bomb = gzip.compress(b" " * 30_000_000 + b"{}")
    for body in (gzip.compress(MESSAGES[0]), bomb):
        for kind in (XML, JSON):
            for encoding in ("gzip", "deflate", "br"):
                answer = await rig.post(rig.address(), body, [kind, ("Content-Encoding", encoding)])
                assert (answer.status, answer.taken) == (400, [])


async def test_a_body_above_the_limit_is_refused_before_it_is_read_as_anything(rig: WebhookRig) -> None:
    body = b"<a>" * (4 * 1024 * 1024)
    assert (await rig.post(rig.address(), body, [XML])).status == 413
    assert (await rig.post("webhooks/salesforce/sf/guess", body, [XML])).status == 404


async def test_invented_connections_make_neither_the_store_nor_the_vault_busy(rig: WebhookRig) -> None:
    for number in range(200):
        assert (await rig.post(f"webhooks/salesforce/c{number}/s{number}", b"{}", [JSON])).status == 404
    assert (rig.registry.listings, rig.secrets.reads) == (1, [])


async def test_guesses_at_a_connections_secret_read_it_anew_no_more_than_every_few_seconds(rig: WebhookRig) -> None:
    fresh: list[str] = []
    whole = rig.secrets.get

    async def watched(tenant_id: str, reference: str, *, fresh_: list[str] = fresh, **how: bool) -> Any:
        if how.get("fresh"):
            fresh_.append(tenant_id)
        return await whole(tenant_id, reference, **how)

    rig.secrets.get = watched  # type: ignore[method-assign]  # counts the reads that pass by any cache
    for number in range(60):
        rig.seconds += 0.25
        assert (await rig.post(f"webhooks/salesforce/sf/guess{number}", b"{}", [JSON])).status == 404
    assert len(fresh) <= 2 * 4
