"""Cursors of listings that are asked for by the place of their last row, which no split of a partition moves."""

from hashlib import blake2b

from messaging import codec
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


def _mark(listing: object) -> str:
    return blake2b(codec.canonical(listing), digest_size=6).hexdigest()
