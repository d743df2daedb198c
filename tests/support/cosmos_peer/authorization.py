"""Who may ask: the signature of the account's key over each request, or a token that is there.

A signature is the HMAC-SHA256 of verb, resource type, resource link and date, each on a line of its own, all but the
link in lower case; a resource id in the place of a link is in lower case too.
"""

import base64
import hmac
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import parse_qs, unquote

from cosmos_peer.answers import RefusedError
from cosmos_peer.http_server import Request

KEY = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="
"""The public key of Cosmos DB's emulators."""


def check(request: Request, segments: Sequence[str], resource_type: str, link: str) -> None:
    """Let the request pass when it is signed with the key, or carries an Entra ID token.

    Raises:
        RefusedError: 401.
    """
    header = request.headers.get("authorization")
    if not header:
        raise _unauthorized("Required Header authorization is missing. Ensure a valid Authorization token is passed.")
    parts = {name: values[0] for name, values in parse_qs(unquote(header).replace("+", "%2B")).items()}
    if parts.get("type") == "aad" and parts.get("sig"):
        return
    if parts.get("type") != "master" or parts.get("ver") != "1.0":
        raise _unauthorized("The input authorization token is not of a known type.")
    date = request.headers.get("x-ms-date", "")
    if not date:
        raise _unauthorized("Required Header x-ms-date is missing.")
    links = {link, segments[-1].lower() if len(segments) % 2 == 0 and segments else link}
    if len(segments) > 2 and len(segments) % 2:
        links.add(segments[-2].lower())
    for candidate in links:
        text = f"{request.method.lower()}\n{resource_type}\n{candidate}\n{date.lower()}\n\n"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), sha256).digest()
        if hmac.compare_digest(base64.b64encode(digest).decode(), parts.get("sig", "")):
            return
    raise _unauthorized(
        "The input authorization token can't serve the request. The wrong key is being used or the expected payload is"
        " not built as per the protocol."
    )


def _unauthorized(message: str) -> RefusedError:
    return RefusedError(401, message)
