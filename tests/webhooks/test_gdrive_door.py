"""What the Drive webhook makes of hostile notifications: all is in their headers, and the token is the only proof."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from webhook_rig import ACME, CHANNEL, GLOBEX, WebhookRig, examples

from connections.gdrive_connection import DriveConnection
from connections.secrets import Secret
from ingestion.gdrive.channels import channel_token

PATH = "webhooks/gdrive"
FOLDER = Path(__file__).resolve().parents[1] / "samples" / "gdrive"
ID, TOKEN = "X-Goog-Channel-ID", "X-Goog-Channel-Token"
TEXTS = st.text(max_size=80) | st.sampled_from(
    ("", " ", "\x00", "A" * 64, "A" * 65, "A" * 60_000, ".", "..", "=" * 64, "é" * 30, CHANNEL, f"{CHANNEL}\n")
)


@examples(150)
@given(
    owner=st.sampled_from((ACME, GLOBEX)),
    change=st.sampled_from(("channel", "token", "cut", "longer", "case", "twice", "other channel", "name", "missing")),
    text=TEXTS,
    at=st.integers(0, 90),
    body=st.binary(max_size=100),
)
async def test_a_notification_is_believed_with_its_own_channels_token_alone(
    rig: WebhookRig, *, owner: str, change: str, text: str, at: int, body: bytes
) -> None:
    true = dict(rig.drive(owner))
    token, headers = true[TOKEN], dict(true)
    match change:
        case "channel":
            headers[ID] = text
        case "token":
            headers[TOKEN] = text
        case "cut":
            headers[TOKEN] = token[: at % len(token)]
        case "longer":
            headers[TOKEN] = token + (text or "=")
        case "case":
            headers[TOKEN] = token.swapcase()
        case "twice":
            headers[TOKEN] = f"{token},{token}"
        case "other channel":
            headers[ID] = CHANNEL[:-1] + "7"
        case "name":
            headers[TOKEN] = f"{text}.{token.partition('.')[2]}"
        case "missing":
            del headers[(ID, TOKEN)[at % 2]]

    answer = await rig.post(PATH, body, list(headers.items()))

    if headers == true:
        assert answer.status == 200
    else:
        assert (answer.status, answer.taken) == (404, [])


@examples(60)
@given(
    more=st.lists(
        st.tuples(
            st.sampled_from(("x-goog-resource-state", "x-goog-message-number", "x-goog-changed", "x-goog-resource-id"))
            | st.sampled_from(("content-type", "content-encoding", "x-goog-channel-expiration", "x-tenant-id")),
            st.binary(max_size=40) | st.sampled_from((b"9" * 400, b"-1", b"NaN", b"\xff", b"A" * 60_000)),
        ),
        max_size=6,
    ),
    body=st.binary(max_size=200),
    owner=st.sampled_from((ACME, GLOBEX)),
)
async def test_nothing_else_of_a_notification_matters(
    rig: WebhookRig, more: list[tuple[str, bytes]], body: bytes, owner: str
) -> None:
    answer = await rig.post(PATH, body, [*rig.drive(owner), *more])
    assert answer.status == 200
    assert [(work.tenant_id, work.connection_id, work.work) for work in answer.taken] == [(owner, "drive", "poll")]


async def test_of_two_connections_of_one_name_the_token_tells_whose_it_is(rig: WebhookRig) -> None:
    for owner in (ACME, GLOBEX):
        [work] = (await rig.post(PATH, b"", rig.drive(owner))).taken
        assert work.tenant_id == owner
    connection = rig.connections[ACME, "drive"]
    assert isinstance(connection, DriveConnection)
    for other in (rig.tokens.of[GLOBEX, "drive"], rig.tokens.of[ACME, "chat"], "", "secret"):
        forged = channel_token(connection, CHANNEL, Secret(other))
        answer = await rig.post(PATH, b"", [(ID, CHANNEL), (TOKEN, forged), ("X-Goog-Resource-State", "change")])
        assert (answer.status, answer.taken) == (404, [])


async def test_the_documented_notification_is_refused_without_a_token_of_ours(rig: WebhookRig) -> None:
    told = json.loads((FOLDER / "push" / "derived_watch_and_notification.json").read_text())
    headers = _headers_in(told)
    assert ID.lower() in {name.lower() for name in headers}
    assert (await rig.post(PATH, b"", list(headers.items()))).status == 404


def _headers_in(told: object) -> dict[str, str]:
    """The X-Goog headers, wherever they stand."""
    found: dict[str, str] = {}
    for key, value in told.items() if isinstance(told, dict) else ():
        if key.lower().startswith("x-goog-"):
            found[key] = str(value)
        else:
            found |= _headers_in(value)
    return found


async def test_a_large_body_is_refused_whoever_sends_it(rig: WebhookRig) -> None:
    for headers in (rig.drive(), []):
        answer = await rig.post(PATH, b"0" * (1024 * 1024), headers)
        assert (answer.status, answer.taken) == (413, [])
    assert rig.secrets.reads == []


async def test_invented_channels_make_neither_the_store_nor_the_vault_busy(rig: WebhookRig) -> None:
    named = dict(rig.drive())[TOKEN].partition(".")[0]
    for number in range(200):
        token = f"{named[:-2]}{number % 100:02}.{number:064x}"
        assert (await rig.post(PATH, b"", [(ID, CHANNEL), (TOKEN, token)])).status == 404
    assert (rig.registry.listings, rig.secrets.reads) == (1, [])
