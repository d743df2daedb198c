"""The functions that a worker has indexed, as the host reads their metadata."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SETTING = re.compile(r"%([^%]+)%")


class MissingSettingError(Exception):
    """A binding names a setting that the environment lacks; on Azure the whole host stays down then."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """A function's retry policy: how often it is tried again, and after how many seconds."""

    count: int
    delay: float


@dataclass(frozen=True)
class Function:
    """A function: its bindings as the worker gave them, and the trigger among them."""

    name: str
    id: str
    bindings: tuple[dict[str, Any], ...]
    retry: RetryPolicy | None = None

    @property
    def trigger(self) -> dict[str, Any]:
        """The binding that starts it."""
        [trigger] = [binding for binding in self.bindings if str(binding["type"]).endswith("Trigger")]
        return trigger

    @property
    def kind(self) -> str:
        """The trigger's type: httpTrigger, timerTrigger, serviceBusTrigger, cosmosDBTrigger."""
        return str(self.trigger["type"])

    @property
    def parameter(self) -> str:
        """The parameter that gets the trigger's value."""
        return str(self.trigger["name"])

    @property
    def takes_batches(self) -> bool:
        """Whether a queue function gets many messages at once."""
        return str(self.trigger.get("cardinality", "one")).lower() == "many"

    @property
    def takes_bytes(self) -> bool:
        """Whether a queue function asks for its messages' bytes; else the host makes strings of them."""
        return str(self.trigger.get("dataType", "")).lower() == "binary"

    def setting(self, name: str, environment: Mapping[str, str]) -> str:
        """The trigger's property *name* with each ``%SETTING%`` replaced.

        Raises:
            MissingSettingError: the environment lacks it.
        """

        def value(match: re.Match[str]) -> str:
            if match[1] not in environment:
                raise MissingSettingError(f"function {self.name}: the setting {match[1]} is missing")
            return environment[match[1]]

        return _SETTING.sub(value, str(self.trigger[name]))


def read_function(metadata: Mapping[str, Any]) -> Function:
    """A function of the worker's answer to the metadata request."""
    retry = metadata["retry"]
    return Function(
        name=metadata["name"],
        id=metadata["id"],
        bindings=tuple(metadata["bindings"]),
        retry=None
        if retry is None
        else RetryPolicy(int(retry["count"]), float(retry.get("delay", retry.get("minimum", 0.0)))),
    )
