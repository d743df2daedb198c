"""Who may find a file through search, by its permissions in Drive."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from messaging.times import from_text
from shards.model import ANYONE_PRINCIPAL

_NAME = re.compile(r"[^\s:]+\Z")


def principals_of(permissions: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """``user:``, ``group:``, ``domain:`` and ``anyone``, sorted.

    A link alone opens nothing here: who has it can open the file, and Drive's own search does not show it. So of
    permissions for anyone or a whole domain only those count that allow discovery. Permissions that have expired, of
    deleted accounts, or for a published or restricted view alone do not count, nor do those of the folders above where
    access is limited to whom a folder itself names.
    """
    found: set[str] = set()
    for permission in permissions:
        if permission.get("deleted") or permission.get("view") or _has_expired(permission, now):
            continue
        if permission.get("inheritedPermissionsDisabled") and _is_from_above(permission):
            continue
        kind = permission.get("type")
        if kind in ("user", "group"):
            name = str(permission.get("emailAddress") or "").lower()
        elif not permission.get("allowFileDiscovery"):
            continue
        elif kind == "anyone":
            found.add(ANYONE_PRINCIPAL)
            continue
        else:
            name = str(permission.get("domain") or "").lower()
        if kind in ("user", "group", "domain") and _NAME.match(name):
            found.add(f"{kind}:{name}")
    return sorted(found)


def next_end(permissions: Sequence[Mapping[str, Any]], now: datetime) -> datetime | None:
    """When the next of *permissions* expires; None when none does."""
    ends = []
    for permission in permissions:
        try:
            ends.append(from_text(str(permission["expirationTime"])))
        except (KeyError, ValueError):
            continue
    return min((end for end in ends if end > now), default=None)


def _is_from_above(permission: Mapping[str, Any]) -> bool:
    """Whether a permission comes from folders above alone; who owns or organizes an item has access in any case."""
    details = permission.get("permissionDetails")
    if permission.get("role") in ("owner", "organizer") or not isinstance(details, list):
        return False
    return bool(details) and all(isinstance(one, Mapping) and one.get("inherited") is True for one in details)


def _has_expired(permission: Mapping[str, Any], now: datetime) -> bool:
    ends = permission.get("expirationTime")
    if ends is None:
        return False
    try:
        return from_text(str(ends)) <= now
    except ValueError:
        # An end that can't be read may be over.
        return True
