"""The sender of events: signed deliveries to the app's request URL, with the three-second rule, retries and bad days.

A delivery is good when it is answered with 2xx in time. Otherwise it is tried again at once, after a minute and after
five (times ``retry_scale``), each time with a fresh timestamp and signature. Deliveries go to this machine alone.
"""

import hashlib
import heapq
import hmac
import json
import secrets
import string
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from local.slack.channel import JsonObject
from local.slack.credentials import Credentials
from local.slack.web_api import authorization
from local.slack.workspace import Occurrence, Workspace

RETRY_SECONDS: Final = (0.0, 60.0, 300.0)
ANSWER_SECONDS: Final = 3.0
USER_AGENT: Final = "Slackbot 1.0 (+https://api.slack.com/robots)"
_MOST_REDIRECTS = 2
_WORKERS = 8
HOLD_SECONDS: Final = 0.3
_KEPT_DELIVERIES = 50_000
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ID_LETTERS = string.ascii_uppercase + string.digits


class SubscriptionError(Exception):
    """A request URL that is not taken; the message is one line."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. *reason* is why it failed, as ``X-Slack-Retry-Reason`` names it; *status* None: there was no answer."""

    number: int
    status: int | None
    reason: str | None
    milliseconds: float


@dataclass(slots=True)
class Delivery:
    """An event on its way. *state*: ``waiting``, ``delivered``, ``failed`` (tries are over), ``lost`` (never sent)."""

    event_id: str
    type: str
    body: bytes = field(repr=False)
    state: str = "waiting"
    attempts: list[Attempt] = field(default_factory=list)

    def as_json(self) -> JsonObject:
        """The delivery as the control route tells it."""
        attempts = [
            {"number": one.number, "status": one.status, "reason": one.reason, "milliseconds": one.milliseconds}
            for one in self.attempts
        ]
        return {"eventId": self.event_id, "type": self.type, "state": self.state, "attempts": attempts}


