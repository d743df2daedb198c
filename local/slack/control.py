"""The control route: how a program on this machine changes the workspace and its manners while the simulator runs.

All under ``/_control``, JSON both ways, and only for callers that name the simulator by a loopback address; a refusal
is ``{"error": …}`` with status 400, 403 or 404. Times are ISO 8601; durations are seconds.

``GET /_control``
    ``{teamId, botUserId, botId, appId, now, installation, calls, channels, messages, users, url, pending}``
``GET /_control/calls``, ``DELETE /_control/calls``
    ``{total, methods: {"conversations.list": n}, errors: {"ratelimited": n}}``; forget them and what they used up
``POST /_control/changes``
    One change, or a list of them: ``{operation, …}``, answered with ``{results: […]}``. A channel is its id or its
    name; ``user`` is who does it.

    * createChannel ``{name, user?, private?, members?, id?}`` → id; renameChannel ``{channel, name, user?}``;
      archiveChannel, unarchiveChannel, deleteChannel ``{channel, user?}``; changeChannelId ``{channel, id}``;
      shareChannel ``{channel, team, hostedThere?}``; unshareChannel ``{channel, team}``; setTopic, setPurpose
      ``{channel, value, user?}``; changeHistory ``{channel}``
    * join ``{channel, user?, inviter?}``, leave ``{channel, user?, actor?}``; without a user it is the bot
    * post ``{channel, text, user?, threadTs?, broadcast?, files?, botId?, classic?, userTeam?, ts?, fields?}`` → ts;
      edit ``{channel, ts, text, user?}``; unfurl ``{channel, ts, attachments}``; deleteMessage ``{channel, ts}``
    * addUser ``{name, id?, fields?}`` → id; changeUser ``{user, fields}``; renameTeam ``{name}``
    * uninstall, revokeToken, reinstall; event ``{event}``: any event at all
``POST /_control/subscription``, ``DELETE /_control/subscription``
    ``{url, events?}``: send events there, once it has answered the challenge; *events* are those of an app's settings
    (``message.channels``, ``channel_rename``…), all of them by default
``GET /_control/deliveries``, ``DELETE /_control/deliveries``
    ``{pending, deliveries: [{eventId, type, state, attempts: [{number, status, reason, milliseconds}]}]}``; forget
``POST /_control/delivery``
    ``{retryScale?, answerSeconds?, duplicateEvery?, reorderWindow?, concurrency?, loseNext?, messageReplied?}``
``POST /_control/rate-limited``
    ``{minute?}``: send ``app_rate_limited``
``POST /_control/clock``
    ``{freeze: time}``, ``{advance: seconds}`` or ``{run: true}``
``POST /_control/faults``, ``DELETE /_control/faults``
    Arm ``{kind, skip?, times?, delay?, path?, headers?, status?, body?}``, kinds in
    :data:`local.slack.faults.KINDS`; disarm all
``POST /_control/cursors/expire``
    Let all cursors die
``POST /_control/settings``
    ``{rateScale?, restricted?, shortPages?, pageCap?, cursorSeconds?, scopes?}``; rateScale null: no limits
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from starlette.responses import Response

from local.simulator_control import Handler, SimulatorControl, answer, do, each, refuse_unknown
from local.slack.event_sender import EventSender, SubscriptionError
from local.slack.web_api import WebApi
from local.slack.workspace import Workspace, WorkspaceError

Given = dict[str, Any]


class ControlRoute(SimulatorControl):
    """Answers calls under ``/_control``."""

    refusals = (WorkspaceError, SubscriptionError)

    def __init__(self, api: WebApi, sender: EventSender) -> None:
        super().__init__(api.workspace.lock, api.workspace.clock, api.faults)
        self._api = api
        self._sender = sender
        self._workspace = api.workspace

    async def _answer(self, method: str, path: str, given: Any) -> Response:
        if (method, path) == ("POST", "/subscription"):
            # The app that is asked may ask back, so nothing is held meanwhile.
            await asyncio.to_thread(self._sender.subscribe, given["url"], given.get("events"))
            return answer({"url": self._sender.url}, 200)
        return await super()._answer(method, path, given)

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """What can be changed and asked, see the module."""
        return {
            ("GET", ""): lambda _: self._state(),
            ("GET", "/calls"): lambda _: self._calls(),
            ("DELETE", "/calls"): lambda _: do(self._api.calls.clear, self._api.limits.clear),
            ("POST", "/changes"): lambda given: {
                "results": [_make_change(self._workspace, change) for change in each(given)]
            },
            ("DELETE", "/subscription"): lambda _: do(self._sender.unsubscribe),
            ("GET", "/deliveries"): lambda _: self._deliveries(),
            ("DELETE", "/deliveries"): lambda _: do(self._sender.deliveries.clear),
            ("POST", "/delivery"): self._set_delivery,
            ("POST", "/rate-limited"): lambda given: do(lambda: self._sender.send_rate_limited(given.get("minute"))),
            ("POST", "/cursors/expire"): lambda _: do(self._api.cursors.expire),
            ("POST", "/settings"): self._set_settings,
        }

    def _state(self) -> dict[str, object]:
        workspace = self._workspace
        return {
            "teamId": workspace.team_id,
            "botUserId": workspace.bot_user_id,
            "botId": workspace.bot_id,
            "appId": workspace.app_id,
            "now": workspace.clock().isoformat(),
            "installation": workspace.installation,
            "calls": len(self._api.calls),
            "channels": len(workspace.channels),
            "messages": sum(len(channel) for channel in workspace.channels.values()),
            "users": len(workspace.users),
            "url": self._sender.url,
            "pending": self._sender.pending(),
        }

    def _calls(self) -> dict[str, object]:
        calls = self._api.calls
        return {
            "total": len(calls),
            "methods": Counter(call.method for call in calls),
            "errors": Counter(call.error for call in calls if call.error),
        }

    def _deliveries(self) -> dict[str, object]:
        deliveries = [delivery.as_json() for delivery in self._sender.deliveries]
        return {"pending": self._sender.pending(), "deliveries": deliveries}

    def _set_delivery(self, given: Given) -> dict[str, object]:
        sender = self._sender
        refuse_unknown(
            given,
            {
                "retryScale",
                "answerSeconds",
                "duplicateEvery",
                "reorderWindow",
                "concurrency",
                "loseNext",
                "messageReplied",
            },
        )
        sender.retry_scale = float(given.get("retryScale", sender.retry_scale))
        sender.answer_seconds = float(given.get("answerSeconds", sender.answer_seconds))
        sender.duplicate_every = int(given.get("duplicateEvery", sender.duplicate_every))
        sender.reorder_window = int(given.get("reorderWindow", sender.reorder_window))
        sender.concurrency = int(given.get("concurrency", sender.concurrency))
        self._workspace.message_replied = bool(given.get("messageReplied", self._workspace.message_replied))
        if "loseNext" in given:
            sender.lose_next(int(given["loseNext"]))
        return {"retryScale": sender.retry_scale, "answerSeconds": sender.answer_seconds}

    def _set_settings(self, given: Given) -> dict[str, object]:
        refuse_unknown(given, {"rateScale", "restricted", "shortPages", "pageCap", "cursorSeconds", "scopes"})
        limits, cursors = self._api.limits, self._api.cursors
        if "rateScale" in given:
            limits.scale = None if given["rateScale"] is None else float(given["rateScale"])
        limits.restricted = bool(given.get("restricted", limits.restricted))
        cursors.short_pages = bool(given.get("shortPages", cursors.short_pages))
        cursors.page_cap = max(1, int(given.get("pageCap", cursors.page_cap)))
        if "cursorSeconds" in given:
            cursors.lifetime = timedelta(seconds=given["cursorSeconds"])
        if "scopes" in given:
            self._api.credentials.scopes = {str(scope) for scope in given["scopes"]}
        return {"rateScale": limits.scale, "restricted": limits.restricted, "shortPages": cursors.short_pages}


def _make_change(workspace: Workspace, change: Given) -> str | None:
    """Make one change; the id or ts of what it has made."""
    operation, given = str(change["operation"]), change
    by = {"user": given.get("user")}

    def channel() -> str:
        named = str(given["channel"])
        return named if named in workspace.channels else workspace.channel_named(named).id

    def post() -> str:
        return workspace.post(
            channel(),
            given.get("text", ""),
            thread_ts=given.get("threadTs"),
            broadcast=bool(given.get("broadcast")),
            files=given.get("files", ()),
            bot_id=given.get("botId"),
            classic=bool(given.get("classic")),
            user_team=given.get("userTeam"),
            ts=given.get("ts"),
            **by,
            **given.get("fields", {}),
        )

    def create() -> str:
        private, members = bool(given.get("private")), given.get("members", ())
        made = workspace.create_channel(
            given["name"], private=private, members=members, channel_id=given.get("id"), **by
        )
        return made.id

    makers: Mapping[str, Callable[[], str | None]] = {
        "createChannel": create,
        "renameChannel": lambda: workspace.rename_channel(channel(), given["name"], **by),
        "archiveChannel": lambda: workspace.archive_channel(channel(), **by),
        "unarchiveChannel": lambda: workspace.unarchive_channel(channel(), **by),
        "deleteChannel": lambda: workspace.delete_channel(channel(), **by),
        "changeChannelId": lambda: workspace.change_channel_id(channel(), given["id"]),
        "shareChannel": lambda: workspace.share_channel(
            channel(), given["team"], hosted_there=bool(given.get("hostedThere"))
        ),
        "unshareChannel": lambda: workspace.unshare_channel(channel(), given["team"]),
        "setTopic": lambda: workspace.set_topic(channel(), given["value"], **by),
        "setPurpose": lambda: workspace.set_purpose(channel(), given["value"], **by),
        "changeHistory": lambda: workspace.change_history(channel()),
        "join": lambda: workspace.join(channel(), given.get("user"), inviter=given.get("inviter")),
        "leave": lambda: workspace.leave(channel(), given.get("user"), actor=given.get("actor")),
        "post": post,
        "edit": lambda: workspace.edit(channel(), given["ts"], given["text"], **by),
        "unfurl": lambda: workspace.unfurl(channel(), given["ts"], given["attachments"]),
        "deleteMessage": lambda: workspace.delete_message(channel(), given["ts"]),
        "addUser": lambda: workspace.add_user(given["name"], user_id=given.get("id"), **given.get("fields", {})),
        "changeUser": lambda: workspace.change_user(given["user"], **given["fields"]),
        "renameTeam": lambda: workspace.rename_team(given["name"]),
        "uninstall": workspace.uninstall,
        "revokeToken": workspace.revoke_token,
        "reinstall": workspace.reinstall,
        "event": lambda: workspace.tell(given["event"]),
    }
    if operation not in makers:
        raise ValueError(f"there is no operation {operation}")
    return makers[operation]()
