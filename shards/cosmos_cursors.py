"""Cursors of listings, by the place of their last row, which no split of a partition moves, and of the change feed."""

from hashlib import blake2b

import msgspec

from messaging import codec
from shards.cosmos_container import FeedPosition
from shards.cursors import decode_cursor, encode_cursor
from shards.store import InvalidCursorError


def cursor_behind(listing: object, place: str) -> str:
    """The cursor of a *listing*, told apart from others by what it was asked with, that goes on behind *place*."""
    return encode_cursor(_mark(listing), place)


def place_behind(listing: object, cursor: str) -> str:
    """The place that :func:`cursor_behind` was given.

    Raises:
        InvalidCursorError: *cursor* is none of this listing's.
    """
    mark, place = decode_cursor(cursor, str, str)
    if mark != _mark(listing):
        raise InvalidCursorError("this is no cursor of this listing")
    return str(place)


def position_text(position: FeedPosition) -> str:
    """The position of a change feed as a text."""
    return cursor_behind(_FEED, codec.encode(position).decode())


def feed_position(text: str) -> FeedPosition:
    """The position that :func:`position_text` was given.

    Raises:
        InvalidCursorError: *text* is no such position.
    """
    try:
        position = _decode_position(place_behind(_FEED, text))
    except msgspec.ValidationError as error:
        raise InvalidCursorError("this is no position of this change feed") from error
    if not position:
        raise InvalidCursorError("this is no position of this change feed")
    return position


_FEED = "change feed"
_decode_position = codec.decoder(FeedPosition).decode


def _mark(listing: object) -> str:
    return blake2b(codec.canonical(listing), digest_size=6).hexdigest()
