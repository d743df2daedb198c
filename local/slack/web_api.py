"""The workspace's Web API under ``/api/``, for its one app, and the files under ``/files-pri/``.

Every method takes GET with a query, POST with a form and POST with JSON. Errors are HTTP 200 with ``{"ok": false}``.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from ingestion.slack.export import is_ts, ts_order
from local.simulator_faults import Fault, Faults
from local.slack.channel import Channel, JsonObject
from local.slack.credentials import Credentials
from local.slack.cursors import Cursors, Walk
from local.slack.errors import ApiError
from local.slack.faults import KINDS
from local.slack.rate_limits import RESTRICTED_METHODS, RESTRICTED_PAGE, RateLimits
from local.slack.workspace import Workspace
from messaging.codec import DecodeError, decode, encode

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 1000
LARGEST_HISTORY_LIMIT: Final = 999
_KEPT_CALLS = 100_000
_TYPES = ("public_channel", "private_channel", "mpim", "im")
_SCOPE_OF_TYPE = {"public_channel": "channels", "private_channel": "groups", "mpim": "mpim", "im": "im"}
_READ = ("channels:read", "groups:read", "mpim:read", "im:read")
_HISTORY = ("channels:history", "groups:history", "mpim:history", "im:history")
_JSON = "application/json; charset=utf-8"
_FORM = "application/x-www-form-urlencoded"
_LOGIN_PAGE = "<!DOCTYPE html><html><head><title>Sign in | Slack</title></head><body>Sign in</body></html>"
_INSTALLATION_ERRORS = {"revoked": "token_revoked", "uninstalled": "account_inactive"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came in. *error* is what it was refused with, if it was."""

    method: str
    arguments: Mapping[str, str]
    status: int
    error: str | None


@dataclass(frozen=True, slots=True)
class _Method:
    """*scopes*: any of them lets a token call it, none needed where there are none."""

    answer: Callable[["_Arguments"], JsonObject]
    scopes: tuple[str, ...] = ()
    app_token: bool = False


class _Arguments:
    """A call's arguments, whichever way they came."""

    def __init__(self, method: str, given: Mapping[str, str], scopes: set[str]) -> None:
        self.method = method
        self.given = given
        self._scopes = scopes

    def text(self, name: str) -> str:
        """The argument; empty where it is not given."""
        return self.given.get(name, "")

    def flag(self, name: str) -> bool:
        """Whether a yes was given."""
        return self.text(name).lower() in {"1", "true"}

    def limit(self, largest: int) -> int:
        """How many items a page may have.

        Raises:
            ApiError: ``invalid_limit``.
        """
        given = self.text("limit") or str(DEFAULT_LIMIT)
        if not given.isdecimal() or not 1 <= int(given) <= largest:
            raise ApiError("invalid_limit")
        return int(given)

    def ts(self, name: str) -> tuple[int, int] | None:
        """A bound of a window of time.

        Raises:
            ApiError: ``invalid_ts_oldest``, ``invalid_ts_latest``.
        """
        given = self.text(name)
        if not given or given == "now":
            return None
        whole = given if "." in given else f"{given}.000000"
        if not is_ts(whole):
            raise ApiError(f"invalid_ts_{name}")
        return ts_order(whole)

    def require(self, *scopes: str) -> None:
        """Let the call pass if the token has all of *scopes*.

        Raises:
            ApiError: ``missing_scope``.
        """
        for scope in scopes:
            if scope not in self._scopes:
                raise ApiError("missing_scope", needed=scope, provided=",".join(sorted(self._scopes)))


