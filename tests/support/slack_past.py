"""What was so in a Slack workspace at some time, which Slack itself does not tell any more."""

from typing import cast

from slack_source_rig import TEAM

from local.slack.workspace import Workspace

OUTSIDER = "eve@acme.example"
"""One of the tenant's people who is not in the workspace."""


class SlackPast:
    """Of one workspace, from the beginning of a life on."""

    def __init__(self, slack: Workspace) -> None:
        self._slack = slack
        self.ended: set[str] = set()
        """Channels that were deleted."""
        self.moved: dict[str, str] = {}
        """Channels that have got another id, and which."""
        self.addresses: set[str] = {OUTSIDER}
        """Of all who may ask to read anything."""
        self.guests: set[str] = set()
        """Users who have ever been guests."""
        self.may_have_read: dict[str, set[str]] = {}
        """Of channels that have never been public, the addresses of all who were ever in them."""
        self.was_out: set[str] = set()
        """Channels that the app was not in at some time: of what happened there meanwhile it was told nothing."""
        self.passed_on: set[str] = set()
        """Addresses that somebody has had, and somebody else may have."""

    def address(self, user: str) -> str | None:
        """The one that a user has now."""
        return cast(str | None, self._slack.users[user]["profile"].get("email"))

    def note_user(self, user: str) -> None:
        """Keep what a user is now."""
        known = self._slack.users[user]
        self.addresses.add(known["profile"]["email"])
        if known.get("is_restricted") or known["team_id"] != TEAM:
            self.guests.add(user)

    def note_readers(self) -> None:
        """Keep who reads what now."""
        for channel in self._slack.channels.values():
            if self._slack.bot_user_id not in channel.members:
                self.was_out.add(channel.id)
            if not channel.is_private:
                self.may_have_read.pop(channel.id, None)
            elif channel.id in self.may_have_read:
                members = {address for one in channel.members if (address := self.address(one))}
                self.may_have_read[channel.id] |= members
