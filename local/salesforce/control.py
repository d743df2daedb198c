"""The control route: how a program on this machine changes the org and its manners while the simulator runs.

All under ``/_control``, JSON both ways, and only for callers that name the simulator by a loopback address; a refusal
is ``{"error": …}`` with status 400, 403 or 404. Times are ISO 8601; durations are seconds.

``GET /_control``
    ``{orgId, tenantId, now, calls, logins, usedCalls, objects: {name: live records},
    pushes: {waiting, delivered, dropped}}``
``GET /_control/calls``, ``DELETE /_control/calls``
    ``{total, paths: {"GET /services/…": n}, queries: {object: n}, objects: {object: n}}``; forget them
``POST /_control/records``
    One change, or a list of them: ``{operation, object, id?, fields?, stamp?, stamps?, commitIn?, losers?}`` with
    operation create, update, drift (of formulas, without a stamp), delete, undelete, hardDelete or merge (of losers
    into id); stamp and stamps as :meth:`Org.update`. With commitIn the change (create, update, delete) is a
    transaction that shows so many seconds later, stamped now. Answers ``{ids: […]}``.
``POST /_control/clock``
    ``{freeze: time}``, ``{advance: seconds}`` or ``{run: true}``
``POST /_control/faults``, ``DELETE /_control/faults``
    Arm ``{kind, skip?, times?, delay?, path?, headers?, status?, body?}``, kinds in
    :data:`local.salesforce.faults.KINDS`; disarm all
``POST /_control/sessions/expire``, ``POST /_control/cursors/expire``
    End all sessions; let all query locators die
``POST /_control/settings``
    ``{dailyLimit?, pageCap?, usedCalls?, sessionSeconds?, replicationIdLimit?}``
``POST /_control/visibility``
    ``{object, hide: [field, …] | true}`` hides, ``{object, hide: false}`` shows all again
``POST /_control/pushes``, ``DELETE /_control/pushes``
    ``{url, style?, objects?, scale?}``: post changes there from now on, as Outbound Messages (``outbound``) or as
    change events (``changes``), see :mod:`local.salesforce.pushes`; stop
``POST /_control/epoch``
    ``{epoch: n}`` sets the scene n of the hostile cursor, where that is what is served
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from local.salesforce.org import Org, OrgError
from local.salesforce.pushes import Pushes, Style
from local.salesforce.rest import RestApi
from local.salesforce.values import read_datetime
from local.simulator_control import Handler, SimulatorControl, do, each, refuse_unknown

SetEpoch = Callable[[int], None]
"""Sets one scene of a play; raises ``ValueError`` where there is none of that number."""


class ControlRoute(SimulatorControl):
    """Answers calls under ``/_control``."""

    refusals = (OrgError,)

    def __init__(self, api: RestApi, set_epoch: SetEpoch | None = None) -> None:
        super().__init__(api.org.lock, api.org.clock, api.faults)
        self._api = api
        self._org = api.org
        self._set_epoch = set_epoch
        self._pushes: list[Pushes] = []

    def handlers(self) -> Mapping[tuple[str, str], Handler]:
        """What can be changed and asked, see the module."""
        return {
            ("GET", ""): lambda _: self._state(),
            ("GET", "/calls"): lambda _: self._calls(),
            ("DELETE", "/calls"): lambda _: do(self._api.calls.clear),
            ("POST", "/records"): lambda given: {"ids": [_change_record(self._org, change) for change in each(given)]},
            ("POST", "/sessions/expire"): lambda _: do(self._api.login.expire_sessions),
            ("POST", "/cursors/expire"): lambda _: do(self._api.drop_cursors),
            ("POST", "/settings"): self._set_settings,
            ("POST", "/visibility"): self._set_visibility,
            ("POST", "/pushes"): self._push,
            ("DELETE", "/pushes"): lambda _: self._push_no_more(),
            ("POST", "/epoch"): self._change_epoch,
        }

    def _state(self) -> dict[str, object]:
        objects = {
            name: sum(1 for record in table.records.values() if not record.get("IsDeleted"))
            for name, table in self._org.tables.items()
        }
        return {
            "orgId": self._org.org_id,
            "tenantId": self._org.tenant_id,
            "now": self._org.clock().isoformat(),
            "calls": len(self._api.calls),
            "logins": self._api.login.logins,
            "usedCalls": self._api.used_calls(),
            "objects": objects,
            "pushes": {
                "waiting": sum(one.waiting for one in self._pushes),
                "delivered": sum(one.delivered for one in self._pushes),
                "dropped": sum(one.dropped for one in self._pushes),
            },
        }

    def _push(self, given: Any) -> dict[str, object]:
        style: Style = "changes" if given.get("style") == "changes" else "outbound"
        scale = float(given.get("scale", 1.0))
        pushes = Pushes(self._org, str(given["url"]), style, given.get("objects", ()), scale=scale)
        pushes.start()
        self._pushes.append(pushes)
        return {"url": pushes.url, "style": style}

    def _push_no_more(self) -> dict[str, object]:
        for pushes in self._pushes:
            # From another thread: this one holds the lock that the last delivery may wait for.
            threading.Thread(target=pushes.stop, daemon=True).start()
        self._pushes.clear()
        return {"ok": True}

    def _calls(self) -> dict[str, object]:
        calls = self._api.calls
        return {
            "total": len(calls),
            "paths": Counter(f"{call.method} {call.path}" for call in calls),
            "queries": Counter(call.object for call in calls if call.soql is not None and call.object),
            "objects": Counter(call.object for call in calls if call.object),
        }

    def _moment(self, text: str) -> datetime:
        return _moment(text)

    def _set_settings(self, given: Any) -> dict[str, object]:
        refuse_unknown(given, {"dailyLimit", "pageCap", "usedCalls", "sessionSeconds", "replicationIdLimit"})
        api = self._api
        api.daily_limit = int(given.get("dailyLimit", api.daily_limit))
        api.page_cap = max(1, int(given.get("pageCap", api.page_cap)))
        api.use_calls(int(given.get("usedCalls", 0)))
        if "sessionSeconds" in given:
            api.login.session_lifetime = timedelta(seconds=given["sessionSeconds"])
        self._org.replication_id_limit = int(given.get("replicationIdLimit", self._org.replication_id_limit))
        return {"dailyLimit": api.daily_limit, "pageCap": api.page_cap, "usedCalls": api.used_calls()}

    def _set_visibility(self, given: Any) -> dict[str, object]:
        name, hide = given["object"], given["hide"]
        if hide is False:
            self._org.show(name)
        else:
            self._org.hide(name, None if hide is True else [str(field) for field in hide])
        return {"object": name, "hide": hide}

    def _change_epoch(self, given: Any) -> dict[str, object]:
        if self._set_epoch is None:
            raise ValueError("nothing that is served here has epochs")
        self._set_epoch(int(given["epoch"]))
        return {"epoch": int(given["epoch"]), "now": self._org.clock().isoformat()}


def _change_record(org: Org, change: dict[str, Any]) -> str:
    """Make one change; the id of its record."""
    operation, name, record_id = change["operation"], change["object"], str(change.get("id", ""))
    fields = change.get("fields", {})
    stamp = _moment(change["stamp"]) if change.get("stamp") else None
    if "commitIn" in change:
        transaction = org.begin(timedelta(seconds=change["commitIn"]))
        if operation == "create":
            return transaction.create(name, fields)
        if operation == "update":
            transaction.update(name, record_id, fields)
        elif operation == "delete":
            transaction.delete(name, record_id)
        else:
            transaction.roll_back()
            raise ValueError(f"a transaction takes create, update and delete, not {operation}")
        return record_id
    if operation == "create":
        return org.create(name, fields, stamp=stamp)
    makers: dict[str, Callable[[], None]] = {
        "update": lambda: org.update(name, record_id, fields, stamps=change.get("stamps", "all"), stamp=stamp),
        "drift": lambda: org.drift(name, record_id, fields),
        "delete": lambda: org.delete(name, record_id, stamp=stamp),
        "undelete": lambda: org.undelete(name, record_id),
        "hardDelete": lambda: org.hard_delete(name, record_id),
        "merge": lambda: org.merge(name, record_id, change["losers"]),
    }
    if operation not in makers:
        raise ValueError(f"there is no operation {operation}")
    makers[operation]()
    return record_id


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(read_datetime(text))
