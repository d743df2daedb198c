"""A Slack workspace export, read into the objects that Slack's own API would answer with.

``channels.json`` and ``groups.json`` (private channels) are the channels, ``users.json`` the users, and
``<channel name>/<YYYY-MM-DD>.json`` the messages of a day. Direct messages are left out. What an export or a program
that imitates one lacks is made, always the same way: ids from the team and the name, times from the day and the place,
members from who wrote. Messages are read a day at a time, so that an export may be larger than the memory.
"""

import base64
import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ingestion.slack.export_archive import DEFAULT_LIMITS, MARK, ExportArchive, ExportError, ExportLimits, open_archive
from messaging.codec import DecodeError, decode

logger = logging.getLogger(__name__)

JsonObject = dict[str, Any]

SLACKBOT: Final = "USLACKBOT"
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)\.json")
_TS = re.compile(r"\d{1,12}\.\d{1,6}")
_TEAM_ID = re.compile(r"T[A-Z0-9]{3,}")
_TS_FIELDS = ("ts", "thread_ts", "latest_reply")
_MICROSECONDS = 1_000_000
_FIRST_DAY = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
"""When a channel without a date and without messages began."""


class SlackExport:
    """An open export. Use it as a context.

    *users* and *channels* are as ``users.list`` and ``conversations.list`` have them, channels with their ``members``
    besides. *team_id* is what the export itself names; None where it names none.

    Args:
        path: a .zip, a folder, or a folder that holds one of them.
        team_id: of the workspace, where it is known; ids that are made come from it.

    Raises:
        ExportError: the export can't be read.
    """

    def __init__(self, path: Path, team_id: str | None = None, limits: ExportLimits = DEFAULT_LIMITS) -> None:
        self._archive: ExportArchive = open_archive(path, limits)
        try:
            if MARK not in self._archive.folders[""] and "groups.json" not in self._archive.folders[""]:
                raise ExportError(f"{path}: no {MARK} in it, so it is no Slack export; name the export itself")
            raw_users = self._list("", "users.json")
            self.team_id = _most_common_team(raw_users)
            self._made_from = team_id or self.team_id or ""
            self._ids_by_name: dict[str, str] = {}
            self.users: list[JsonObject] = [self._user(raw) for raw in raw_users]
            self._folder_by_channel: dict[str, str] = {}
            raw_channels = [(raw, False) for raw in self._list("", MARK)]
            raw_channels += [(raw, True) for raw in self._list("", "groups.json")]
            self.channels: list[JsonObject] = [self._channel(raw, private) for raw, private in raw_channels]
        except BaseException:
            self._archive.close()
            raise
        _warn_of_repeats(path, self.channels)
        self._warn_of_direct_messages(path)

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def days(self, channel_id: str) -> list[str]:
        """The days with messages in the channel, ``YYYY-MM-DD``, the oldest first."""
        return self._days_of(self._folder_by_channel.get(channel_id))

    def messages(self, channel_id: str, days: Sequence[str] | None = None) -> Iterator[JsonObject]:
        """The channel's messages and replies, the oldest first: of all days, or of *days*.

        Raises:
            ExportError: a file can't be read, or holds something that is no message.
        """
        folder = self._folder_by_channel.get(channel_id)
        if folder is None:
            return
        for day in self._days_of(folder) if days is None else days:
            yield from self._messages_of(folder, f"{day}.json")

    def _days_of(self, folder: str | None) -> list[str]:
        files = self._archive.folders.get(folder, set()) if folder is not None else set()
        return sorted(file.removesuffix(".json") for file in files if _DAY.fullmatch(file))

    def _list(self, folder: str, file: str) -> list[JsonObject]:
        """The objects in a file; none where there is no such file."""
        if file not in self._archive.folders.get(folder, ()):
            return []
        name = f"{folder}/{file}" if folder else file
        try:
            value = decode(self._archive.read(folder, file).removeprefix(b"\xef\xbb\xbf"))
        except DecodeError as error:
            raise ExportError(f"{name}: {error}; write a JSON list in UTF-8") from error
        if not isinstance(value, list):
            raise ExportError(f"{name}: not a JSON list; write [] where there is nothing")
        for number, item in enumerate(value, 1):
            if not isinstance(item, dict):
                raise ExportError(f"{name}, entry {number}: not a JSON object")
        return value

    def _user(self, raw: JsonObject) -> JsonObject:
        user = dict(raw)
        name = str(user.get("name") or user.get("real_name") or user.get("id") or "")
        if not user.get("id"):
            user["id"] = made_id("U", self._made_from, name)
            self._ids_by_name[name] = user["id"]
        profile = user.get("profile")
        user["profile"] = dict(profile) if isinstance(profile, dict) else {}
        user["profile"].setdefault("real_name", user.get("real_name", name))
        user["profile"].setdefault("display_name", name)
        if "email" in user:
            user["profile"].setdefault("email", user.pop("email"))
        defaults = {"team_id": self._made_from, "name": name, "real_name": user["profile"]["real_name"]}
        for field, value in {**defaults, "deleted": False, "is_bot": False, "is_app_user": False, "updated": 0}.items():
            user.setdefault(field, value)
        return user

    def _channel(self, raw: JsonObject, private: bool) -> JsonObject:
        channel = {field: value for field, value in raw.items() if field != "pins"}
        name = str(channel.get("name") or channel.get("id") or "")
        if not name:
            raise ExportError(f"{'groups.json' if private else MARK}: a channel without name and id")
        folder = self._folder(name, str(channel.get("id", "")))
        channel_id = channel["id"] = str(channel.get("id") or made_id("C", self._made_from, name))
        if folder is not None:
            self._folder_by_channel[channel_id] = folder
        days = self._days_of(folder)
        channel["created"] = _whole(channel.get("created")) or (_midnight(f"{days[0]}.json") if days else _FIRST_DAY)
        members = channel.get("members")
        if not isinstance(members, list):
            authors = (message.get("user") for message in self.messages(channel_id))
            members = list(dict.fromkeys(author for author in authors if author))
        channel["members"] = [self._user_id(str(member)) for member in members]
        channel["creator"] = self._user_id(str(channel.get("creator") or next(iter(channel["members"]), SLACKBOT)))
        for about in ("topic", "purpose"):
            given = channel.get(about)
            said = {"value": given} if isinstance(given, str) else dict(given) if isinstance(given, dict) else {}
            channel[about] = {
                "value": str(said.get("value") or ""),
                "creator": str(said.get("creator") or ""),
                "last_set": _whole(said.get("last_set")),
            }
        old_group = private and channel_id.startswith("G")
        defaults = {
            "name": name,
            "name_normalized": name,
            "is_archived": False,
            "is_general": False,
            "is_channel": not old_group,
            "is_group": old_group,
            "is_im": False,
            "is_mpim": False,
            "is_private": private,
            "previous_names": [],
        }
        return {**defaults, **channel, "is_private": private}

    def _folder(self, name: str, channel_id: str) -> str | None:
        """The channel's folder. Packers spell letters beyond ASCII composed, decomposed or in the code page of DOS."""
        spellings = [name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name), channel_id]
        spellings.append(name.encode("utf-8", "replace").decode("cp437"))
        return next((spelling for spelling in spellings if spelling and spelling in self._archive.folders), None)

    def _messages_of(self, folder: str, file: str) -> Iterator[JsonObject]:
        day = _midnight(file)
        by_ts: dict[str, JsonObject] = {}
        for number, raw in enumerate(self._list(folder, file), 1):
            try:
                message = self._message(raw, day, number)
            except ValueError as error:
                raise ExportError(f"{folder}/{file}, message {number}: {error}") from None
            while by_ts.get(message["ts"], message) != message:  # one ts is one message
                message["ts"] = _next_ts(message["ts"])
            by_ts[message["ts"]] = message
        yield from sorted(by_ts.values(), key=lambda message: ts_order(message["ts"]))

    def _message(self, raw: JsonObject, day: int, number: int) -> JsonObject:
        message = {"type": "message", **raw}
        if message.get("ts") is None:
            message["ts"] = f"{day + number}.000000"
        for field in _TS_FIELDS:
            if message.get(field) is not None:
                message[field] = _ts(message[field], field)
        text = message.get("text")
        message["text"] = text if isinstance(text, str) else ""
        if message.get("user") is not None:
            message["user"] = self._user_id(str(message["user"]))
        if isinstance(message.get("file"), dict) and "files" not in message:
            message["files"] = [message["file"]]  # as it was before 2018
        return message

    def _user_id(self, given: str) -> str:
        return self._ids_by_name.get(given, given)

    def _warn_of_direct_messages(self, path: Path) -> None:
        left_out = sum(len(self._list("", file)) for file in ("dms.json", "mpims.json"))
        if left_out:
            logger.warning("%s: %s direct conversations were left out; channels alone are read", path, left_out)


