"""``python -m local.gdrive``: the simulator as a process of its own.

It prints one line, its address, when it takes calls, and ends when its standard input closes. The service account that
is let in comes from the environment: its public key in ``SHARDLINE_SIMULATOR_GDRIVE_PUBLIC_KEY``, its address in
``SHARDLINE_SIMULATOR_GDRIVE_CLIENT_EMAIL``. What is wrong is one line on standard error: exit code 2 for a bad
argument, 1 for a company directory that can't be read or a port in use, 130 for Ctrl-C.
"""

import argparse
import os
from pathlib import Path

from local.gdrive.load import load_drive
from local.gdrive.server import DriveSimulator, simulator_from_environment
from local.simulator_program import run_simulator


def main() -> int:
    """Serve until standard input closes or Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.gdrive", description="The Drives of a domain on loopback.")
    parser.add_argument("--company", type=Path, metavar="DIR", required=True, help="serve a company directory")
    return run_simulator(parser, _simulator)


def _simulator(arguments: argparse.Namespace) -> DriveSimulator:
    return simulator_from_environment(load_drive(arguments.company), os.environ)
