"""A vendor simulator as a program: ``python -m local.<vendor>``."""

import argparse
import logging
import sys
from collections.abc import Callable

from local.company import CompanyError
from local.simulator_process import ServedSimulator, SimulatorError, listen


def run_simulator(parser: argparse.ArgumentParser, build: Callable[[argparse.Namespace], ServedSimulator]) -> int:
    """Serve what *build* makes of the command line until standard input closes; the exit code.

    ``--port`` is added to the arguments of *parser*. A company that can't be read and a port in use are a line on
    standard error.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, takes a free one")
    arguments = parser.parse_args()
    try:
        simulator = build(arguments)
        listener = listen(arguments.port)
        simulator.serve_until_input_ends(listener)
    except (CompanyError, SimulatorError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
