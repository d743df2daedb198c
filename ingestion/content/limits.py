"""What reading one file may take."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are in bytes; *seconds* are those of the clock, and of the processor as well.

    *unzip_ratio* is how many times its packed size an Office document may have unpacked; *nesting* is how deep XML may
    go; of a text *characters* are kept.
    """

    seconds: float = 60
    memory: int = 1024**3
    input_size: int = 50 * 1024**2
    unzipped_size: int = 300 * 1024**2
    unzip_ratio: int = 200
    zip_entries: int = 10_000
    nesting: int = 500
    characters: int = 2_000_000
