"""Push channels on change logs: what ``changes.watch`` opens, and the notifications it sends.

A notification says "look now" and no more: an empty body, everything in headers, signed by nothing. It goes to
addresses of this machine alone; an https address elsewhere is accepted, as by the vendor, and delivered where
:attr:`Channels.deliver_to` leads it.
"""

import ipaddress
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import requests

from local.gdrive.drive import Drive
from local.gdrive.errors import DriveApiError, required

logger = logging.getLogger(__name__)

LONGEST: Final = timedelta(days=7)
DEFAULT_LIFETIME: Final = timedelta(hours=1)
_USER_AGENT = "APIs-Google; (+https://developers.google.com/webmasters/APIs-Google.html)"
_RETRIED = frozenset({500, 502, 503, 504})
_MOST_TRIES = 6
_TIMEOUT_SECONDS = 10.0
_KEPT = 10_000
_WAIT_SECONDS = 0.25
_STOP_SECONDS = 15.0


@dataclass(slots=True)
class Channel:
    """An open channel."""

    channel_id: str
    resource_id: str
    resource_uri: str
    address: str
    token: str | None
    ends: datetime
    user: str
    log: str
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notification that was sent; *status* is the last answer, None where nobody answered."""

    channel_id: str
    state: str
    number: int
    tries: int
    status: int | None


@dataclass(frozen=True, slots=True)
class _Message:
    channel: Channel
    state: str
    number: int


class Channels:
    """The open channels, and the thread that sends what is due on them.

    *deliver_to* (``http://127.0.0.1:7071``) is where notifications go whose address is not of this machine, path kept;
    *retry_seconds* is the pause before the second try, doubled before each next one.
    """

    def __init__(self, drive: Drive) -> None:
        self.open_channels: dict[str, Channel] = {}
        self.deliveries: deque[Delivery] = deque(maxlen=_KEPT)
        self.deliver_to: str | None = None
        self.retry_seconds = 0.5
        self._drive = drive
        self._due: queue.Queue[_Message | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        drive.on_entry = self._on_entry

    def open(self, given: Mapping[str, Any], user: str, log: str, token: str) -> dict[str, Any]:
        """Open a channel on the log of that name; the Channel resource. A sync message follows.

        Raises:
            DriveApiError: 400: something of the channel is missing or wrong.
        """
        channel_id, address = given.get("id"), given.get("address")
        if not isinstance(channel_id, str) or not channel_id:
            raise required("id")
        if given.get("type") not in {"web_hook", "webhook"}:
            raise DriveApiError(400, "invalid", "Unknown channel type", location=("type", "parameter"))
        if not isinstance(address, str) or not address:
            raise required("address")
        if urlsplit(address).scheme != "https" and not _is_of_this_machine(address):
            raise DriveApiError(400, "push.webhookUrlNotHttps", f"WebHook callback must be HTTPS: {address}")
        if channel_id in self.open_channels:
            raise DriveApiError(400, "channelIdNotUnique", f"Channel id {channel_id} not unique")
        channel = Channel(
            channel_id,
            sha256(f"{user}\0{log}".encode()).hexdigest()[:27],
            f"https://www.googleapis.com/drive/v3/changes?alt=json&pageToken={token}",
            address,
            str(given["token"]) if given.get("token") else None,
            self._end(given.get("expiration")),
            user,
            log,
        )
        self.open_channels[channel_id] = channel
        self._send(channel, "sync")
        resource = {
            "kind": "api#channel",
            "id": channel_id,
            "resourceId": channel.resource_id,
            "resourceUri": channel.resource_uri,
            "expiration": str(int(channel.ends.timestamp() * 1000)),
        }
        return resource | ({"token": channel.token} if channel.token else {})

    def close(self, given: Mapping[str, Any], user: str) -> None:
        """Stop a channel.

        Raises:
            DriveApiError: 404: this user has no such channel.
        """
        channel = self.open_channels.get(str(given.get("id")))
        if channel is None or channel.resource_id != given.get("resourceId") or channel.user != user:
            message = f"Channel '{given.get('id')}' not found for project 'shardline-sandbox'"
            raise DriveApiError(404, "notFound", message, location=("channelId", "parameter"))
        del self.open_channels[channel.channel_id]

    def start(self) -> None:
        """Begin to send."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopping.set()
        self._due.put(None)
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            self._thread = None

    def _end(self, asked: Any) -> datetime:
        now = self._drive.clock()
        if asked is None:
            return now + DEFAULT_LIFETIME
        try:
            end = datetime.fromtimestamp(int(asked) / 1000, UTC)
        except (ValueError, TypeError, OverflowError, OSError) as error:
            raise DriveApiError(400, "invalid", "Invalid Value", location=("expiration", "parameter")) from error
        if end <= now:
            raise DriveApiError(400, "invalid", "Invalid Value", location=("expiration", "parameter"))
        return min(end, now + LONGEST)

    def _on_entry(self, log: str) -> None:
        now = self._drive.clock()
        self.open_channels = {name: channel for name, channel in self.open_channels.items() if channel.ends > now}
        for channel in self.open_channels.values():
            if channel.log == log:
                self._send(channel, "change")

    def _send(self, channel: Channel, state: str) -> None:
        # Numbers grow and leave gaps; the sync message has the first.
        channel.messages += 1 if state == "sync" else 1 + channel.messages % 3
        self._due.put(_Message(channel, state, channel.messages))

    def _run(self) -> None:
        session = requests.Session()
        session.trust_env = False
        while not self._stopping.is_set():
            try:
                message = self._due.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                if self._drive.lags:
                    with self._drive.lock:
                        self._drive.settle()
                continue
            if message is not None:
                self._deliver(session, message)
            self._due.task_done()
        session.close()

    def _deliver(self, session: requests.Session, message: _Message) -> None:
        address = self._reached_at(message.channel.address)
        status: int | None = None
        tries = 0
        while address is not None and tries < _MOST_TRIES and not self._stopping.is_set():
            tries += 1
            try:
                answer = session.post(
                    address, headers=self._headers(message), timeout=_TIMEOUT_SECONDS, allow_redirects=False
                )
            except requests.RequestException as error:
                logger.debug("no answer from %s: %s", address, error)
                status = None
            else:
                status = answer.status_code
            if status is not None and status not in _RETRIED:
                break
            self._stopping.wait(self.retry_seconds * 2 ** (tries - 1))
        self.deliveries.append(Delivery(message.channel.channel_id, message.state, message.number, tries, status))

    def _headers(self, message: _Message) -> dict[str, str]:
        channel = message.channel
        headers = {
            "User-Agent": _USER_AGENT,
            "Content-Length": "0",
            "X-Goog-Channel-ID": channel.channel_id,
            "X-Goog-Channel-Expiration": format_datetime(channel.ends, usegmt=True),
            "X-Goog-Resource-ID": channel.resource_id,
            "X-Goog-Resource-URI": channel.resource_uri,
            "X-Goog-Resource-State": message.state,
            "X-Goog-Message-Number": str(message.number),
        }
        if channel.token is not None:
            headers["X-Goog-Channel-Token"] = channel.token
        return headers

    def _reached_at(self, address: str) -> str | None:
        """Where a notification for *address* is sent to; None: nowhere."""
        if self.deliver_to is not None:
            parts, there = urlsplit(address), urlsplit(self.deliver_to)
            return urlunsplit((there.scheme, there.netloc, parts.path, parts.query, ""))
        return address if _is_of_this_machine(address) else None

    def lead_to(self, address: str | None) -> None:
        """Set :attr:`deliver_to`.

        Raises:
            ValueError: it is no address of this machine.
        """
        if address is not None and not _is_of_this_machine(address):
            raise ValueError(f"notifications are delivered on this machine alone, not to {address}")
        self.deliver_to = address

    def wait_until_sent(self, seconds: float) -> bool:
        """Wait until nothing is to be sent; whether it came to that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._due.unfinished_tasks == 0:
                return True
            time.sleep(0.01)
        return False


def _is_of_this_machine(address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return False
    if parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
