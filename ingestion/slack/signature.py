"""Slack's request signing, version v0: HMAC-SHA256 over ``v0:<timestamp>:<raw body>`` with the app's signing secret."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

TIMESTAMP_HEADER: Final = "x-slack-request-timestamp"
SIGNATURE_HEADER: Final = "x-slack-signature"

WINDOW_SECONDS: Final = 300
"""How far a request's timestamp may be from now, in both directions, as in Slack's own SDKs."""

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}\Z", re.ASCII)
_SIGNATURE: Final = re.compile(r"v0=[0-9a-f]{64}\Z", re.ASCII)


class Signed(NamedTuple):
    """What the headers of a request claim: its *timestamp* as it was written, and the *signature*."""

    timestamp: str
    signature: str

    def fits(self, body: bytes, secret: str) -> bool:
        """Whether *secret* signed *body*, which is as it came; compared in constant time."""
        digest = hmac.new(secret.encode(), b"v0:" + self.timestamp.encode() + b":" + body, hashlib.sha256)
        return hmac.compare_digest(f"v0={digest.hexdigest()}", self.signature)


def claimed(headers: Mapping[str, str], now: datetime) -> Signed | None:
    """What *headers* (by lower-case name) claim; None when they are none of Slack's, or not of about *now*.

    Whatever else stands in them, several values in one among it, is nothing that Slack sends.
    """
    timestamp = headers.get(TIMESTAMP_HEADER, "")
    signature = headers.get(SIGNATURE_HEADER, "")
    if not _TIMESTAMP.match(timestamp) or not _SIGNATURE.match(signature):
        return None
    if abs(int(now.timestamp()) - int(timestamp)) > WINDOW_SECONDS:
        return None
    return Signed(timestamp, signature)
