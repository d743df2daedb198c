"""What Salesforce posts: who is let in, what is taken from each body, and what is answered."""

import logging
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polled_org import CONNECTION, TENANT
from pushed_org import SAMPLES, SECRET, PushedOrg, as_of

from connections.secrets import environment_variable
from ingestion.salesforce.outbound_message import ACK, FAULT, NO_ACK
from ingestion.salesforce.webhook import WORKS_A_SECOND
from ingestion.turns import BURST_SECONDS
from ingestion.webhooks import PushAnswer
from messaging import codec
from messaging.bus import BusUnavailableError
from messaging.queues import SOURCE_WORK
from messaging.times import to_text
from shards.identity import salesforce_id

XML = "text/xml; charset=utf-8"
ORG_OF_SAMPLES = b"00D5g000000OPENEA4"
ACCOUNT, OTHER = "0016g000007WEfIAAW", "0016g000007WEfJAAW"


def message(org: PushedOrg, notifications: int = 1, *, object_type: str = "Opportunity", org_id: str = "") -> bytes:
    """An Outbound Message with so many notifications."""
    records = "".join(
        f"<Notification><Id>04l5g{number:010d}</Id>"
        f'<sObject xsi:type="sf:{object_type}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
        f"<sf:Id>006{number:012d}</sf:Id></sObject></Notification>"
        for number in range(notifications)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f"<OrganizationId>{org_id or org.org.org_id}</OrganizationId><SessionId>00D!SECRET-SESSION</SessionId>"
        f"{records}</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


def change(kind: str = "UPDATE", *ids: str, **header: Any) -> dict[str, Any]:
    """The payload of a change event."""
    given = {"entityName": "Account", "recordIds": list(ids), "changeType": kind, "transactionKey": "t-1"}
    return {"ChangeEventHeader": {**given, "sequenceNumber": 1, "commitTimestamp": 1777620337000, **header}}


async def waiting(org: PushedOrg) -> int:
    depth = (await org.bus.depths())[SOURCE_WORK]
    return depth.active + depth.scheduled


async def test_every_notification_is_queued_once_and_the_ack_is_exact(org: PushedOrg) -> None:
    answer = await org.post(message(org, 100), kind=XML)

    assert (answer.status, answer.body, answer.content_type) == (200, ACK, XML)
    [work] = await org.asked()
    assert (work.work, len(set(work.ids["Opportunity"]))) == ("read", 100)
    assert await org.post(message(org, 50), kind="") == PushAnswer(200, ACK, XML)
    assert await org.asked() == [], "what was acknowledged already, among fewer others and without a content type"
    org.use_door()
    assert (await org.post(message(org, 100), kind=XML)).body == ACK
    assert await org.asked() == [], "another process knows nothing of it, but the bus does"


async def test_a_secret_that_is_wrong_or_of_nobody_is_answered_alike(org: PushedOrg) -> None:
    wrong = await org.post(message(org), kind=XML, secret=SECRET + "x")
    nobody = await org.post(message(org), kind=XML, connection="nobody")
    empty = await org.post(message(org), kind=XML, secret="")

    assert wrong == nobody == empty
    assert wrong.status == 404
    await org.connect("Account", webhook_secrets=())
    org.use_door()
    assert (await org.post(message(org), kind=XML)).status == 404
    assert await waiting(org) == 0


async def test_two_secrets_live_while_one_is_replaced_and_none_needs_a_restart(org: PushedOrg) -> None:
    new = f"secret:{TENANT}/sf-hook-new"
    await org.connect("Opportunity", webhook_secrets=(f"secret:{TENANT}/sf-hook", new))
    org.use_door()
    assert (await org.post(message(org), kind=XML)).status == 200, "the second is not set yet, the first holds"
    org.environment[environment_variable(TENANT, "sf-hook-new")] = "new-one"

    assert (await org.post(message(org), kind=XML, secret="new-one")).status == 200
    assert (await org.post(message(org), kind=XML)).status == 200


async def test_guessing_reads_the_secrets_afresh_only_now_and_then(org: PushedOrg) -> None:
    fresh_reads = 0
    get = org.door.secrets.get

    async def counting(tenant_id: str, reference: str, *, fresh: bool = False) -> Any:
        nonlocal fresh_reads
        fresh_reads += fresh
        return await get(tenant_id, reference)

    org.door.secrets.get = counting  # type: ignore[method-assign]  # an instance of the store's own class
    for _ in range(20):
        assert (await org.post(b"{}", secret="guess")).status == 404
    assert fresh_reads == 1
    org.seconds += 6
    await org.post(b"{}", secret="guess")
    assert fresh_reads == 2


async def test_a_message_of_another_org_is_refused_and_of_an_unknown_one_put_off(org: PushedOrg) -> None:
    foreign = await org.post(message(org, org_id="00D000000000009"), kind=XML)
    assert (foreign.status, foreign.body) == (403, FAULT)
    assert (await org.post({"orgId": "00D000000000009", "Id": ACCOUNT})).status == 403
    relayed = {
        "source": "aws.partner/salesforce.com/00D000000000009/CH",
        "detail": {"payload": change("UPDATE", ACCOUNT)},
    }
    assert (await org.post(relayed)).status == 403
    assert (await org.post(message(org, org_id=org.org.org_id[:15]), kind=XML)).status == 200, "15 characters"

    await org.registry.save(msgspec.structs.replace(await org.connection(), connection_id="new", instance=""))
    org.use_door()
    new = await org.post(message(org), kind=XML, connection="new")
    assert (new.status, new.body) == (503, NO_ACK)


async def test_no_session_id_is_kept_or_logged(org: PushedOrg, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await org.post(message(org), kind=XML)
    await org.post({"hello": {"SessionId": "00D!SECRET-SESSION", "access_token": "00D!SECRET-SESSION", "say": "x"}})
    await org.post(message(org).replace(b"<Id>04l", b"<Id>bad"), kind=XML)

    told = repr([work.to_bytes() for work in await org.asked()]) + caplog.text
    assert "say" in told
    assert "SECRET-SESSION" not in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "prefix",
    [
        b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>',
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd">',
        b"<!DOCTYPE r>",
    ],
)
async def test_document_types_entities_and_external_references_are_refused(org: PushedOrg, prefix: bytes) -> None:
    head, _, rest = message(org).partition(b"?>")
    answer = await org.post(head + b"?>" + prefix + rest, kind=XML)
    assert (answer.status, answer.body) == (400, FAULT)
    assert await waiting(org) == 0


async def test_bulk_depth_and_more_than_a_hundred_notifications_are_refused(org: PushedOrg) -> None:
    body = message(org)
    for hostile in (
        message(org, 101),
        b"<a>" * 200_000,
        body.replace(b"<SessionId>", b"<x/>" * 130_000 + b"<SessionId>"),
        body.replace(b"</OrganizationId>", b"</Organisation>"),
        body[:-20],
        b"<",
        b"<notifications/>",
        body.decode().replace("UTF-8", "no-such-encoding").encode(),
        body.replace(b'"sf:Opportunity"', b'""'),
    ):
        answer = await org.post(hostile, kind=XML)
        assert (answer.status, answer.body) == (400, FAULT)
    assert (await org.post(b"<" * (10 * 1024 * 1024 + 1), kind=XML)).status == 413
    assert (await org.post(b"[" * 100_000)).status == 400
    assert (await org.post([{"Id": f"001{number:012d}"} for number in range(5_001)])).status == 413
    assert (await org.post(b'{"a":' * 50 + b"1" + b"}" * 50)).status == 413
    assert (await org.post(b"Id=001", kind="application/x-www-form-urlencoded")).status == 415
    assert await waiting(org) == 0


async def test_nothing_is_acknowledged_that_the_bus_did_not_take(
    org: PushedOrg, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise BusUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(org.bus, "send", away)
        answer = await org.post(message(org, 3), kind=XML)
        assert (answer.status, answer.body, "Retry-After" in answer.headers) == (503, NO_ACK, True)
        assert (await org.post({"Id": ACCOUNT})).status == 503

    assert (await org.post(message(org, 3), kind=XML)).body == ACK
    assert [len(work.ids["Opportunity"]) for work in await org.asked()] == [3]


async def test_what_an_org_tells_above_the_rate_waits_its_turn_and_nothing_is_dropped(org: PushedOrg) -> None:
    most = int(WORKS_A_SECOND * BURST_SECONDS)
    ids = [salesforce_id(f"001{number:012d}") for number in range(most + 100)]
    told = [change("UPDATE", one, transactionKey=one) for one in ids]
    assert (await org.post(told)).body == f'{{"taken":{len(ids)},"ignored":{{}}}}'
    assert (await org.post({"Id": ACCOUNT})).status == 202
    at_once = await org.asked()
    assert most <= len(at_once) <= most + WORKS_A_SECOND
    org.pass_time(timedelta(seconds=1 + 100 / WORKS_A_SECOND))
    later = await org.asked()
    assert sorted(one for work in (*at_once, *later) for one in work.ids["Account"]) == sorted([*ids, ACCOUNT])
    org.seconds += 60
    await org.post(message(org), kind=XML)
    assert len(await org.asked()) == 1, "after a quiet time it is taken at once"


async def test_callouts_of_any_shape_become_ids_to_read(org: PushedOrg) -> None:
    shapes: list[Any] = [
        {"Id": ACCOUNT[:15]},
        [{"attributes": {"type": "Account"}, "Id": ACCOUNT, "Name": "A", "CloseDate": "12/31/26"}],
        {"records": [{"id": ACCOUNT}]},
        {"current": {"account": {"Id": ACCOUNT, "Owner": {"Id": "00546000000ZJrdAAG"}}}, "previous": {"x": {}}},
        {"recordIds": [ACCOUNT], "sObjectType": "Account"},
        [ACCOUNT],
        {"flow": {"interview": {"account": [{"recordId": ACCOUNT}]}}},
    ]
    for shape in shapes:
        answer = await org.post(shape)
        assert (answer.status, answer.body) == (202, '{"taken":1,"ignored":{}}'), shape
        [work] = await org.taken()
        assert work.ids == {"Account": [ACCOUNT]}, shape


async def test_callouts_about_one_record_within_a_bucket_are_read_once_when_it_ends(org: PushedOrg) -> None:
    for _ in range(5):
        assert (await org.post({"Id": ACCOUNT})).status == 202
    assert len(await org.taken()) <= 2, "a bucket may have ended in between"
    await org.post({"Id": ACCOUNT})
    assert len(await org.taken()) == 1, "another bucket, another read"


async def test_objects_that_the_connection_does_not_read_are_ignored_and_named(org: PushedOrg) -> None:
    answer = await org.post([{"Id": "00646000003IyLaAAK"}, {"attributes": {"type": "Case"}, "Id": "500000000000001"}])
    assert answer.body == '{"taken":1,"ignored":{"Case":1}}'
    assert (await org.post(message(org, object_type="Task"), kind=XML)).body == ACK
    assert [work.ids for work in await org.taken()] == [{"Opportunity": ["00646000003IyLaAAK"]}]


@pytest.mark.parametrize("wrap", ["plain", "event relay", "event bridge payload", "cometd", "pub/sub", "list"])
async def test_change_events_in_every_wrapping(org: PushedOrg, wrap: str) -> None:
    payload = change("UPDATE", ACCOUNT, OTHER)
    body: Any = {
        "plain": payload,
        "event relay": {"version": "0", "id": "9d1c", "detail-type": "AccountChangeEvent", "detail": payload},
        "event bridge payload": {"detail-type": "AccountChangeEvent", "detail": {"payload": payload, "schema": "s"}},
        "cometd": {"data": {"schema": "s", "payload": payload, "event": {"replayId": 7}}, "channel": "/data/x"},
        "pub/sub": {"id": "9b77", "schemaId": "a", "replayId": 1, "payload": payload},
        "list": [payload],
    }[wrap]
    for _ in range(2):
        assert (await org.post(body)).body == '{"taken":2,"ignored":{}}'
    [work] = await org.asked()
    assert work.ids == {"Account": [ACCOUNT, OTHER]}
    assert "t-1:1:Account" in str(work.event_id)


async def test_events_of_one_transaction_that_a_client_passes_on_without_their_numbers_are_all_read(
    org: PushedOrg,
) -> None:
    told = [change("UPDATE", ACCOUNT), change("GAP_UPDATE", OTHER), change("GAP_OVERFLOW", "000000000000000AAA")]
    for one in told:
        del one["ChangeEventHeader"]["sequenceNumber"]
    for body in (told, told[0], told[1]):
        await org.post(body)
    works = await org.asked()
    assert sorted(one for work in works for one in work.ids["Account"]) == [ACCOUNT, OTHER]
    assert [work.push for work in works if work.push] == [{"everythingSince": "2026-05-01T07:25:37.000Z"}]


@pytest.mark.parametrize("stamp", ["1777620337000", 1777620337000.0])
async def test_the_time_of_a_commit_is_taken_as_clients_write_long_numbers(org: PushedOrg, stamp: object) -> None:
    await org.post(change("GAP_OVERFLOW", "000000000000000AAA", commitTimestamp=stamp))
    await org.post(change("GAP_OVERFLOW", commitTimestamp=stamp, transactionKey="names no id at all"))
    told = [work.push for work in await org.asked()]
    assert told == [{"everythingSince": "2026-05-01T07:25:37.000Z"}] * 2


async def test_a_time_of_a_commit_that_is_none_stands_for_now(org: PushedOrg) -> None:
    before = to_text(org.clock())
    stamps: list[Any] = ["soon", "1E999999999", "nan", None, [1], {}, "9" * 400]
    for stamp in stamps:
        await org.post(change("GAP_OVERFLOW", "000000000000000AAA", commitTimestamp=stamp, transactionKey=str(stamp)))
    huge = codec.encode(change("GAP_OVERFLOW", "000000000000000AAA", commitTimestamp=0, transactionKey="huge"))
    await org.post(huge.replace(b'"commitTimestamp":0', b'"commitTimestamp":1E+999999999'))
    works = await org.asked()
    assert len(works) == 8
    assert all(before <= str((work.push or {})["everythingSince"]) <= to_text(org.clock()) for work in works)


async def test_malformed_json_and_bodies_without_records(org: PushedOrg) -> None:
    for body in (b"", b"{", b"\xff\xfe", b"null", b"5", b'"x"', b"{}", b"[]", b'{"Id":"nonsense"}', b'{"a":NaN}'):
        answer = await org.post(body)
        assert (answer.status, answer.content_type) == (400, "application/problem+json"), body
    assert await waiting(org) == 0


async def test_json_that_names_no_record_is_kept_for_people(org: PushedOrg) -> None:
    answer = await org.post({"EventUuid": "e-1", "ReplayId": "7", "Ship_Date__c": "2026-01-01"})
    assert answer.status == 202
    [outcome] = await org.work()
    assert getattr(outcome, "reason", "") == "push-unknown"


text = st.one_of(st.binary(max_size=200), st.sampled_from([b"<", b"{", b"[", b"<?xml", b"\xef\xbb\xbf<a/>"]))
KEYS = (
    *(
        "Id",
        "ids",
        "ChangeEventHeader",
        "recordIds",
        "changeType",
        "entityName",
        "commitTimestamp",
        "detail",
        "payload",
    ),
    *("data", "current", "attributes", "type", "source", "orgId", "object"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([ACCOUNT, "001*", "00D", "006"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(body=text, content=json_values, kind=st.sampled_from(["", XML, "application/json", "text/plain", "é"]))
async def test_whatever_is_posted_is_never_an_error_of_ours(
    org: PushedOrg, body: bytes, content: Any, kind: str
) -> None:
    known = {200, 202, 400, 403, 404, 413, 415}
    assert (await org.post(body, kind=kind)).status in known
    assert (await org.post(content)).status in known
    xml = message(org)
    at = len(body) * 7 % len(xml)
    assert (await org.post(xml[:at] + body + xml[at:], kind=kind)).status in known


@pytest.mark.parametrize(
    ("sample", "status", "ids"),
    [
        ("outbound/derived_obm_account_1.xml", 200, {"Account": 1}),
        ("outbound/derived_obm_opportunity_3.xml", 200, {"Opportunity": 3}),
        ("outbound/obm_custom_object_nil_session.xml", 200, {"DiscountRule__c": 1}),
        ("outbound/obm_contact_2_notifications.xml", 200, {"Contact": 2}),
        ("outbound/ack_response.xml", 400, {}),  # an answer, not a message
        ("outbound/outbound_message.wsdl", 400, {}),  # describes messages, is none
        ("auth/derived_soap_login_success.xml", 400, {}),
        ("callout/SFDCCallbackSampleOpportunityCreated.json", 202, {"Opportunity": 1}),
        ("callout/SFDCCallbackSampleOpportunityUpdated.json", 202, {"Opportunity": 1}),
        ("cdc/derived_account_create.json", 202, {"Account": 1}),
        ("cdc/derived_account_update_and_null.json", 202, {"Account": 1}),
        ("cdc/derived_account_delete.json", 202, {"Account": 1}),
        ("cdc/derived_account_overflow.json", 202, {"Account": 0}),
        ("cdc/derived_opportunity_gap_update.json", 202, {"Opportunity": 1}),
        ("cdc/pubsub_account_update_decoded.json", 202, {"Account": 1}),
    ],
)
async def test_each_recorded_or_documented_payload(
    org: PushedOrg, sample: str, status: int, ids: dict[str, int]
) -> None:
    await org.connect("Account", "Contact", "Opportunity", "DiscountRule__c")
    org.use_door()
    body = (SAMPLES / sample).read_bytes()
    for theirs in (ORG_OF_SAMPLES, b"00DD0000000muCUMAY", b"012345678901234"):
        body = as_of(org.org.org_id, body, theirs)

    answer = await org.post(body, kind=XML if sample.endswith(("xml", "wsdl")) else "application/json")

    assert answer.status == status
    asked: dict[str, int] = {}
    for work in await org.taken():
        for object_type, named in work.ids.items():
            asked[object_type] = asked.get(object_type, 0) + len(named)
    assert asked == ids
    if sample == "outbound/obm_contact_2_notifications.xml":
        unchanged = (SAMPLES / sample).read_bytes()
        assert (await org.post(unchanged, kind=XML)).status == 403, "its org id was taken out: no org has such an id"


async def test_the_connection_of_the_address_gets_the_work(org: PushedOrg) -> None:
    await org.post({"Id": ACCOUNT})
    [work] = await org.taken()
    assert (work.tenant_id, work.connection_id) == (TENANT, CONNECTION)
