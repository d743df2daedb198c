"""What keeps the host from starting."""


class HostError(Exception):
    """The host can't run the app as it stands. The text is one line that names the cause and the remedy."""