class EventSender:
    """Sends what happens in *workspace*. The attributes are switches that may be set at any time.

    *subscriptions* are the events the app is told of (``message.channels``, ``channel_rename``…), all where None.
    *retry_scale* multiplies the waits before the second and third retry; *answer_seconds* is the three-second rule.
    Every *duplicate_every*-th event is sent twice; *reorder_window* events at a time go out the last one first, after
    *hold_seconds* at the latest; *concurrency* is how many are under way at once: with 1 they arrive in order.
    """

    def __init__(self, workspace: Workspace, credentials: Credentials, contexts: set[str]) -> None:
        self.url: str | None = None
        self.subscriptions: frozenset[str] | None = None
        self.retry_scale = 1.0
        self.answer_seconds = ANSWER_SECONDS
        self.duplicate_every = 0
        self.reorder_window = 0
        self.hold_seconds = HOLD_SECONDS
        self.concurrency = _WORKERS
        self.deliveries: deque[Delivery] = deque(maxlen=_KEPT_DELIVERIES)
        self._workspace = workspace
        self._credentials = credentials
        self._contexts = contexts
        self._lose = 0
        self._sent = 0
        self._held: list[Delivery] = []
        self._due: list[tuple[float, int, Delivery]] = []
        self._order = 0
        self._under_way = 0
        self._changed = threading.Condition()
        self._stopped = False
        self._workers: list[threading.Thread] = []
        workspace.listeners.append(self.take)

    def subscribe(self, url: str, subscriptions: Sequence[str] | None = None) -> None:
        """Make *url* the request URL, after it has answered the challenge.

        Raises:
            SubscriptionError: it is not on this machine, or does not give the challenge back in time.
        """
        challenge = secrets.token_urlsafe(38)
        token = self._credentials.verification_token
        body = _raw({"token": token, "challenge": challenge, "type": "url_verification"})
        try:
            response = self._post(url, body, {})
        except (requests.RequestException, _TooManyRedirectsError) as error:
            raise SubscriptionError(f"{url} does not answer the challenge: {error}") from error
        if response.status_code != 200 or _challenge_in(response) != challenge:
            raise SubscriptionError(f"{url} answers the challenge with {response.status_code} and not with its value")
        with self._changed:
            self.url = url
            self.subscriptions = None if subscriptions is None else frozenset(subscriptions)

    def unsubscribe(self) -> None:
        """Send nothing more; what waits for a retry is lost."""
        with self._changed:
            self.url = None
            for _, _, delivery in self._due:
                delivery.state = "lost"
            self._due.clear()
            self._changed.notify_all()

    def lose_next(self, number: int) -> None:
        """Never send the next *number* events."""
        with self._changed:
            self._lose = number

    def take(self, occurrence: Occurrence) -> None:
        """Send what has happened, if the app is to be told of it."""
        scope, subscriptions = occurrence.scope, self.subscriptions
        if self.url is None or (scope is not None and scope not in self._credentials.scopes):
            return
        if subscriptions is not None and occurrence.subscription not in subscriptions:
            return
        delivery = self._delivery(occurrence)
        with self._changed:
            self.deliveries.append(delivery)
            if self._lose:
                self._lose -= 1
                delivery.state = "lost"
                return
            self._sent += 1
            copies = [delivery]
            if self.duplicate_every and self._sent % self.duplicate_every == 0:
                copies.append(Delivery(delivery.event_id, delivery.type, delivery.body))
                self.deliveries.append(copies[-1])
            if self.reorder_window <= 1:
                self._queue(copies)
                return
            self._held += copies
            if len(self._held) >= self.reorder_window:
                self._release()
            elif len(self._held) == len(copies):
                timer = threading.Timer(self.hold_seconds, self.release)
                timer.daemon = True
                timer.start()

    def release(self) -> None:
        """Send what is held back for later events to overtake it."""
        with self._changed:
            self._release()

    def send_rate_limited(self, minute: int | None = None) -> None:
        """Tell that events of this minute (seconds since 1970) were more than the app may get: flat, without an id."""
        seconds = int(self._workspace.clock().timestamp()) if minute is None else minute
        body = {
            "token": self._credentials.verification_token,
            "type": "app_rate_limited",
            "team_id": self._workspace.team_id,
            "minute_rate_limited": seconds - seconds % 60,
            "api_app_id": self._workspace.app_id,
        }
        delivery = Delivery("", "app_rate_limited", _raw(body))
        with self._changed:
            if self.url is not None:
                self.deliveries.append(delivery)
                self._queue([delivery])

    def pending(self) -> int:
        """Events that are neither delivered nor given up."""
        with self._changed:
            return len(self._due) + len(self._held) + self._under_way

    def wait_until_idle(self, seconds: float = 60.0) -> bool:
        """Whether every event came to its end, retries included, within *seconds*."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._due or self._held or self._under_way), seconds)

    def stop(self) -> None:
        """Send nothing more, and end."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._held.clear()
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(2 * self.answer_seconds + 1)

    def _delivery(self, occurrence: Occurrence) -> Delivery:
        event_id = "Ev0" + "".join(secrets.choice(_ID_LETTERS) for _ in range(9))
        context = f"4-{event_id}"
        self._contexts.add(context)
        seconds = int(str(occurrence.event["event_ts"]).partition(".")[0])
        envelope = {
            "token": self._credentials.verification_token,
            "team_id": occurrence.team_id,
            "context_team_id": self._workspace.team_id,
            "context_enterprise_id": None,
            "api_app_id": self._workspace.app_id,
            "event": occurrence.event,
            "type": "event_callback",
            "event_id": event_id,
            "event_time": seconds,
            "authorizations": [authorization(self._workspace)],
            "is_ext_shared_channel": occurrence.is_ext_shared,
            "event_context": context,
        }
        return Delivery(event_id, str(occurrence.event["type"]), _raw(envelope))

    def _release(self) -> None:
        held, self._held = self._held, []
        self._queue(held[::-1])

    def _queue(self, deliveries: Sequence[Delivery], wait: float = 0.0) -> None:
        """Have them sent *wait* seconds from now; the lock is held."""
        while len(self._workers) < _WORKERS and not self._stopped:
            self._workers.append(threading.Thread(target=self._work, name="slack-events", daemon=True))
            self._workers[-1].start()
        for delivery in deliveries:
            self._order += 1
            heapq.heappush(self._due, (time.monotonic() + wait, self._order, delivery))
        self._changed.notify_all()

    def _work(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while (delivery := self._next()) is not None:
                attempt, may_retry = self._try(session, delivery)
                with self._changed:
                    delivery.attempts.append(attempt)
                    self._under_way -= 1
                    tries = len(delivery.attempts)
                    if attempt.reason is None:
                        delivery.state = "delivered"
                    elif not may_retry or tries > len(RETRY_SECONDS) or self.url is None:
                        delivery.state = "failed"
                    else:
                        self._queue([delivery], RETRY_SECONDS[tries - 1] * self.retry_scale)
                    self._changed.notify_all()

    def _next(self) -> Delivery | None:
        """The next event whose time has come; None at the end."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                if self._due and self._due[0][0] <= now and self._under_way < max(1, self.concurrency):
                    self._under_way += 1
                    return heapq.heappop(self._due)[2]
                self._changed.wait(max(0.0, self._due[0][0] - now) or None if self._due else None)
            return None

    def _try(self, session: requests.Session, delivery: Delivery) -> tuple[Attempt, bool]:
        """One try, and whether there may be another."""
        number = len(delivery.attempts)
        headers = {}
        if number:
            headers["X-Slack-Retry-Num"] = str(number)
            headers["X-Slack-Retry-Reason"] = delivery.attempts[-1].reason or "unknown_error"
        status, reason, may_retry = None, None, True
        began = time.monotonic()
        try:
            response = self._post(self.url or "", delivery.body, headers, session)
            status = response.status_code
            if not 200 <= status < 300:
                reason = "http_error"
                may_retry = response.headers.get("X-Slack-No-Retry") != "1"
        except requests.Timeout:
            reason = "http_timeout"
        except requests.ConnectionError:
            reason = "connection_failed"
        except _TooManyRedirectsError:
            reason = "too_many_redirects"
        except (requests.RequestException, SubscriptionError):
            reason = "unknown_error"
        seconds = time.monotonic() - began
        if reason is None and seconds > self.answer_seconds:
            reason = "http_timeout"
        return Attempt(number, status, reason, round(seconds * 1000, 3)), may_retry

    def _post(
        self, url: str, body: bytes, headers: dict[str, str], session: requests.Session | None = None
    ) -> requests.Response:
        """One signed call, through at most two redirects.

        Raises:
            SubscriptionError: an address that is not on this machine.
        """
        sender = session or requests.Session()
        sender.trust_env = False
        timestamp = str(int(time.time()))
        signed = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": signature(self._credentials.signing_secret, timestamp, body),
            **headers,
        }
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme != "http" or parts.hostname not in _LOOPBACK:
                raise SubscriptionError(f"{url} is no http address of this machine; events go nowhere else")
            response = sender.post(url, body, headers=signed, timeout=self.answer_seconds, allow_redirects=False)
            if not response.is_redirect:
                return response
            url = urljoin(url, response.headers["Location"])
        raise _TooManyRedirectsError("more than two redirects")


class _TooManyRedirectsError(Exception):
    """The request URL leads on and on."""


def signature(signing_secret: str, timestamp: str, body: bytes) -> str:
    """The v0 signature of a body: HMAC-SHA256 over version, timestamp and the raw bytes."""
    return "v0=" + hmac.new(signing_secret.encode(), f"v0:{timestamp}:".encode() + body, hashlib.sha256).hexdigest()


def _raw(value: JsonObject) -> bytes:
    """JSON as Slack writes it: ASCII alone, and every slash escaped."""
    # Slashes stand inside of texts only, so the text can be replaced as a whole.
    return json.dumps(value, separators=(",", ":"), default=float).replace("/", "\\/").encode("ascii")


def _challenge_in(response: requests.Response) -> str:
    """The challenge that was given back: as JSON, as a form or as plain text."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    text = response.text.strip()
    if kind == "application/json":
        try:
            value = json.loads(text)
        except ValueError:
            return ""
        return str(value.get("challenge", "")) if isinstance(value, dict) else ""
    if kind == "application/x-www-form-urlencoded":
        return parse_qs(text).get("challenge", [""])[0]
    return text
