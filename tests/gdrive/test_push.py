"""Push channels and their notifications."""

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from drive_rig import ADMIN, ANN, DriveRig
from hypothesis import given, settings
from hypothesis import strategies as st

from connections.directory import ConnectionDirectory
from connections.gdrive_connection import DriveConnection, GoogleAuth
from connections.secrets import EnvironmentSecrets, Secret
from ingestion.gdrive import webhook
from ingestion.gdrive.channels import channel_token, connection_named_in
from ingestion.webhooks import PushAnswer, PushRequest, WebhookPorts
from messaging import codec
from messaging.bus import BusUnavailableError
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from messaging.times import from_text

ADDRESS = "https://shardline.acme.example/api/webhooks/gdrive"
SECRET = "a secret of channels"


def pushed(rig: DriveRig) -> None:
    secret = rig.keep("channels", SECRET)
    rig.made = msgspec.structs.replace(rig.made, push_address=ADDRESS, channel_secret=secret)


def ports(rig: DriveRig) -> WebhookPorts:
    directory = ConnectionDirectory(rig.services.connections, monotonic=rig.now.timestamp)
    return WebhookPorts(rig.services.bus, directory, rig.services.secrets, rig.clock)


def headers(channel_id: str, token: str, state: str = "change") -> dict[str, str]:
    return {
        "x-goog-channel-id": channel_id,
        "x-goog-channel-token": token,
        "x-goog-resource-id": "7axk6UsP7NfD81YqDzjDL1t7Gqs",
        "x-goog-resource-state": state,
        "x-goog-message-number": "2",
    }


async def receive(rig: DriveRig, found: dict[str, str], body: bytes = b"") -> PushAnswer:
    return await webhook.receive(PushRequest(found, body), ports(rig))


async def watched(rig: DriveRig) -> dict[str, str]:
    """The headers of a notification on the user's log."""
    pushed(rig)
    await rig.begin()
    await rig.ask("watch")
    await rig.settle()
    [channel] = [one for one in rig.simulator.api.channels.open_channels.values() if one.log == ADMIN]
    assert channel.token is not None
    return headers(channel.channel_id, channel.token)


async def test_a_notification_is_a_poll_now_and_a_burst_is_one(rig: DriveRig) -> None:
    found = await watched(rig)
    note = rig.drive.create_file("note.txt", "Text.")
    for _ in range(5):
        assert await receive(rig, found) == PushAnswer(200)
    assert (await rig.bus.depths())[SOURCE_WORK].scheduled == 1
    await rig.settle(timedelta(seconds=5))
    assert await rig.path(note) == "/note.txt"


async def test_a_change_behind_the_poll_of_its_burst_has_a_poll_of_its_own(rig: DriveRig) -> None:
    found = await watched(rig)
    rig.drive.create_file("one.txt", "Text.")
    await receive(rig, found)
    await rig.settle(timedelta(seconds=5))
    two = rig.drive.create_file("two.txt", "Text.")
    await receive(rig, found)
    await rig.settle(timedelta(seconds=5))
    assert await rig.path(two) == "/two.txt"


async def test_a_sync_message_asks_for_nothing(rig: DriveRig) -> None:
    found = await watched(rig)
    assert await receive(rig, {**found, "x-goog-resource-state": "sync"}) == PushAnswer(200)
    depth = (await rig.bus.depths())[SOURCE_WORK]
    assert (depth.active, depth.scheduled) == (0, 0)


async def test_the_sample_notification_is_refused_for_its_missing_token(rig: DriveRig) -> None:
    sample = codec.decode(
        (Path(__file__).parents[1] / "samples/gdrive/push/derived_watch_and_notification.json").read_bytes()
    )
    await watched(rig)
    answer = await receive(rig, sample["sync_message_headers"])
    assert answer.status == 404
    channel = sample["watch_response"]
    assert {"id", "resourceId", "expiration"} <= channel.keys()


@pytest.mark.parametrize("part", ["x-goog-channel-id", "x-goog-channel-token"])
async def test_a_forged_channel_is_unknown(rig: DriveRig, part: str) -> None:
    found = await watched(rig)
    other = {**found, part: found[part][:-1] + ("0" if found[part][-1] != "0" else "1")}
    assert (await receive(rig, other)).status == 404
    assert (await receive(rig, {**found, part: ""})).status == 404
    assert (await rig.bus.depths())[SOURCE_WORK].scheduled == 0


async def test_another_tenants_connection_of_one_name_takes_nothing(rig: DriveRig) -> None:
    found = await watched(rig)
    connection = await rig.connection()
    other = msgspec.structs.replace(connection, tenant_id="beta", channel_secret="secret:beta/channels")
    made = channel_token(other, found["x-goog-channel-id"], Secret(SECRET))
    assert made != found["x-goog-channel-token"], "one secret in two tenants makes two tokens"