def made_id(prefix: str, *parts: str) -> str:
    """An id of 11 characters that is always the same for the same *parts*: ``made_id("C", team, "general")``."""
    digest = hashlib.sha256("\x00".join((prefix, *parts)).encode("utf-8", "replace")).digest()
    return prefix + "0" + base64.b32encode(digest).decode()[: 10 - len(prefix)]


def ts_order(ts: str) -> tuple[int, int]:
    """What orders message times: seconds and microseconds. As texts or floats they compare wrongly."""
    seconds, _, micros = ts.partition(".")
    return int(seconds), int(micros.ljust(6, "0") or 0)


def is_ts(text: str) -> bool:
    """Whether *text* is a message time, ``1773301231.714899``."""
    return _TS.fullmatch(text) is not None


def _next_ts(ts: str) -> str:
    seconds, micros = ts_order(ts)
    total = seconds * _MICROSECONDS + micros + 1
    return f"{total // _MICROSECONDS}.{total % _MICROSECONDS:06d}"


def _ts(given: object, field: str) -> str:
    if isinstance(given, int | Decimal) and not isinstance(given, bool):
        given = f"{given:.6f}"
    if not isinstance(given, str) or not is_ts(given):
        raise ValueError(f'{field} {str(given)[:40]!r} is no message time; write it as "1773301231.714899"')
    return given


def _whole(given: object) -> int:
    """A number of seconds, which old exports write as text; 0 where there is none."""
    text = str(given)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0


def _midnight(file: str) -> int:
    found = _DAY.fullmatch(file)
    if found is None:
        return _FIRST_DAY
    try:
        return int(datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ExportError(f"{file}: {error}; name the file by the day of its messages") from error


def _most_common_team(users: Sequence[JsonObject]) -> str | None:
    teams = Counter(team for user in users if _TEAM_ID.fullmatch(team := str(user.get("team_id") or "")))
    return teams.most_common(1)[0][0] if teams else None


def _warn_of_repeats(path: Path, channels: list[JsonObject]) -> None:
    counts = Counter(channel["id"] for channel in channels)
    for channel_id, count in counts.items():
        if count > 1:
            logger.warning("%s: %s is there %s times; the last one counts", path, channel_id, count)
