"""What the workspace's one app is let in with, and what it may do."""

import secrets
from dataclasses import dataclass, field
from typing import Final

ALL_SCOPES: Final = (
    "channels:history",
    "channels:join",
    "channels:read",
    "files:read",
    "groups:history",
    "groups:read",
    "team:read",
    "users:read",
    "users:read.email",
)
"""Scopes of a bot token that reads a workspace."""


@dataclass
class Credentials:
    """Made up anew where not given. *scopes* are the bot token's; the app token is for ``apps.event…`` alone."""

    bot_token: str = field(default_factory=lambda: f"xoxb-{secrets.token_hex(20)}", repr=False)
    signing_secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    app_token: str = field(default_factory=lambda: f"xapp-{secrets.token_hex(20)}", repr=False)
    verification_token: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    scopes: set[str] = field(default_factory=lambda: set(ALL_SCOPES))
