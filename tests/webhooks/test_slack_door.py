"""What the Slack webhook makes of hostile requests: signed ones that make no sense, and all that is not signed."""

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hostile_json import RAW, cut_and_patched, hostile
from hypothesis import given
from hypothesis import strategies as st
from webhook_rig import ACME, GLOBEX, GRID, GRID_TEAM, OTHER_TEAM, TEAM, WebhookRig, examples, signature

PATH = "webhooks/slack"
FOLDER = Path(__file__).resolve().parents[1] / "samples" / "slack"


def _samples() -> list[dict[str, Any]]:
    """The recorded deliveries, of the team of a connection."""
    found = []
    for file in sorted([*FOLDER.glob("events/*.json"), *FOLDER.glob("events_shape/*.json")]):
        content = json.loads(file.read_text())
        if "event" not in content and content.get("type") not in ("url_verification", "app_rate_limited"):
            content = {"type": "event_callback", "event_id": "Ev01", "event": content}
        if content["type"] != "url_verification":
            content["team_id"] = TEAM
        found.append({**content, "token": "VERIFICATION-TOKEN"})
    assert len(found) > 15
    return found


SAMPLES = _samples()
SIGNERS = ((ACME, "chat"), (GLOBEX, "chat"), (GLOBEX, "same-team"), (ACME, "grid"))
NAMES = st.sampled_from(
    (
        "type",
        "team_id",
        "context_team_id",
        "enterprise_id",
        "authorizations",
        "event",
        "event_id",
        "challenge",
        "channel",
        "ts",
        "message",
        "previous_message",
        "blocks",
        "user",
        "id",
        "minute_rate_limited",
        "is_ext_shared",
        "url_verification",
        "event_callback",
        "app_rate_limited",
        "app_uninstalled",
        "message",
        "tokens_revoked",
        TEAM,
        OTHER_TEAM,
        GRID_TEAM,
        GRID,
    )
)
BODIES = st.sampled_from(SAMPLES).flatmap(lambda sample: hostile(sample, NAMES))
PIECES = st.binary(max_size=40) | st.sampled_from(RAW)
CUT = cut_and_patched(BODIES.map(lambda body: body.replace(b"VERIFICATION-TOKEN", b"")), PIECES)


@examples(120)
@given(body=BODIES | CUT | PIECES, signer=st.sampled_from(SIGNERS))
async def test_whatever_is_signed_is_taken_by_its_signers_connections_alone(
    rig: WebhookRig, body: bytes, signer: tuple[str, str]
) -> None:
    answer = await rig.post(PATH, body, rig.slack(body, *signer))

    assert answer.status in (200, 400, 401)
    assert {(work.tenant_id, work.connection_id) for work in answer.taken} <= {signer}


