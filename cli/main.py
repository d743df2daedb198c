"""``shardline`` as a program, which takes Ctrl-C before it reads anything else: that takes most of a second."""

import sys

from local.interrupts import take_interrupts


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    from cli.command_line import call

    return call(sys.argv[1:] if arguments is None else arguments)


def run() -> None:
    """The console script."""
    take_interrupts()
    sys.exit(main())


if __name__ == "__main__":
    run()
