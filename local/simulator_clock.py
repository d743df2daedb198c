"""The time that a vendor simulator goes by."""

from datetime import UTC, datetime, timedelta


class SimulatorClock:
    """A simulator's time: the machine's, moved by an offset, or standing still."""

    def __init__(self) -> None:
        self._offset = timedelta()
        self._frozen: datetime | None = None

    def __call__(self) -> datetime:
        """The present moment, in UTC."""
        return self._frozen if self._frozen is not None else datetime.now(UTC) + self._offset

    def freeze(self, moment: datetime) -> None:
        """Let it be *moment* until further notice."""
        self._frozen = moment.astimezone(UTC)

    def advance(self, by: timedelta) -> None:
        """Move the time on, whether it stands or runs."""
        if self._frozen is not None:
            self._frozen += by
        else:
            self._offset += by

    def run(self) -> None:
        """Go with the machine's time again."""
        self._frozen, self._offset = None, timedelta()
