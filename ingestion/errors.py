"""What can go wrong between Shardline and a source, by what has to be done about it; sources add their own below."""

from datetime import datetime, timedelta


class SourceError(Exception):
    """Base of all; the message can be shown and stored: it carries no credential."""


class TransientError(SourceError):
    """Asking again later may work; *after* is when the source said, None when it did not."""

    def __init__(self, message: str, after: timedelta | None = None, *, smaller: bool = False) -> None:
        super().__init__(message)
        self.after = after
        self.smaller = smaller
        """Whether a smaller page has better chances."""


class RepeatError(SourceError):
    """The same call again may work at once."""


class BudgetExhaustedError(SourceError):
    """The calls are used up, as far as Shardline may use them; *until* None: the source itself said so."""

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class CredentialError(SourceError):
    """The connection can't be used until someone changes it; the message says what to do."""
