"""Waits until the emulators answer: two of their images have no shell, so Docker can't ask them itself.

python -m local.emulators.wait
"""

import http.client
import sys
import time
from collections.abc import Mapping
from typing import Final

ADDRESSES: Final = {
    "Service Bus": "127.0.0.1:5300/health",
    "Cosmos DB": "127.0.0.1:8081/",
    "Azurite": "127.0.0.1:10000/",
}
"""Where each one answers, each on this machine. Any answer below 500 is one: some ask for a key first."""

PATIENCE: Final = 300.0
"""Seconds; the first start makes two databases."""
_BETWEEN: Final = 1.0
_ANSWER_WITHIN: Final = 5.0


def wait_for(addresses: Mapping[str, str], patience: float, between: float = _BETWEEN) -> dict[str, str]:
    """Why which of them does not answer after *patience* seconds; empty when all do."""
    until = time.monotonic() + patience
    waiting = dict(addresses)
    while True:
        silent = {name: reason for name, address in waiting.items() if (reason := _silence(address))}
        waiting = {name: waiting[name] for name in silent}
        if not waiting or time.monotonic() >= until:
            return silent
        time.sleep(between)


def _silence(address: str) -> str:
    """Why *address* gives no answer; nothing when it does."""
    host, _, path = address.partition("/")
    connection = http.client.HTTPConnection(host, timeout=_ANSWER_WITHIN)
    try:
        connection.request("GET", f"/{path}")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return f"it answers {status}" if status >= 500 else ""


def main() -> None:
    """Wait for all, and end with 1 when one stays silent."""
    silent = wait_for(ADDRESSES, PATIENCE)
    for name, reason in silent.items():
        sys.stderr.write(f"{name} at {ADDRESSES[name]} does not answer: {reason}; see docker compose logs\n")
    if silent:
        sys.exit(1)
    sys.stdout.write("The emulators answer.\n")


if __name__ == "__main__":
    main()
