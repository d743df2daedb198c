"""Threads: the text of a root and its replies is the root's, cut into chunks as one."""

from shards.model import Shard
from shards.store import ShardStore
from shards.types import TextPart, shard_type

REPLIES_TO = "replies_to"
PAGE = 500


def thread_root(shard: Shard) -> str | None:
    """The id of the root that a reply belongs to; None for a root and for what has no threads.

    A deleted reply keeps its link to the root, so that the root's text can be cut without it.
    """
    if shard_type(shard.shard_type_id).chunking != "thread":
        return None
    for link in shard.internal_relationships:
        if link.relationship_type == REPLIES_TO and link.status == "active":
            return link.target_shard_id
    return None


async def thread_parts(root: Shard, store: ShardStore) -> list[TextPart]:
    """The text of a thread: the root's, then that of its live replies in the order they were sent."""
    parts = list(shard_type(root.shard_type_id).text_parts(root.structured_data))
    replies: list[Shard] = []
    cursor: str | None = None
    while True:
        page = await store.incoming(root.tenant_id, root.id, limit=PAGE, cursor=cursor)
        ids = [link.source_shard_id for link in page.items if link.link.relationship_type == REPLIES_TO]
        found = await store.get_many(root.tenant_id, ids)
        # Until all of a channel is shared anew, what others may read must not come into the root's text.
        replies += [reply for reply in found.values() if reply.is_live and reply.acl.scope == root.acl.scope]
        cursor = page.cursor
        if cursor is None:
            break
    replies.sort(key=lambda reply: (str(reply.structured_data.get("sentAt", "")), reply.id))
    for reply in replies:
        parts += shard_type(reply.shard_type_id).text_parts(reply.structured_data)
    return parts
