"""``python -m local.gdrive``, which takes Ctrl-C before it reads :mod:`local.gdrive.program`."""

import sys

from local.interrupts import take_interrupts


def run() -> None:
    """The program."""
    take_interrupts()
    from local.gdrive.program import main

    sys.exit(main())


if __name__ == "__main__":
    run()
