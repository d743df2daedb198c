"""``python -m local.gdrive``: the simulator as a process of its own.

It prints one line, its address, when it takes calls, and ends when its standard input closes. The service account that
is let in comes from the environment: its public key in ``SHARDLINE_SIMULATOR_GDRIVE_PUBLIC_KEY``, its address in
``SHARDLINE_SIMULATOR_GDRIVE_CLIENT_EMAIL``. What is wrong is one line on standard error: exit code 2 for a bad
argument, 1 for a company directory that can't be read or a port in use, 130 for Ctrl-C.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from local.company import CompanyError
from local.gdrive.load import load_drive
from local.gdrive.server import simulator_from_environment
from local.simulator_process import SimulatorError, listen


def main() -> int:
    """Serve until standard input closes or Ctrl-C; the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _serve()
    except KeyboardInterrupt:
        return 130


def _serve() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.gdrive", description="The Drives of a domain on loopback.")
    parser.add_argument("--company", type=Path, metavar="DIR", required=True, help="serve a company directory")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, takes a free one")
    arguments = parser.parse_args()
    try:
        simulator = simulator_from_environment(load_drive(arguments.company), os.environ)
        listener = listen(arguments.port)
    except (CompanyError, SimulatorError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    simulator.serve_until_input_ends(listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
