"""``python -m local.slack``, which takes Ctrl-C before it reads :mod:`local.slack.program`."""

import sys

from local.interrupts import take_interrupts


def run() -> None:
    """The program."""
    take_interrupts()
    from local.slack.program import main

    sys.exit(main())


if __name__ == "__main__":
    run()
