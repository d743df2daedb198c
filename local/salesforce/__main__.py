"""``python -m local.salesforce``, which takes Ctrl-C before it reads :mod:`local.salesforce.program`."""

import sys

from local.interrupts import take_interrupts


def run() -> None:
    """The program."""
    take_interrupts()
    from local.salesforce.program import main

    sys.exit(main())


if __name__ == "__main__":
    run()
