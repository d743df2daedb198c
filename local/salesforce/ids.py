"""Salesforce record ids: the 18-character form, its checksum, and ids made for what comes without one.

A record id is 15 case-sensitive characters from ``0-9A-Za-z``; the first three, the key prefix, name the object.
The 18-character form adds three characters that carry the capitals, one for each block of five.
"""

import hashlib
import re

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHECKSUM_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_ID_15 = re.compile(r"[0-9A-Za-z]{15}")


def checksum(id15: str) -> str:
    """The three characters that follow *id15*: in each block of five, bit n says whether character n is A-Z."""
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << n for n, character in enumerate(id15[start : start + 5]) if "A" <= character <= "Z")
        suffix += _CHECKSUM_ALPHABET[bits]
    return suffix


def to_18(text: str) -> str | None:
    """*text* as an 18-character id; ``None`` where it has neither 15 nor 18 characters, or a wrong checksum."""
    id15 = text[:15]
    if len(text) not in {15, 18} or _ID_15.fullmatch(id15) is None:
        return None
    id18 = id15 + checksum(id15)
    return id18 if len(text) == 15 or text == id18 else None


def made_id(key_prefix: str, object_name: str, key: str) -> str:
    """The 18-character id that stands for *key*, an id of another system, among the records of *object_name*.

    The same object and key always give the same id: 12 base-62 characters of their SHA-256 behind the key prefix.
    """
    number = int.from_bytes(hashlib.sha256(f"{object_name}\0{key}".encode()).digest(), "big")
    characters = []
    for _ in range(12):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    id15 = key_prefix + "".join(characters)
    return id15 + checksum(id15)


def custom_key_prefix(object_name: str) -> str:
    """The key prefix of a custom object, ``a00`` to ``azz``: an org hands them out, here the name decides."""
    digest = hashlib.sha256(object_name.encode()).digest()
    return "a" + _ALPHABET[digest[0] % len(_ALPHABET)] + _ALPHABET[digest[1] % len(_ALPHABET)]