@examples(80)
@given(
    body=BODIES | PIECES,
    patched=st.data(),
    signer=st.sampled_from(SIGNERS),
    change=st.sampled_from(("body", "signature", "timestamp", "moment", "secret", "header")),
)
async def test_nothing_but_the_very_bytes_that_were_signed_is_believed(
    rig: WebhookRig, body: bytes, patched: st.DataObject, signer: tuple[str, str], change: str
) -> None:
    headers = dict(rig.slack(body, *signer))
    sent, timestamp = body, headers["X-Slack-Request-Timestamp"]
    match change:
        case "body":
            sent = patched.draw(cut_and_patched(st.just(body), PIECES).filter(lambda other: other != body))
        case "signature":
            true = headers["X-Slack-Signature"]
            others = st.text(max_size=70) | st.sampled_from(
                (
                    true.upper(),
                    true[3:],
                    true[:-1],
                    true + "0",
                    true.replace("v0", "v1"),
                    f"{true},{true}",
                    f"{true}\n",
                    "v0=",
                    "v0=" + "0" * 64,
                    f" {true}",
                    true.replace("v0=", "v0=٠"),
                    "v0=" + "٠" * 64,
                )
            )
            headers["X-Slack-Signature"] = patched.draw(others.filter(lambda other: other != true))
        case "timestamp":
            others = st.text(max_size=20) | st.sampled_from(
                (
                    f" {timestamp}",
                    f"+{timestamp}",
                    f"{timestamp}.0",
                    f"0{timestamp}",
                    f"{timestamp},{timestamp}",
                    "",
                    "-1",
                    "9" * 400,
                    "0",
                    "1e9",
                    "١" * 10,
                    f"{timestamp}\n",
                    str(int(timestamp) + 1),
                )
            )
            headers["X-Slack-Request-Timestamp"] = patched.draw(others.filter(lambda other: other != timestamp))
        case "moment":
            off = patched.draw(st.sampled_from((-(10**9), -86_400, -302, 302, 3_600, 10**10)))
            headers = dict(rig.slack(body, *signer, off=off))
        case "secret":
            secret = patched.draw(st.text(max_size=40) | st.sampled_from(("", "x", *rig.environment)))
            headers["X-Slack-Signature"] = signature(secret, timestamp, body)
        case "header":
            del headers[patched.draw(st.sampled_from(("X-Slack-Signature", "X-Slack-Request-Timestamp")))]

    assert (await rig.post(PATH, sent, list(headers.items()))).status == 401


@examples(30)
@given(
    body=BODIES,
    more=st.lists(
        st.tuples(
            st.sampled_from(
                (
                    "x-slack-signature",
                    "x-slack-request-timestamp",
                    "content-type",
                    "content-encoding",
                    "x-tenant-id",
                    "content-length",
                    "x-slack-retry-num",
                    "transfer-encoding",
                    "authorization",
                    "traceparent",
                )
            ),
            st.binary(max_size=60)
            | st.sampled_from((b"A" * 60_000, b"gzip", b"9" * 400, b"-1", b"\xff\xfe", b"v0=", b"NaN")),
        ),
        max_size=6,
    ),
    signed=st.booleans(),
)
async def test_headers_of_any_kind_do_no_harm(
    rig: WebhookRig, body: bytes, more: list[tuple[str, bytes]], signed: bool
) -> None:
    headers: list[tuple[str | bytes, str | bytes]] = [*rig.slack(body), *more] if signed else list(more)
    answer = await rig.post(PATH, body, headers)

    names = {name for name, _ in more}
    if not signed or names & {"x-slack-signature", "x-slack-request-timestamp"}:
        # The host joins the values of one name: what was added is part of what was signed, or there is nothing.
        assert answer.status in (401, 413)
    assert {(work.tenant_id, work.connection_id) for work in answer.taken} <= {(ACME, "chat")}


async def test_a_secret_opens_its_own_tenants_door_only(rig: WebhookRig) -> None:
    """GLOBEX has a connection to the same team, and ACME's app signs: the team named in the body decides nothing."""
    told = {"type": "event_callback", "event_id": "Ev1", "event": {"type": "message", "channel": "C1", "ts": "1.0"}}
    for signer, named, taken in (
        ((ACME, "chat"), TEAM, {(ACME, "chat")}),
        ((GLOBEX, "same-team"), TEAM, {(GLOBEX, "same-team")}),
        ((GLOBEX, "chat"), TEAM, None),
        ((ACME, "chat"), OTHER_TEAM, None),
        ((ACME, "chat"), GRID_TEAM, None),
        ((ACME, "chat"), "T0NOBODY0", None),
        ((ACME, "grid"), GRID_TEAM, set()),  # the team's own organisation is not named
    ):
        body = json.dumps({**told, "team_id": named, "tenantId": GLOBEX}).encode()
        answer = await rig.post(PATH, body, rig.slack(body, *signer))
        assert answer.status == (401 if taken is None else 200), (signer, named)
        assert {(work.tenant_id, work.connection_id) for work in answer.taken} == (taken or set())


