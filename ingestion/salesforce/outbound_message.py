"""Outbound Messages: the SOAP that a workflow or flow of Salesforce posts, and the answers that it takes."""

import re
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import ParseError  # the class alone: it is what the safe parser raises

from shards.identity import InvalidExternalIdError, salesforce_id

OUTBOUND: Final = "{http://soap.sforce.com/2005/09/outbound}"
SOBJECT: Final = "{urn:sobject.enterprise.soap.sforce.com}"
SOAP: Final = "{http://schemas.xmlsoap.org/soap/envelope/}"
_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"

MOST_NOTIFICATIONS: Final = 100
"""What Salesforce puts into one message at most."""
MOST_ELEMENTS: Final = 120_000
"""A hundred records of 800 fields have some 80,000."""
DEEPEST: Final = 16
LONGEST_NAME: Final = 255
"""Characters of a name with its namespace, which the parser writes out for each element and attribute."""
LONGEST_TAG: Final = 32 * 1024
"""Bytes of a tag or a comment: within one, each attribute may have the whole of a long namespace written out."""
_PIECE: Final = 16 * 1024

_NOTIFICATIONS = (f"{SOAP}Envelope", f"{SOAP}Body", f"{OUTBOUND}notifications")
_NOTIFICATION = (*_NOTIFICATIONS, f"{OUTBOUND}Notification")
_ORGANIZATION = (*_NOTIFICATIONS, f"{OUTBOUND}OrganizationId")
_NOTIFICATION_ID = (*_NOTIFICATION, f"{OUTBOUND}Id")
_SOBJECT = (*_NOTIFICATION, f"{OUTBOUND}sObject")
_RECORD_ID = (*_SOBJECT, f"{SOBJECT}Id")
_READ = frozenset({_ORGANIZATION, _NOTIFICATION_ID, _RECORD_ID})
"""The only elements whose text is ever held: a SessionId is a credential, and fields may be partial."""

_API_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}\Z")

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/">'
    "<soapenv:Body>{}</soapenv:Body></soapenv:Envelope>"
)
_ANSWER = '<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>{}</Ack></notificationsResponse>'
ACK: Final = _ENVELOPE.format(_ANSWER.format("true"))
"""The one answer that Salesforce takes for "all of them have arrived"; anything else makes it send again."""
NO_ACK: Final = _ENVELOPE.format(_ANSWER.format("false"))
FAULT: Final = _ENVELOPE.format(
    "<soapenv:Fault><faultcode>soapenv:Client</faultcode><faultstring>refused</faultstring></soapenv:Fault>"
)
"""Says no more than that: whoever sends something else learns nothing from it."""


class NotOutboundMessageError(Exception):
    """A body that is no Outbound Message, or one that nobody in his right mind sends; the message says why."""


@dataclass(frozen=True, slots=True)
class Notification:
    """That a record changed: the notification's own id, the record's object and its 18-character id."""

    id: str
    object_type: str
    record_id: str


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """Up to 100 notifications of the org *organization_id*, of which older messages give 15 characters."""

    organization_id: str
    notifications: list[Notification]


def parse_outbound_message(body: bytes) -> OutboundMessage:
    """The message in *body*. Document types, entities and external references are refused, and so is depth or bulk.

    Raises:
        NotOutboundMessageError: it is none.
    """
    # It takes the standard library's parser apart to be safe, which is not for every start of the app.
    from defusedxml.common import DefusedXmlException  # noqa: PLC0415
    from defusedxml.ElementTree import DefusedXMLParser  # noqa: PLC0415

    target = _Target()
    parser = DefusedXMLParser(target=target, forbid_dtd=True, forbid_entities=True, forbid_external=True)
    try:
        for start in range(0, len(body), _PIECE):
            parser.feed(body[start : start + _PIECE])
            if start + _PIECE - parser.parser.CurrentByteIndex > LONGEST_TAG:
                raise NotOutboundMessageError("it has a longer tag or comment than any message of Salesforce's")
        parser.close()
    except DefusedXmlException as error:
        raise NotOutboundMessageError(type(error).__name__) from None
    except (ParseError, ValueError, LookupError) as error:
        raise NotOutboundMessageError(f"it is no XML ({type(error).__name__})") from None
    return target.message()


@dataclass(slots=True)
class _Target:
    """What the parser tells of each element; it keeps three kinds of text and counts the rest."""

    path: list[str] = field(default_factory=list)
    elements: int = 0
    organization: str = ""
    found: list[dict[str, str]] = field(default_factory=list)
    text: list[str] | None = None

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self.path.append(tag)
        if self.elements > MOST_ELEMENTS or len(self.path) > DEEPEST:
            raise NotOutboundMessageError("it has more elements, or deeper ones, than any message of Salesforce's")
        if any(len(name) > LONGEST_NAME for name in (tag, *attributes)):
            raise NotOutboundMessageError("it has longer names than any message of Salesforce's")
        place = tuple(self.path)
        self.text = [] if place in _READ else None
        if place == _NOTIFICATION:
            self.found.append({})
            if len(self.found) > MOST_NOTIFICATIONS:
                raise NotOutboundMessageError(f"it has more than {MOST_NOTIFICATIONS} notifications")
        elif place == _SOBJECT:
            self.found[-1]["object"] = attributes.get(_TYPE, "").rpartition(":")[2]

    def data(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, tag: str) -> None:  # noqa: ARG002 - the parser's signature
        place = tuple(self.path)
        self.path.pop()
        if self.text is None:
            return
        text = "".join(self.text).strip()
        self.text = None
        if place == _ORGANIZATION:
            self.organization = text
        elif place == _NOTIFICATION_ID:
            self.found[-1]["id"] = text
        elif place == _RECORD_ID:
            self.found[-1]["record"] = text

    def close(self) -> None:
        """The parser's last call."""

    def message(self) -> OutboundMessage:
        if not self.found or not self.organization:
            raise NotOutboundMessageError("it has no notifications, or names no organization")
        notifications = []
        for one in self.found:
            object_type = one.get("object", "")
            try:
                identifier, record_id = salesforce_id(one.get("id", "")), salesforce_id(one.get("record", ""))
            except InvalidExternalIdError:
                # What stands there instead is not repeated: the message goes to the log, and who knows what it is.
                raise NotOutboundMessageError("a notification lacks its id, or its record's") from None
            if not _API_NAME.match(object_type):
                raise NotOutboundMessageError("a notification names no object")
            notifications.append(Notification(identifier, object_type, record_id))
        return OutboundMessage(self.organization, notifications)
