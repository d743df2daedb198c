"""``python -m local.salesforce``: the simulator as a process of its own.

It prints one line, its address, when it takes calls, and ends when its standard input closes. Credentials come from the
environment (``SHARDLINE_SIMULATOR_SALESFORCE_…``). What is wrong is one line on standard error: exit code 2 for a bad
argument, 1 for a company directory that can't be read or a port in use, 130 for Ctrl-C.
"""

import argparse
import gc
import os
from pathlib import Path

from local.company import load_company
from local.salesforce.contacts import contacts_company
from local.salesforce.hostile import HostileCursor, hostile_company
from local.salesforce.org import Org
from local.salesforce.server import SalesforceSimulator, credentials_from_environment
from local.simulator_program import run_simulator


def main() -> int:
    """Serve until standard input closes or Ctrl-C; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.salesforce", description="A Salesforce org on loopback.")
    served = parser.add_mutually_exclusive_group(required=True)
    served.add_argument("--company", type=Path, metavar="DIR", help="serve the exports of a company directory")
    served.add_argument("--contacts", type=int, metavar="N", help="serve N made-up contacts, for measuring")
    served.add_argument("--hostile", action="store_true", help="serve the hostile cursor, epoch by epoch")
    return run_simulator(parser, _simulator)


def _simulator(arguments: argparse.Namespace) -> SalesforceSimulator:
    simulator = _simulator_of(arguments)
    # The records stay; without this the collector would walk through all of them while pages are made.
    gc.collect()
    gc.freeze()
    return simulator


def _simulator_of(arguments: argparse.Namespace) -> SalesforceSimulator:
    credentials = credentials_from_environment(os.environ)
    if arguments.hostile:
        org = Org(hostile_company())
        play = HostileCursor(org)
        simulator = SalesforceSimulator(org, credentials, play.set_epoch)
        play.play_on(simulator.api)
        return simulator
    company = load_company(arguments.company) if arguments.company else contacts_company(arguments.contacts)
    return SalesforceSimulator(Org(company), credentials)
