"""The peer as a process: ``python -m cosmos_peer``, with ``tests/support`` and the repository on the path."""

import argparse
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from cosmos_peer.peer import PARTITIONS, CosmosPeer

_ENDS = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    """Serve until the starter's end of the control pipe closes, or without one until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m cosmos_peer", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; a free one by default")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it is open")
    parser.add_argument("--partitions", type=int, default=PARTITIONS, help="physical partitions of a new container")
    parser.add_argument("--control", type=int, help="the descriptor of a pipe to the process that started this one")
    options = parser.parse_args()
    if options.control is None:
        # Before there is a second thread, which would take the signals otherwise.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    else:
        # Ctrl-C is the starter's to answer; this process ends after it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with CosmosPeer(partitions=options.partitions, port=options.port) as peer:
        if options.port_file is not None:
            options.port_file.write_text(f"{peer.port}\n")
        if options.control is None:
            print(f"AccountEndpoint={peer.endpoint};AccountKey={peer.key};", flush=True)
            signal.sigwait(_ENDS)
        else:
            with Connection(options.control) as control:
                _obey(peer, control)


def _obey(peer: CosmosPeer, control: Connection) -> None:
    control.send(peer.port)
    while True:
        try:
            name, arguments = control.recv()
        except (EOFError, ConnectionError):
            return
        try:
            control.send(getattr(peer, name)(*arguments))
        except Exception as error:  # noqa: BLE001 - raised where it was asked
            control.send(error)


if __name__ == "__main__":
    main()