class WebApi:
    """Answers calls to one workspace. ``faults``, ``limits`` and ``cursors`` are switches that may be set at any time.

    A fault's path is a part of a call's path and arguments: ``channel=C0DEAL`` hits all calls for that channel.

    *event_contexts* are what ``apps.event.authorizations.list`` is asked of: each event that was sent adds its own.
    """

    def __init__(self, workspace: Workspace, credentials: Credentials) -> None:
        self.workspace = workspace
        self.credentials = credentials
        self.faults = Faults(KINDS)
        self.limits = RateLimits(workspace.clock)
        self.cursors = Cursors(workspace.clock)
        self.calls: deque[Call] = deque(maxlen=_KEPT_CALLS)
        self.event_contexts: set[str] = set()
        self._methods: Mapping[str, _Method] = {
            "auth.test": _Method(self._auth_test),
            "team.info": _Method(self._team_info, ("team:read",)),
            "conversations.list": _Method(self._list_channels, _READ),
            "conversations.info": _Method(self._channel_info, _READ),
            "conversations.history": _Method(self._history, _HISTORY),
            "conversations.replies": _Method(self._replies, _HISTORY),
            "conversations.members": _Method(self._members, _READ),
            "conversations.join": _Method(self._join, ("channels:join",)),
            "users.list": _Method(self._list_users, ("users:read",)),
            "users.info": _Method(self._user_info, ("users:read",)),
            "users.conversations": _Method(self._list_channels, _READ),
            "chat.getPermalink": _Method(self._permalink),
            "bots.info": _Method(self._bot_info, ("users:read",)),
            "apps.event.authorizations.list": _Method(self._authorizations, ("authorizations:read",), app_token=True),
        }

    def calls_of(self, method: str) -> list[Call]:
        """The calls of that method so far."""
        return [call for call in self.calls if call.method == method]

    async def __call__(self, request: Request) -> Response:
        """Answer any call but the control route's."""
        path = request.url.path
        body = await request.body()
        fault = self.faults.strike(f"{path}?{request.url.query}&{body.decode(errors='replace')}")
        if fault is not None and fault.delay:
            await asyncio.sleep(fault.delay)
        if path.startswith("/files-pri/"):
            return self._file(request)
        if not path.startswith("/api/"):
            return Response("<html><body>Not found</body></html>", 404, media_type="text/html")
        method = path.removeprefix("/api/")
        arguments: Mapping[str, str] = {}
        headers: dict[str, str] = {}
        answer: JsonObject
        if fault is not None and fault.status is not None:
            self.calls.append(Call(method, arguments, fault.status, "fault"))
            return _fault_response(fault)
        status = 200
        try:
            arguments = _arguments(request, body)
            with self.workspace.lock:
                known = self._methods.get(method)
                if known is None:
                    raise ApiError("unknown_method", req_method=method)
                scopes = self._authorize(known, request, arguments)
                headers["x-oauth-scopes"] = ",".join(sorted(scopes))
                headers["x-accepted-oauth-scopes"] = ",".join(known.scopes)
                wait = self.limits.take(method)
                if wait is not None:
                    status, headers["retry-after"] = 429, str(wait)
                    raise ApiError("ratelimited")
                checked = _Arguments(method, arguments, scopes)
                if known.scopes and not scopes.intersection(known.scopes):
                    provided = ",".join(sorted(scopes))
                    raise ApiError("missing_scope", needed=",".join(known.scopes), provided=provided)
                answer = {"ok": True, **known.answer(checked)}
            if "charset" in request.headers.get("content-type", "") and body[:1] != b"{":
                warnings = ["superfluous_charset"]
                answer["warning"] = ",".join([*filter(None, [answer.get("warning")]), *warnings])
                answer["response_metadata"] = {**answer.get("response_metadata", {}), "warnings": warnings}
        except ApiError as error:
            answer = {"ok": False, "error": error.code, **error.more}
        shown = {name: value for name, value in arguments.items() if name != "token"}
        self.calls.append(Call(method, shown, status, answer.get("error")))
        headers["x-slack-req-id"] = secrets.token_hex(16)
        return Response(encode(answer), status, headers, media_type=_JSON)

    def _authorize(self, known: _Method, request: Request, arguments: Mapping[str, str]) -> set[str]:
        """The scopes of the call's token.

        Raises:
            ApiError: it has none, or none that is good here.
        """
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        token = given if kind.lower() == "bearer" else arguments.get("token", "")
        if not token:
            raise ApiError("not_authed")
        if known.app_token:
            if token != self.credentials.app_token:
                raise ApiError("not_allowed_token_type" if token == self.credentials.bot_token else "invalid_auth")
            return {"authorizations:read"}
        if token == self.credentials.app_token:
            raise ApiError("not_allowed_token_type")
        if token != self.credentials.bot_token:
            raise ApiError("invalid_auth")
        if self.workspace.installation != "active":
            raise ApiError(_INSTALLATION_ERRORS[self.workspace.installation])
        return self.credentials.scopes

    def _file(self, request: Request) -> Response:
        """A file's bytes; without a good token the page to sign in, with status 200, as Slack answers."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        good = kind.lower() == "bearer" and token == self.credentials.bot_token
        if not good or self.workspace.installation != "active" or "files:read" not in self.credentials.scopes:
            return Response(_LOGIN_PAGE, media_type="text/html")
        file_id = request.url.path.removeprefix("/files-pri/").partition("/")[0].rpartition("-")[2]
        content = self.workspace.files.get(file_id)
        if content is None:
            return Response("<html><body>File not found</body></html>", 404, media_type="text/html")
        return Response(content, media_type="application/octet-stream")

    # The workspace and the app

    def _auth_test(self, _: _Arguments) -> JsonObject:
        workspace = self.workspace
        return {
            "url": workspace.url,
            "team": workspace.name,
            "user": workspace.users[workspace.bot_user_id]["name"],
            "team_id": workspace.team_id,
            "user_id": workspace.bot_user_id,
            "bot_id": workspace.bot_id,
            "is_enterprise_install": False,
        }

    def _team_info(self, _: _Arguments) -> JsonObject:
        workspace = self.workspace
        team = {"id": workspace.team_id, "name": workspace.name, "url": workspace.url, "domain": workspace.domain}
        return {"team": {**team, "email_domain": workspace.email_domain, "icon": {"image_default": True}}}

    def _authorizations(self, arguments: _Arguments) -> JsonObject:
        if arguments.text("event_context") not in self.event_contexts:
            raise ApiError("invalid_event_context")
        return {"authorizations": [authorization(self.workspace)], "response_metadata": {"next_cursor": ""}}

    def _bot_info(self, arguments: _Arguments) -> JsonObject:
        bot = self.workspace.bots.get(arguments.text("bot"))
        if bot is None:
            raise ApiError("bot_not_found")
        return {"bot": bot}

    # Channels

    def _list_channels(self, arguments: _Arguments) -> JsonObject:
        types = [kind.strip() for kind in (arguments.text("types") or "public_channel").split(",")]
        if any(kind not in _TYPES for kind in types):
            raise ApiError("invalid_types")
        arguments.require(*(f"{_SCOPE_OF_TYPE[kind]}:read" for kind in types))
        exclude_archived = arguments.flag("exclude_archived")
        own = arguments.method == "users.conversations"
        member = arguments.text("user") or self.workspace.bot_user_id
        found = [
            channel
            for channel in sorted(self.workspace.channels.values(), key=lambda channel: channel.id)
            if channel.kind in types
            and self._may_know(channel)
            and not (exclude_archived and channel.is_archived)
            and not (own and member not in channel.members)
        ]
        limit = arguments.limit(LARGEST_LIMIT)
        walk: Walk[Channel] = Walk(arguments.method, "team", lambda channel: channel.id, lambda one, two: one >= two)
        page = self.cursors.page(walk, found, arguments.text("cursor"), limit)
        channels = [self.workspace.describe(channel, num_members=not own) for channel in page.items]
        return {"channels": channels, "response_metadata": {"next_cursor": page.next_cursor}}

    def _channel_info(self, arguments: _Arguments) -> JsonObject:
        channel = self._channel(arguments, "read")
        return {"channel": self.workspace.describe(channel, num_members=arguments.flag("include_num_members"))}

    def _members(self, arguments: _Arguments) -> JsonObject:
        channel = self._channel(arguments, "read")
        walk: Walk[str] = Walk(f"members {channel.id}", "user", lambda user: user, lambda one, two: one >= two)
        limit = arguments.limit(LARGEST_LIMIT)
        page = self.cursors.page(walk, sorted(channel.members), arguments.text("cursor"), limit)
        return {"members": list(page.items), "response_metadata": {"next_cursor": page.next_cursor}}

    def _join(self, arguments: _Arguments) -> JsonObject:
        channel = self.workspace.channels.get(arguments.text("channel"))
        if channel is None or not self._may_know(channel):
            raise ApiError("channel_not_found")
        if channel.is_private:
            raise ApiError("method_not_supported_for_channel_type")
        if channel.is_archived:
            raise ApiError("is_archived")
        already = self.workspace.bot_user_id in channel.members
        self.workspace.join(channel.id)
        answer: JsonObject = {"channel": self.workspace.describe(channel)}
        if already:
            answer |= {"warning": "already_in_channel", "response_metadata": {"warnings": ["already_in_channel"]}}
        return answer

    def _permalink(self, arguments: _Arguments) -> JsonObject:
        channel = self.workspace.channels.get(arguments.text("channel"))
        ts = arguments.text("message_ts")
        if channel is None or not self._may_know(channel):
            raise ApiError("channel_not_found")
        if ts not in channel:
            raise ApiError("message_not_found")
        link = f"{self.workspace.url}archives/{channel.id}/p{ts.replace('.', '')}"
        root = channel.root_of(ts)
        if root != ts:
            link += f"?thread_ts={root}&cid={channel.id}"
        return {"channel": channel.id, "permalink": link}

    # Messages

    def _history(self, arguments: _Arguments) -> JsonObject:
        channel = self._channel(arguments, "history", members_only=True)
        within = _window(arguments)
        found = [ts for ts in channel.history() if within(ts)]
        walk: Walk[str] = Walk(f"history {channel.id}", "next_ts", _micros, lambda one, two: int(one) <= int(two))
        page = self.cursors.page(walk, found, arguments.text("cursor"), self._page_length(arguments))
        return {
            "messages": [channel.message(ts) for ts in page.items],
            "has_more": bool(page.next_cursor),
            "pin_count": 0,
            "channel_actions_ts": None,
            "channel_actions_count": 0,
            "response_metadata": {"next_cursor": page.next_cursor},
        }

    def _replies(self, arguments: _Arguments) -> JsonObject:
        channel = self._channel(arguments, "history", members_only=True)
        ts = arguments.text("ts")
        if ts not in channel:
            raise ApiError("thread_not_found")
        root = channel.root_of(ts)
        if root not in channel:
            raise ApiError("thread_not_found")
        within = _window(arguments)
        found = [reply for reply in channel.replies_of(root) if within(reply)]
        walk: Walk[str] = Walk(
            f"replies {channel.id} {root}", "next_ts", _micros, lambda one, two: int(one) >= int(two)
        )
        page = self.cursors.page(walk, found, arguments.text("cursor"), max(1, self._page_length(arguments) - 1))
        return {
            "messages": [channel.message(ts) for ts in (root, *page.items)],
            "has_more": bool(page.next_cursor),
            "response_metadata": {"next_cursor": page.next_cursor},
        }

    def _page_length(self, arguments: _Arguments) -> int:
        if self.limits.restricted and arguments.method in RESTRICTED_METHODS:
            given = arguments.limit(LARGEST_HISTORY_LIMIT) if arguments.text("limit") else RESTRICTED_PAGE
            return min(given, RESTRICTED_PAGE)
        return arguments.limit(LARGEST_HISTORY_LIMIT)

    # Users

    def _list_users(self, arguments: _Arguments) -> JsonObject:
        users = [self.workspace.users[user] for user in sorted(self.workspace.users)]
        walk: Walk[JsonObject] = Walk("users", "user", lambda user: str(user["id"]), lambda one, two: one >= two)
        page = self.cursors.page(walk, users, arguments.text("cursor"), arguments.limit(LARGEST_LIMIT))
        return {
            "members": [self._shown_user(user) for user in page.items],
            "cache_ts": int(self.workspace.clock().timestamp()),
            "response_metadata": {"next_cursor": page.next_cursor},
        }

    def _user_info(self, arguments: _Arguments) -> JsonObject:
        user = self.workspace.users.get(arguments.text("user"))
        if user is None:
            raise ApiError("user_not_found")
        return {"user": self._shown_user(user)}

    def _shown_user(self, user: JsonObject) -> JsonObject:
        if "users:read.email" in self.credentials.scopes:
            return user
        return {**user, "profile": {name: value for name, value in user["profile"].items() if name != "email"}}

    # Parts of the above

    def _may_know(self, channel: Channel) -> bool:
        return not channel.is_private or self.workspace.bot_user_id in channel.members

    def _channel(self, arguments: _Arguments, what: str, *, members_only: bool = False) -> Channel:
        """The channel that a call is about.

        Raises:
            ApiError: there is none that the bot may know, its token lacks the scope, or it is not in it.
        """
        channel = self.workspace.channels.get(arguments.text("channel"))
        if channel is None or not self._may_know(channel):
            raise ApiError("channel_not_found")
        arguments.require(f"{channel.scope_family}:{what}")
        if members_only and self.workspace.bot_user_id not in channel.members:
            raise ApiError("not_in_channel")
        return channel


def authorization(workspace: Workspace) -> JsonObject:
    """The app's installation, as events and ``apps.event.authorizations.list`` tell it."""
    return {
        "enterprise_id": None,
        "team_id": workspace.team_id,
        "user_id": workspace.bot_user_id,
        "is_bot": True,
        "is_enterprise_install": False,
    }


