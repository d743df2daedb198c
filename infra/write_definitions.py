"""Writes the definitions that the deployment reads, from the code that relies on them: ``make definitions``.

``queues.json`` and ``containers.json`` are read by the Bicep files beside this one; the third is the Service Bus
emulator's own configuration.
"""

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from messaging.queues import QUEUES
from shards.cosmos_containers import chunks_container, containers

ROOT: Final = Path(__file__).resolve().parents[1]
QUEUES_FILE: Final = "infra/queues.json"
CONTAINERS_FILE: Final = "infra/containers.json"
EMULATOR_FILE: Final = "local/emulators/service-bus/Config.json"

TIME_TO_LIVE: Final = timedelta(days=14)
"""How long a message may wait: a long outage of a source or of the app itself is over by then."""
LARGEST_QUEUE_MB: Final = 5120
"""The most that a queue of the Standard tier takes."""

EMULATOR_NAMESPACE: Final = "sbemulatorns"
"""The one namespace that the emulator has."""
EMULATOR_MAX_TIME_TO_LIVE: Final = timedelta(hours=1)
EMULATOR_MAX_DUPLICATE_WINDOW: Final = timedelta(minutes=5)
EMULATOR_MAX_DELIVERY_COUNT: Final = 10
"""The emulator's limits; Azure's own are far above what the queues ask for."""

ANY_MODEL: Final = "any-model"
ANY_DIMENSIONS: Final = 2
"""Stand for the embedding model, which the deployment's parameters name."""


def definitions() -> dict[str, str]:
    """What each file must hold, by its path in the repository."""
    return {
        QUEUES_FILE: _text(queue_definitions()),
        CONTAINERS_FILE: _text(container_definitions()),
        EMULATOR_FILE: _text(emulator_configuration()),
    }


def queue_definitions() -> list[dict[str, Any]]:
    """The queues as Azure Resource Manager has them."""
    return [
        {
            "name": queue.name,
            "properties": {
                "lockDuration": iso_duration(queue.lock_duration),
                "maxDeliveryCount": queue.max_delivery_count,
                "requiresDuplicateDetection": True,
                "duplicateDetectionHistoryTimeWindow": iso_duration(queue.duplicate_detection_window),
                "defaultMessageTimeToLive": iso_duration(TIME_TO_LIVE),
                "deadLetteringOnMessageExpiration": True,
                "requiresSession": False,
                "maxSizeInMegabytes": LARGEST_QUEUE_MB,
            },
        }
        for queue in QUEUES.values()
    ]


def container_definitions() -> list[dict[str, Any]]:
    """The containers as Azure Resource Manager has them, with ``{model}`` and ``{dimensions}`` left open."""
    opened: list[dict[str, Any]] = []
    for container in containers(ANY_MODEL, ANY_DIMENSIONS):
        resource = container.resource
        if container.name == chunks_container(ANY_MODEL, ANY_DIMENSIONS):
            resource["id"] = container.name.replace(ANY_MODEL, "{model}").replace(f"-{ANY_DIMENSIONS}", "-{dimensions}")
            for embedding in resource["vectorEmbeddingPolicy"]["vectorEmbeddings"]:
                embedding["dimensions"] = "{dimensions}"
        opened.append(resource)
    return opened


def emulator_configuration() -> dict[str, Any]:
    """The emulator's configuration: the same queues, within its limits."""
    queues = [
        {
            "Name": queue.name,
            "Properties": {
                "LockDuration": iso_duration(queue.lock_duration),
                "MaxDeliveryCount": min(queue.max_delivery_count, EMULATOR_MAX_DELIVERY_COUNT),
                "RequiresDuplicateDetection": True,
                "DuplicateDetectionHistoryTimeWindow": iso_duration(
                    min(queue.duplicate_detection_window, EMULATOR_MAX_DUPLICATE_WINDOW)
                ),
                "DefaultMessageTimeToLive": iso_duration(min(TIME_TO_LIVE, EMULATOR_MAX_TIME_TO_LIVE)),
                "DeadLetteringOnMessageExpiration": True,
                "RequiresSession": False,
            },
        }
        for queue in QUEUES.values()
    ]
    namespace: Mapping[str, Any] = {"Name": EMULATOR_NAMESPACE, "Queues": queues, "Topics": []}
    return {"UserConfig": {"Namespaces": [namespace], "Logging": {"Type": "Console"}}}


def iso_duration(time: timedelta) -> str:
    """*time* in the largest unit that it is a whole number of: ``P14D``, ``PT1H``, ``PT5M``, ``PT30S``."""
    seconds = int(time.total_seconds())
    for size, form in ((86400, "P{}D"), (3600, "PT{}H"), (60, "PT{}M")):
        if seconds and seconds % size == 0:
            return form.format(seconds // size)
    return f"PT{seconds}S"


def _text(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"


def main() -> None:
    """Write the files, and name those that changed."""
    for name, text in definitions().items():
        file = ROOT / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name} written\n")


if __name__ == "__main__":
    main()
