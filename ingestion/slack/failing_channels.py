"""Channels that Slack fails at (``internal_error``, HTTP 500): set aside after a few tries, to hold up no others.

A failure without a time to wait for is taken for the channel's own, until another channel's fails right after it: then
Slack is away, and the work waits.
"""

from typing import Final

from ingestion.errors import TransientError

TRIES: Final = 3
"""How often one piece of work comes back to a channel that fails. Each try asks a few times itself."""


def is_of_channel(error: TransientError) -> bool:
    """Whether *error* may be of the channel alone; one that says when to ask again is of all calls of its method."""
    return error.after is None


def failure_of(channel_id: str, error: Exception) -> str:
    """*error* in words that name the channel."""
    return f"channel {channel_id}: {error}"


def set_aside(channel_id: str, error: Exception, again: str) -> str:
    """What people have to know of a channel that was set aside, to be tried *again* then."""
    return (
        f"{failure_of(channel_id, error)}, each time it is asked: it is set aside and tried again {again}, from where"
        " it stands; if that does not help, ask Slack's support, or leave the channel out (leftOut)"
    )
