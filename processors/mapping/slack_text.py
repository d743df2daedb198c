"""The text of Slack's messages: its marks for users, channels and links turned into words, and whom it names.

Slack escapes ``&``, ``<`` and ``>`` in what people write, so a ``<…>`` is always a mark of its own.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urlsplit

_MARK = re.compile(r"<([^<>\n]*)>")
_USER = re.compile(r"[UW][A-Z0-9]{2,}\Z")
_CHANNEL = re.compile(r"[CG][A-Z0-9]{2,}\Z")
_PERMALINK = re.compile(
    r"/archives/(?P<channel>[CG][A-Z0-9]{2,})(?:/p(?P<seconds>[0-9]{1,11})(?P<micros>[0-9]{6}))?/?\Z"
)
_LONGEST_EXTRA = 20_000
_DEEPEST = 16


@dataclass(slots=True)
class SlackText:
    """A text in words; *users*, *channels* and *messages* are the ids it names, each once, in their order."""

    text: str
    users: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def named_ids(text: str) -> Iterator[str]:
    """The ids of users and channels that *text* names without saying what they are called."""
    for mark in _MARK.finditer(text):
        target, _, label = mark[1].partition("|")
        if target[:1] in "@#" and target and not label:
            yield target[1:]


def in_words(text: str, names: Mapping[str, str], workspace: str | None = None) -> SlackText:
    """*text* with names for ids. *names* are by id; *workspace* is its address, whose permalinks are references."""
    found = SlackText("")

    def words(mark: re.Match[str]) -> str:
        target, _, label = mark[1].partition("|")
        kind, name = target[:1], target[1:]
        if kind == "@" and _USER.match(name):
            _add(found.users, name)
            return f"@{names.get(name) or label.removeprefix('@') or name}"
        if kind == "#" and _CHANNEL.match(name):
            _add(found.channels, name)
            return f"#{names.get(name) or label or name}"
        if kind == "!":
            return label or f"@{name.partition('^')[0]}"
        _add_permalink(found, target, workspace)
        if target.startswith("mailto:"):
            return label or target.removeprefix("mailto:")
        return f"{label} ({target})" if label and label != target else target

    # Slack escapes these three and no others: what looks like another entity was written so.
    replaced = _MARK.sub(words, text)
    found.text = replaced.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return found


def _add(ids: list[str], one: str) -> None:
    if one not in ids:
        ids.append(one)


def _add_permalink(found: SlackText, target: str, workspace: str | None) -> None:
    if not workspace or not target.startswith("http"):
        return
    try:
        link, home = urlsplit(unescape(target)), urlsplit(workspace)
    except ValueError:
        return
    place = _PERMALINK.match(link.path)
    if place is None or link.netloc.lower() != home.netloc.lower():
        return
    if place["seconds"] is None:
        _add(found.channels, place["channel"])
    else:
        _add(found.messages, f"{place['channel']}:{place['seconds']}.{place['micros']}")


def written_text(message: Mapping[str, Any]) -> str:
    """What *message* says, still with Slack's marks: its text, what a program attached, else the words of its blocks.

    What Slack or an app unfurled from a link is no part of it.
    """
    text = message.get("text")
    parts = [text] if isinstance(text, str) and text.strip() else []
    parts += ["\n".join(_attached(attachment)) for attachment in own_attachments(message)]
    if not any(part.strip() for part in parts):
        parts.append(" ".join(_words_of_blocks(message.get("blocks"), 0)))
    return "\n".join(part for part in parts if part.strip())


def own_attachments(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The attachments that came with the message: not those that were unfurled from its links."""
    attachments = message.get("attachments")
    if not isinstance(attachments, list):
        return []
    unfurled = (
        "from_url",
        "original_url",
        "is_msg_unfurl",
        "is_app_unfurl",
        "is_reply_unfurl",
        "is_thread_root_unfurl",
    )
    return [one for one in attachments if isinstance(one, Mapping) and not any(one.get(name) for name in unfurled)]


def _attached(attachment: Mapping[str, Any]) -> Iterator[str]:
    said = False
    for name in ("pretext", "author_name", "title", "text"):
        value = attachment.get(name)
        if isinstance(value, str) and value.strip():
            said = True
            yield value
    fields = attachment.get("fields")
    for one in fields if isinstance(fields, list) else []:
        if isinstance(one, Mapping) and one.get("value"):
            said = True
            yield f"{one.get('title') or ''}: {one['value']}".removeprefix(": ")
    fallback = attachment.get("fallback")
    if not said and isinstance(fallback, str):
        yield fallback


def _words_of_blocks(node: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(node, list):
        for inner in node:
            yield from _words_of_blocks(inner, depth + 1)
    elif isinstance(node, Mapping):
        kind, text = node.get("type"), node.get("text")
        if isinstance(text, str):
            yield text[:_LONGEST_EXTRA]
        elif kind == "user" and isinstance(node.get("user_id"), str):
            yield f"<@{node['user_id']}>"
        elif kind == "channel" and isinstance(node.get("channel_id"), str):
            yield f"<#{node['channel_id']}>"
        elif kind == "link" and isinstance(node.get("url"), str):
            yield f"<{node['url']}>"
        for name in ("text", "elements", "fields", "title"):
            if isinstance(node.get(name), list | Mapping):
                yield from _words_of_blocks(node[name], depth + 1)
