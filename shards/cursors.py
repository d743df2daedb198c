"""Cursors: where a listing goes on, as a text that means nothing to those who carry it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode

from messaging import codec
from shards.store import InvalidCursorError


def encode_cursor(*place: str | int) -> str:
    """The cursor of the last item's place in its order."""
    return urlsafe_b64encode(codec.encode(place)).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type[str] | type[int]) -> list[str | int]:
    """The place that :func:`encode_cursor` was given, which has one value of each of *kinds*.

    Raises:
        InvalidCursorError: *cursor* is no such place.
    """
    try:
        place = codec.decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, codec.DecodeError) as error:
        raise InvalidCursorError("this is no cursor of this listing") from error
    if not isinstance(place, list) or [type(value) for value in place] != list(kinds):
        raise InvalidCursorError("this is no cursor of this listing")
    return place
