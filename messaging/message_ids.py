"""Deterministic message ids: the same emission twice is the same message, and the bus drops the second."""

from hashlib import blake2b


def message_id(queue: str, source_key: str, version: str, generation: int = 0) -> str:
    """The id of the message about *version* of *source_key* on *queue* (which names the stage).

    A retry, a reconcile, a replay or a re-embedding asks for a new *generation*: under the old id the bus would drop
    it as a duplicate. 40 characters; Service Bus allows 128.
    """
    text = "\x1f".join((queue, source_key, version, str(generation)))
    return blake2b(text.encode(), digest_size=20).hexdigest()
