"""The peer as a process: ``python -m service_bus_peer``, with ``tests/support`` and the repository on the path."""

import argparse
import os
import signal
from multiprocessing.connection import Client
from pathlib import Path

from service_bus_peer.peer import CONTROL_KEY, MAX_MESSAGE_SIZE, ServiceBusPeer

_ENDS = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    """Serve until the starter's control connection ends, or without one until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m service_bus_peer", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; a free one by default")
    parser.add_argument("--port-file", type=Path, help="where to write the port once it is open")
    parser.add_argument("--max-message-size", type=int, default=MAX_MESSAGE_SIZE, help="in bytes")
    parser.add_argument("--control", help="host:port of the process that started this one")
    options = parser.parse_args()
    # Before there is a second thread, which would take the signals otherwise.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    with ServiceBusPeer(port=options.port, max_message_size=options.max_message_size) as peer:
        if options.port_file is not None:
            options.port_file.write_text(f"{peer.port}\n")
        if options.control is None:
            print(peer.connection_string, flush=True)
            signal.sigwait(_ENDS)
        else:
            host, port = options.control.rsplit(":", 1)
            _obey(peer, host, int(port))


def _obey(peer: ServiceBusPeer, host: str, port: int) -> None:
    with Client((host, port), authkey=os.environ[CONTROL_KEY].encode()) as control:
        control.send(peer.port)
        while True:
            try:
                target, method, args, options = control.recv()
            except EOFError:
                return
            try:
                control.send(getattr(getattr(peer, target), method)(*args, **options))
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                control.send(error)


if __name__ == "__main__":
    main()
