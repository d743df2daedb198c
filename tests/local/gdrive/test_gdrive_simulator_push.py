"""Push channels: the sync message, notifications of changes, retries, ends."""

import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from googleapiclient.errors import HttpError

from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator


class Receiver:
    """Takes notifications on loopback; answers with the statuses given, then with 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def watch(service: Any, address: str, **more: Any) -> Any:
    token = service.changes().getStartPageToken().execute()["startPageToken"]
    body = {"id": str(uuid.uuid4()), "type": "web_hook", "address": address, "token": "secret", **more}
    return service.changes().watch(pageToken=token, body=body).execute()


def test_a_channel_begins_with_a_sync_message_and_tells_of_changes(
    ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any, receiver: Receiver
) -> None:
    channel = watch(ann, receiver.address + "/hook")
    assert channel["kind"] == "api#channel"
    assert abs(int(channel["expiration"]) / 1000 - drive.clock().timestamp() - 3600) < 60
    channels = simulator.api.channels
    assert channels.wait_until_sent(60)
    drive.rename(ids.note, "x")
    drive.rename(ids.minutes, "in the shared drive's log alone")
    assert channels.wait_until_sent(60)
    (path, sync, body), (_, change, _) = receiver.got
    assert (path, body, sync["content-length"]) == ("/hook", b"", "0")
    assert sync["x-goog-resource-state"] == "sync"
    assert sync["x-goog-message-number"] == "1"
    assert change["x-goog-resource-state"] == "change"
    assert int(change["x-goog-message-number"]) > 1
    for headers in (sync, change):
        assert headers["x-goog-channel-id"] == channel["id"]
        assert headers["x-goog-channel-token"] == "secret"
        assert headers["x-goog-resource-id"] == channel["resourceId"]
        assert headers["x-goog-resource-uri"] == channel["resourceUri"]
        assert headers["x-goog-channel-expiration"].endswith("GMT")
        assert headers["user-agent"].startswith("APIs-Google")
    ann.channels().stop(body={"id": channel["id"], "resourceId": channel["resourceId"]}).execute()
    drive.rename(ids.note, "y")
    assert channels.wait_until_sent(60)
    assert len(receiver.got) == 2
    with pytest.raises(HttpError, match="not found"):
        ann.channels().stop(body={"id": channel["id"], "resourceId": channel["resourceId"]}).execute()


def test_an_https_address_is_led_to_this_machine(
    ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any, receiver: Receiver
) -> None:
    channels = simulator.api.channels
    watch(ann, "https://shardline.example/api/webhooks/gdrive?code=1")
    assert channels.wait_until_sent(60)
    assert [delivery.tries for delivery in channels.deliveries] == [0]
    channels.lead_to(receiver.address)
    drive.rename(ids.note, "x")
    assert channels.wait_until_sent(60)
    assert [path for path, _, _ in receiver.got] == ["/api/webhooks/gdrive?code=1"]
    with pytest.raises(ValueError, match="this machine alone"):
        channels.lead_to("http://192.0.2.1:80")


def test_what_fails_is_sent_again_and_what_is_refused_is_not(
    ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any, receiver: Receiver
) -> None:
    channels = simulator.api.channels
    channels.retry_seconds = 0.01
    receiver.statuses = [503, 500, 200, 400]
    watch(ann, receiver.address)
    drive.rename(ids.note, "x")
    assert channels.wait_until_sent(60)
    tried = [(delivery.state, delivery.tries, delivery.status) for delivery in channels.deliveries]
    assert tried == [("sync", 3, 200), ("change", 1, 400)]


def test_a_channel_ends_by_itself(
    ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any, receiver: Receiver
) -> None:
    far = int((drive.clock() + timedelta(days=30)).timestamp() * 1000)
    channel = watch(ann, receiver.address, expiration=far)
    days = (int(channel["expiration"]) / 1000 - drive.clock().timestamp()) / 86_400
    assert 6.9 < days <= 7
    drive.clock.advance(timedelta(days=8))
    drive.rename(ids.note, "x")
    assert simulator.api.channels.wait_until_sent(60)
    assert len(receiver.got) == 1


def test_a_late_entry_is_told_of_when_it_shows(
    ann: Any, simulator: DriveSimulator, drive: Drive, ids: Any, receiver: Receiver
) -> None:
    watch(ann, receiver.address)
    drive.manners.lag = timedelta(minutes=1)
    drive.rename(ids.note, "x")
    channels = simulator.api.channels
    assert channels.wait_until_sent(60)
    assert len(receiver.got) == 1
    drive.clock.advance(timedelta(minutes=2))
    drive.settle()
    assert channels.wait_until_sent(60)
    assert len(receiver.got) == 2


def test_a_channel_that_can_not_be_is_refused(ann: Any, ids: Any, receiver: Receiver) -> None:
    for body, said in (
        ({"id": ""}, "Required parameter: id"),
        ({"type": "telegram"}, "Unknown channel type"),
        ({"address": ""}, "Required parameter: address"),
        ({"address": "http://shardline.example/hook"}, "must be HTTPS"),
        ({"expiration": "soon"}, "Invalid Value"),
        ({"expiration": 1000}, "Invalid Value"),
    ):
        with pytest.raises(HttpError, match=said) as caught:
            given: dict[str, Any] = {"address": receiver.address, **body}
            watch(ann, **given)
        assert caught.value.status_code == 400
    channel = watch(ann, receiver.address)
    with pytest.raises(HttpError, match="not unique"):
        watch(ann, receiver.address, id=channel["id"])
