"""What a Salesforce org pushes of its changes, in each form that the webhook takes."""

from collections.abc import Callable
from random import Random
from typing import Any
from xml.sax.saxutils import escape

from salesforce_living_org import Change, LivingOrg
from salesforce_source_rig import ADDRESS_SECRET, SESSION

from ingestion.webhooks import PushRequest
from local.salesforce.ids import made_id
from messaging import codec


class SalesforcePushes:
    """Made to the connection that the present step is about. *next_number* tells one push from another."""

    def __init__(self, rig: LivingOrg, next_number: Callable[[], int]) -> None:
        self._rig = rig
        self._next_number = next_number

    def messages(self, dice: Random, changes: list[Change]) -> list[PushRequest]:
        by_object: dict[str, list[str]] = {}
        for kind, name, record_id in changes:
            if kind != "DELETE" and record_id in self._rig.org.tables[name].records:
                by_object.setdefault(name, []).append(record_id)
        return [self.message(dice, name, ids) for name, ids in by_object.items()]

    def message(self, dice: Random, name: str, ids: list[str]) -> PushRequest:
        told = []
        for record_id in ids:
            number = self._next_number()
            value = escape(str(self._rig.org.tables[name].records[record_id]["Name"]))
            values = f"<sf:Name>{value}</sf:Name>" if dice.random() < 0.5 else ""
            told.append(
                f"<Notification><Id>{made_id('04l', 'Notification', str(number))}</Id>"
                f'<sObject xsi:type="sf:{name}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
                f"<sf:Id>{record_id}</sf:Id>{values}</sObject></Notification>"
            )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
            'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
            '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
            f"<OrganizationId>{self._rig.org.org_id}</OrganizationId><ActionId>04k000000000001AAA</ActionId>"
            f"<SessionId>{SESSION}</SessionId>{''.join(told)}</notifications></soapenv:Body></soapenv:Envelope>"
        )
        return self._request("text/xml; charset=utf-8", body.encode())

    def callouts(self, dice: Random, changes: list[Change]) -> list[PushRequest]:
        made = []
        by_object: dict[str, list[str]] = {}
        for _, name, record_id in changes:
            by_object.setdefault(name, []).append(dice.choice((record_id, record_id[:15])))
        for name, ids in by_object.items():
            bodies: tuple[Any, ...] = (
                {"orgId": self._rig.org.org_id, "records": [{"attributes": {"type": name}, "Id": one} for one in ids]},
                {"ids": ids, "object": name},
                {"current": {name.lower(): {"Id": ids[0]}}, "previous": {name.lower(): {"Id": ids[0], "Name": "x"}}},
                [{"Id": one, "Name": "partial"} for one in ids],
            )
            made.append(self._request("application/json", codec.encode(dice.choice(bodies))))
        return made

    def events(self, dice: Random, changes: list[Change]) -> list[PushRequest]:
        made = []
        for kind, name, record_id in changes:
            number = self._next_number()
            prefix = self._rig.org.tables[name].key_prefix
            told: tuple[str, list[str]] = dice.choice(
                (
                    (kind, [record_id]),
                    (kind, [record_id]),
                    (f"GAP_{kind}", [record_id]),
                    ("GAP_OVERFLOW", ["000000000000000AAA"]),
                    ("UPDATE", [f"{prefix}*"]),
                    (kind, [one for _, of, one in changes if of == name]),
                )
            )
            header = {
                "entityName": name,
                "changeType": told[0],
                "recordIds": told[1],
                "transactionKey": f"{number:08x}-0000",
                "sequenceNumber": 1,
                "commitTimestamp": int(self._rig.org.clock().timestamp() * 1000) - dice.choice((0, 5000, 3_600_000)),
            }
            event: dict[str, Any] = {"payload": {"ChangeEventHeader": header, "Name": "x"}}
            wrapped = {"source": f"aws.partner/salesforce.com/{self._rig.org.org_id}/C", "detail": event}
            made.append(self._request("application/json", codec.encode(dice.choice((wrapped, {"data": event})))))
        return made

    def _request(self, kind: str, body: bytes) -> PushRequest:
        return PushRequest(
            {"content-type": kind}, body, {"connectionId": self._rig.at.connection_id, "secret": ADDRESS_SECRET}
        )
