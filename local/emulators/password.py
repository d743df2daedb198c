"""Makes the password of the database behind the Service Bus emulator, once for each clone.

python -m local.emulators.password .cache/emulators.env
"""

import secrets
import string
import sys
from pathlib import Path
from typing import Final

VARIABLE: Final = "MSSQL_SA_PASSWORD"
_KINDS: Final = (string.ascii_uppercase, string.ascii_lowercase, string.digits)


def make_password_file(file: Path) -> bool:
    """Write *file*, for its owner alone, unless it is there; whether it was made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # The server wants three kinds of characters.
    characters = [secrets.choice(kind) for kind in _KINDS]
    characters += [secrets.choice("".join(_KINDS)) for _ in range(29)]
    secrets.SystemRandom().shuffle(characters)
    try:
        file.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return False
    file.write_text(f"{VARIABLE}={''.join(characters)}\n", encoding="ascii")
    return True


def main() -> None:
    """Make the file that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("name the file to write: python -m local.emulators.password FILE")
    make_password_file(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
