"""The change feed: the newest state of each item, in the order of changes of its physical partition.

Deletes and what came between are not in it. A continuation is the etag of an answer: the lsn up to which it went.
"""

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from cosmos_peer.accounts import Container
from cosmos_peer.answers import bad_request
from cosmos_peer.partition_keys import EpkRange
from cosmos_peer.partitions import Item, Partition
from cosmos_peer.query_execution import MAX_PAGE_BYTES


@dataclass(frozen=True, slots=True)
class FeedPage:
    """Some changes and the etag behind them; none: 304."""

    items: list[Item]
    etag: str


def feed_page(
    container: Container,
    partition: Partition,
    within: EpkRange,
    *,
    if_none_match: str | None,
    modified_since: str | None,
    most: int,
) -> FeedPage:
    """The changes behind the etag *if_none_match* (``*``: from now on; None: from the beginning) in a range.

    Raises:
        RefusedError: 400, this is no etag of the feed.
    """
    if if_none_match == "*":
        return FeedPage([], _etag(partition.lsn))
    after = 0 if if_none_match is None else _lsn(if_none_match)
    passes = _since(modified_since)
    found: list[Item] = []
    size = 0
    reached = after
    now = container.clock.now()
    for item in partition.changed_after(after):
        # What one transaction wrote comes together.
        if item.lsn != reached and (len(found) >= most or size > MAX_PAGE_BYTES):
            return FeedPage(found, _etag(reached))
        reached = item.lsn
        if not within.holds(item.key.epk) or not passes(item):
            continue
        if item.expires_at is not None and item.expires_at <= now:
            continue
        found.append(item)
        size += len(item.data)
    return FeedPage(found, _etag(max(partition.lsn, after)))


def _etag(lsn: int) -> str:
    return f'"{lsn}"'


def _lsn(etag: str) -> int:
    text = etag.strip('"')
    if not text.isdecimal():
        raise bad_request(f"The continuation {etag} of the change feed is invalid.")
    return int(text)


def _since(text: str | None) -> Callable[[Item], bool]:
    if text is None:
        return lambda _: True
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except ValueError as error:
        raise bad_request(f"The If-Modified-Since {text!r} is no date.") from error
    return lambda item: item.written_at >= moment