async def test_what_can_t_be_queued_is_sent_again_by_drive(rig: DriveRig, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await watched(rig)

    async def away(*args: object, **options: object) -> None:
        raise BusUnavailableError("away")

    monkeypatch.setattr(rig.services.bus, "send", away)
    assert (await receive(rig, found)).status == 503


class OneConnection:
    """A directory that knows one connection by every name."""

    def __init__(self, connection: DriveConnection) -> None:
        self.connection = connection

    async def named(self, system: str, connection_id: str) -> list[DriveConnection]:
        return [self.connection]


NAMED = "ZHJpdmU"
"""``drive`` as tokens have it."""
texts = st.text(st.characters(codec=None), max_size=80)
tokens = texts | texts.map(lambda text: f"{NAMED}.{text}") | st.just("\udcff.\udcff") | st.just("." * 10_000)


@given(channel=texts | st.sampled_from(["a", "A_-/=+", "x" * 10_000]), token=tokens, state=texts, body=st.binary())
@settings(max_examples=50, deadline=None)
async def test_hostile_headers_are_never_an_error_of_ours(channel: str, token: str, state: str, body: bytes) -> None:
    connection = DriveConnection(
        connection_id="drive",
        tenant_id="acme",
        name="Drive",
        auth=GoogleAuth(service_account="secret:acme/key"),
        push_address=ADDRESS,
        channel_secret="secret:acme/channels",
    )
    secrets = EnvironmentSecrets({"SHARDLINE_SECRET_ACME__CHANNELS": SECRET})
    deaf: Any = None  # whoever gets as far as the bus fails
    made = WebhookPorts(deaf, cast(ConnectionDirectory, OneConnection(connection)), secrets)
    answer = await webhook.receive(PushRequest(headers(channel, token, state), body), made)
    assert answer.status == 404


@given(token=st.text(max_size=300))
@settings(max_examples=50)
def test_any_token_is_read_without_an_error(token: str) -> None:
    named = connection_named_in(token)
    assert named is None or isinstance(named, str)


async def test_channels_are_renewed_before_they_end_the_new_one_first(rig: DriveRig) -> None:
    await watched(rig)
    channels = rig.simulator.api.channels
    [first] = channels.open_channels
    ends = channels.open_channels[first].ends
    rig.wait(timedelta(days=5, hours=1).total_seconds())
    rig.forget_calls()
    await rig.tick()
    await rig.settle()
    [second] = channels.open_channels
    assert second != first
    assert channels.open_channels[second].ends > ends
    order = [call.path for call in rig.calls() if call.path.endswith(("/watch", "/stop"))]
    assert order == ["/drive/v3/changes/watch", "/drive/v3/channels/stop"]
    state = (await rig.states())["push channels"]["metadata"]
    assert from_text(state["channels"][ADMIN]["expiresAt"]) == channels.open_channels[second].ends
    await rig.source.stop(await rig.connection())
    assert not channels.open_channels


async def test_channels_of_a_secret_that_was_changed_are_replaced(rig: DriveRig) -> None:
    await watched(rig)
    rig.keep("channels", "another secret of channels")
    rig.wait(60)
    await rig.ask("watch")
    await rig.settle()
    [channel] = rig.simulator.api.channels.open_channels.values()
    assert channel.token is not None
    assert (await receive(rig, headers(channel.channel_id, channel.token))).status == 200


async def test_a_shared_drive_is_watched_as_the_next_member_while_the_first_can_t_log_in(rig: DriveRig) -> None:
    pushed(rig)
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ANN, ADMIN))
    rig.made = msgspec.structs.replace(rig.made, auth=auth)
    drive_id = rig.drive.create_drive("Deals")
    rig.drive.add_member(drive_id, {"type": "user", "emailAddress": ANN, "role": "reader"})
    await rig.begin()
    rig.drive.suspend(ANN)
    await rig.ask("watch")
    await rig.settle()
    assert drive_id in [one.log for one in rig.simulator.api.channels.open_channels.values()]


async def test_a_new_shared_drive_is_watched_too(rig: DriveRig) -> None:
    await watched(rig)
    drive_id = rig.drive.create_drive("Deals")
    await rig.catch_up()
    await rig.catch_up()
    await rig.ask("watch")
    await rig.settle()
    assert {one.log for one in rig.simulator.api.channels.open_channels.values()} == {ADMIN, drive_id}


async def test_the_poll_that_a_notification_asks_for_is_one_of_the_connection(rig: DriveRig) -> None:
    found = await watched(rig)
    await receive(rig, found)
    rig.wait(3)
    [message] = await rig.receive(SOURCE_WORK)
    work = SourceWork.from_bytes(message.body)
    assert (work.tenant_id, work.connection_id, work.work) == ("acme", "drive", "poll")
