"""What the org posts when records change: Outbound Messages as SOAP, or change events as Event Relay passes them on.

Outbound Messages carry up to 100 notifications of one object with the values of the moment they are sent; only the
exact Ack ends them. Anything else has them sent again later, out of order, for a day. Deletions make none.
"""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import requests
from defusedxml.ElementTree import ParseError, fromstring

from local.salesforce import ids
from local.salesforce.org import ChangeKind, Org
from local.salesforce.schema import NUMBER_TYPES, Field, Record, Value
from messaging.codec import encode

Style = Literal["outbound", "changes"]

MOST_NOTIFICATIONS = 100
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=2)
SENT_FOR = timedelta(hours=24)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
_BODY = "{http://schemas.xmlsoap.org/soap/envelope/}Body"
_SESSION = "!AQsimulated.session.that.nobody.may.keep"


@dataclass(slots=True)
class _Waiting:
    """A notification that has not been taken yet."""

    id: str
    object_name: str
    record_id: str
    kind: ChangeKind
    made: datetime
    due: datetime
    sequence: int
    tries: int = 0


class Pushes:
    """The org's pushes to one address.

    *scale* shortens pauses and the day for which messages are repeated. *delivered* and *dropped* count notifications,
    *attempts* requests.
    """

    def __init__(
        self,
        org: Org,
        url: str,
        style: Style = "outbound",
        objects: Sequence[str] = (),
        *,
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        if urlsplit(url).scheme != "http" or urlsplit(url).hostname not in _LOOPBACK:
            raise ValueError("a simulator pushes to http on this machine alone")
        self.url, self.style, self.scale = url, style, scale
        self.delivered = self.dropped = self.attempts = 0
        self._org = org
        self._objects = frozenset(objects)
        self._waiting: list[_Waiting] = []
        self._random = random.Random(seed)
        self._made = 0
        self._session = requests.Session()
        self._session.trust_env = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        org.watchers.append(self._noticed)

    @property
    def waiting(self) -> int:
        """Notifications that are not taken yet."""
        return len(self._waiting)

    def _noticed(self, kind: ChangeKind, object_name: str, record_id: str) -> None:
        if self._objects and object_name not in self._objects:
            return
        if self.style == "outbound" and kind == "DELETE":
            return
        self._made += 1
        now = self._org.clock()
        identifier = ids.made_id("04l", "Notification", str(self._made))
        self._waiting.append(_Waiting(identifier, object_name, record_id, kind, now, now, self._made))

    def deliver(self) -> None:
        """Send what is due now, once."""
        with self._org.lock:
            now = self._org.clock()
            late = [one for one in self._waiting if now - one.made > SENT_FOR * self.scale]
            self.dropped += len(late)
            self._waiting = [one for one in self._waiting if one not in late]
            due = [one for one in self._waiting if one.due <= now]
        retried = [one for one in due if one.tries]
        self._random.shuffle(retried)
        for batch in self._batches([*[one for one in due if not one.tries], *retried]):
            taken = self._post(batch)
            with self._org.lock:
                if taken:
                    self.delivered += len(batch)
                    self._waiting = [one for one in self._waiting if one not in batch]
                    continue
                for one in batch:
                    one.tries += 1
                    one.due = now + min(FIRST_PAUSE * 2.0 ** min(one.tries - 1, 12), LONGEST_PAUSE) * self.scale

    def _batches(self, due: Sequence[_Waiting]) -> list[list[_Waiting]]:
        size = MOST_NOTIFICATIONS if self.style == "outbound" else 1
        by_object: dict[str, list[_Waiting]] = {}
        for one in due:
            by_object.setdefault(one.object_name, []).append(one)
        return [found[start : start + size] for found in by_object.values() for start in range(0, len(found), size)]

    def _post(self, batch: Sequence[_Waiting]) -> bool:
        self.attempts += 1
        with self._org.lock:
            body, kind = (
                (self._message(batch), "text/xml; charset=utf-8")
                if self.style == "outbound"
                else (self._event(batch[0]), "application/json")
            )
        try:
            headers = {"Content-Type": kind, "SOAPAction": '""'}
            answer = self._session.post(self.url, data=body, headers=headers, timeout=10)
        except requests.RequestException:
            return False
        return _is_acknowledged(answer) if self.style == "outbound" else answer.status_code < 300

    def _message(self, batch: Sequence[_Waiting]) -> bytes:
        org_id, name = self._org.org_id, batch[0].object_name
        table = self._org.tables[name]
        notifications = []
        for one in batch:
            record = table.records.get(one.record_id)
            values = _elements(record, table.fields) if record else f"<sf:Id>{one.record_id}</sf:Id>"
            notifications.append(
                f'<Notification><Id>{one.id}</Id><sObject xsi:type="sf:{name}" '
                f'xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{values}</sObject></Notification>'
            )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
            'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
            '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
            f"<OrganizationId>{org_id}</OrganizationId><ActionId>{ids.made_id('04k', 'Action', name)}</ActionId>"
            f"<SessionId>{org_id[:15]}{_SESSION}</SessionId>"
            f"<EnterpriseUrl>https://sandbox.my.salesforce.com/services/Soap/c/59.0/{org_id[:15]}</EnterpriseUrl>"
            f"<PartnerUrl>https://sandbox.my.salesforce.com/services/Soap/u/59.0/{org_id[:15]}</PartnerUrl>"
            f"{''.join(notifications)}</notifications></soapenv:Body></soapenv:Envelope>"
        ).encode()

    def _event(self, one: _Waiting) -> bytes:
        header = {
            "entityName": one.object_name,
            "recordIds": [one.record_id],
            "changeType": one.kind,
            "changedFields": ["LastModifiedDate"] if one.kind == "UPDATE" else [],
            "changeOrigin": "",
            "transactionKey": f"{one.sequence:08x}-0000-0000-0000-000000000000",
            "sequenceNumber": 1,
            "commitTimestamp": int(one.made.timestamp() * 1000),
            "commitNumber": 1_000_000_000_000_000_000 + one.sequence,
            "commitUser": ids.made_id("005", "User", "simulated"),
        }
        return encode(
            {
                "version": "0",
                "id": f"{one.sequence:08x}-0000-4000-8000-000000000000",
                "detail-type": f"{one.object_name.removesuffix('__c')}ChangeEvent",
                "source": f"aws.partner/salesforce.com/{self._org.org_id}/CHN",
                "detail": {"payload": {"ChangeEventHeader": header}, "schema": "simulated"},
            }
        )

    def start(self) -> None:
        """Deliver from a thread until :meth:`stop`."""

        def run() -> None:
            while not self._stop.wait(0.1):
                self.deliver()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Push nothing any more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(15)
        if self._noticed in self._org.watchers:
            self._org.watchers.remove(self._noticed)
        self._session.close()


def _is_acknowledged(answer: requests.Response) -> bool:
    """Whether the answer is the one that Salesforce takes: 200 with notificationsResponse and a true Ack."""
    if answer.status_code != 200:
        return False
    try:
        root = fromstring(answer.content)
    except ParseError:
        return False
    ack = root.find(f"{_BODY}/{_OUTBOUND}notificationsResponse/{_OUTBOUND}Ack")
    return ack is not None and ack.text == "true"


def _elements(record: Record, fields: dict[str, Field]) -> str:
    """The record's fields as SOAP has them: Id first, the others by name, nulls left out."""
    names = sorted(name for name, value in record.items() if name != "Id" and value is not None and name in fields)
    return "".join(f"<sf:{name}>{_text(fields[name], record[name])}</sf:{name}>" for name in ("Id", *names))


def _text(field: Field, value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.type == "datetime":
        return str(value).replace("+0000", "Z")
    if field.type in NUMBER_TYPES and field.type != "int":
        text = str(value)
        return text if "." in text else f"{text}.0"
    return escape(str(value).replace("\0", ""))
