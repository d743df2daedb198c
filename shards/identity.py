"""One record, one shard: the shard's id is computed from the record's identity, on every path, by this module."""

import re
from functools import lru_cache
from hashlib import blake2b
from string import ascii_lowercase, ascii_uppercase, digits

SHARDLINE_SYSTEM = "shardline"
"""The system of shards that Shardline itself keeps (projects, connections, cursors)."""

SHARD_ID_PREFIX = "sh_"

_SALESFORCE_ID = re.compile(r"[A-Za-z0-9]{15}(?:[A-Za-z0-9]{3})?\Z")
_CAPITALS = str.maketrans(dict.fromkeys(ascii_uppercase, "1") | dict.fromkeys(ascii_lowercase + digits, "0"))
_SUFFIX = {f"{n:05b}"[::-1]: character for n, character in enumerate(ascii_uppercase + "012345")}
"""The suffix character by which of a block's five characters are capitals, the first character first."""


class InvalidExternalIdError(ValueError):
    """An external id that can't be one of its system's."""


@lru_cache(maxsize=8192)
def salesforce_id(text: str) -> str:
    """The 18-character form of a Salesforce id of 15 or 18 characters.

    The last three characters encode which of the first fifteen are upper case: one character a block of five, bit n
    set when character n is A–Z, 0–31 written as A–Z0–5. An 18-character id with the wrong suffix (lower-cased on its
    way) is refused, since its first fifteen characters can't be trusted either.

    Raises:
        InvalidExternalIdError: *text* is no Salesforce id.
    """
    if not _SALESFORCE_ID.match(text):
        raise InvalidExternalIdError(f"{text[:40]!r} is no Salesforce id of 15 or 18 letters and digits")
    capitals = text.translate(_CAPITALS)
    suffix = _SUFFIX[capitals[0:5]] + _SUFFIX[capitals[5:10]] + _SUFFIX[capitals[10:15]]
    if len(text) == 18 and text[15:].upper() != suffix:
        raise InvalidExternalIdError(f"{text!r} has the suffix {text[15:]}, its capitals ask for {suffix}")
    return text[:15] + suffix


def canonical_external_id(system: str, external_id: str) -> str:
    """The one form of *external_id* that identity goes by.

    Raises:
        InvalidExternalIdError: it can't be an id of *system*.
    """
    if system == "salesforce":
        return salesforce_id(external_id)
    if not external_id:
        raise InvalidExternalIdError("an external id can't be empty")
    return external_id


def shard_id(tenant_id: str, system: str, instance: str, object_type: str, external_id: str) -> str:
    """The id of the shard of one record: ``sh_`` and 40 hex digits.

    *external_id* and, for Salesforce, *instance* (the org id) may be in any of their forms. Each part is
    length-prefixed, so no two different records run together.

    Raises:
        InvalidExternalIdError: an id can't be one of its system's.
    """
    if system == "salesforce" and instance:
        instance = salesforce_id(instance)
    external_id = canonical_external_id(system, external_id)
    text = (
        f"{len(tenant_id)}:{tenant_id}{len(system)}:{system}{len(instance)}:{instance}"
        f"{len(object_type)}:{object_type}{len(external_id)}:{external_id}"
    )
    return SHARD_ID_PREFIX + blake2b(text.encode(), digest_size=20, person=b"shardline-id").hexdigest()


def link_id(source_shard_id: str, relationship_type: str, target_shard_id: str) -> str:
    """The id of a link: the same link found twice is one link."""
    text = f"{source_shard_id}\x1f{relationship_type}\x1f{target_shard_id}"
    return "ln_" + blake2b(text.encode(), digest_size=16).hexdigest()


def chunk_id(shard: str, ordinal: int) -> str:
    """The id of the *ordinal*-th chunk of a shard."""
    return f"{shard}.{ordinal:05d}"