def _arguments(request: Request, body: bytes) -> dict[str, str]:
    """A call's arguments from query, form and JSON, all as texts.

    Raises:
        ApiError: a body that can't be read.
    """
    arguments = dict(request.query_params)
    if not body:
        return arguments
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            given = decode(body)
        except DecodeError:
            raise ApiError("invalid_json") from None
        if not isinstance(given, dict):
            raise ApiError("json_not_object")
        return arguments | {name: _text(value) for name, value in given.items() if value is not None}
    if kind != _FORM:
        raise ApiError("invalid_post_type")
    try:
        return arguments | dict(parse_qsl(body.decode(), keep_blank_values=True))
    except UnicodeDecodeError:
        raise ApiError("invalid_form_data") from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return str(value)


def _window(arguments: _Arguments) -> Callable[[str], bool]:
    """Whether a message is in the window that the call asks for, its bounds left out unless ``inclusive``."""
    oldest, latest, inclusive = arguments.ts("oldest"), arguments.ts("latest"), arguments.flag("inclusive")

    def within(ts: str) -> bool:
        order = ts_order(ts)
        if oldest is not None and (order < oldest or (order == oldest and not inclusive)):
            return False
        return latest is None or order < latest or (order == latest and inclusive)

    return within


def _micros(ts: str) -> str:
    seconds, micros = ts_order(ts)
    return f"{seconds}{micros:06d}"


def _fault_response(fault: Fault) -> Response:
    return Response(fault.body, fault.status or 200, fault.headers, media_type=fault.content_type)