async def test_a_delivery_is_believed_for_five_minutes_and_taken_once(rig: WebhookRig) -> None:
    body = json.dumps(SAMPLES[0]).encode()
    headers = rig.slack(body)
    for _ in range(3):
        assert (await rig.post(PATH, body, headers)).status == 200
    assert (await rig.bus.depths())["source-work"].active == 1
    rig.clock.advance(timedelta(minutes=6))
    assert (await rig.post(PATH, body, headers)).status == 401


async def test_what_says_that_it_is_packed_is_never_unpacked(rig: WebhookRig) -> None:
    told = json.dumps(SAMPLES[0]).encode()
    bomb = gzip.compress(b'{"team_id":"' + TEAM.encode() + b'","a":"' + b"0" * 30_000_000 + b'"}')
    for body in (gzip.compress(told), bomb):
        for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
            headers = [*rig.slack(body), ("Content-Encoding", encoding)]
            answer = await rig.post(PATH, body, headers)
            assert (answer.status, answer.taken) == (400 if len(body) < 8192 else 401, [])


async def test_a_body_above_the_limit_is_refused_before_it_is_read_as_anything(rig: WebhookRig) -> None:
    body = b'{"team_id":"' + TEAM.encode() + b'","a":' + b"[" * (1024 * 1024)
    reads = len(rig.secrets.reads)
    answer = await rig.post(PATH, body, rig.slack(body))
    assert answer.status == 413
    assert json.loads(answer.body)["type"].endswith("body-too-large")
    assert (len(rig.secrets.reads), rig.registry.listings) == (reads, 0)


async def test_invented_teams_make_neither_the_store_nor_the_vault_busy(rig: WebhookRig) -> None:
    for number in range(200):
        body = json.dumps({"team_id": f"T{number:08}", "authorizations": [{"team_id": f"T9{number:07}"}]}).encode()
        headers = {**dict(rig.slack(b"")), "X-Slack-Signature": "v0=" + "0" * 64}
        assert (await rig.post(PATH, body, list(headers.items()))).status == 401
    assert (rig.registry.listings, rig.secrets.reads) == (1, [])


async def test_guesses_at_a_team_that_exists_or_at_none_make_no_read_each(rig: WebhookRig) -> None:
    for number in range(60):
        rig.seconds += 0.25
        for body in (
            json.dumps({"team_id": TEAM, "n": number}).encode(),
            json.dumps({"type": "url_verification", "challenge": str(number)}).encode(),
            json.dumps({"enterprise_id": GRID, "n": number}).encode(),
        ):
            headers = {**dict(rig.slack(body)), "X-Slack-Signature": "v0=" + "0" * 64}
            assert (await rig.post(PATH, body, list(headers.items()))).status == 401
    # 15 seconds: the first read of each of four secrets, and a fresh one of each named secret every five.
    by_secret = {key: rig.secrets.reads.count(key) for key in set(rig.secrets.reads)}
    assert max(by_secret.values()) <= 4
    assert by_secret[GLOBEX, f"secret:{GLOBEX}/chat"] == 1, "nobody named its team"
    assert rig.registry.listings <= 4


@pytest.mark.parametrize("padding", [0, 140_000])
async def test_nesting_is_refused_or_taken_but_never_in_between(rig: WebhookRig, padding: int) -> None:
    """What can be read but not written again, for the want of the stack, would fail after it was believed."""
    for depth in (30, 98, 99, 100, 101, *range(780, 1000, 4), 100_000):
        told = {**SAMPLES[0], "event_id": f"Ev{depth}", "pad": "p" * padding, "deep": "@"}
        body = json.dumps(told).encode().replace(b'"@"', b"[" * depth + b"]" * depth)
        answer = await rig.post(PATH, body, rig.slack(body))
        assert (answer.status == 200) is (depth < 100), depth
