"""``python -m local.slack``: the simulator as a process of its own.

It prints one line, its address, when it takes calls, and ends when its standard input closes. Credentials come from the
environment (``SHARDLINE_SIMULATOR_SLACK_…``). What is wrong is one line on standard error: exit code 2 for a bad
argument, 1 for a company directory that can't be read or a port in use, 130 for Ctrl-C.
"""

import argparse
import os
from pathlib import Path

from local.company import CompanyError
from local.simulator_program import run_simulator
from local.slack.export import load_workspace
from local.slack.server import SlackSimulator, credentials_from_environment


def main() -> int:
    """Serve until standard input closes or Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.slack", description="A Slack workspace on loopback.")
    parser.add_argument("--company", type=Path, metavar="DIR", required=True, help="serve a company directory's export")
    parser.add_argument("--unlimited", action="store_true", help="without the rate limits of the vendor")
    return run_simulator(parser, _simulator)


def _simulator(arguments: argparse.Namespace) -> SlackSimulator:
    if not arguments.company.is_dir():
        raise CompanyError(f"{arguments.company}: no such directory; give the path of a company directory")
    simulator = SlackSimulator(load_workspace(arguments.company), credentials_from_environment(os.environ))
    if arguments.unlimited:
        simulator.api.limits.scale = None
    return simulator
