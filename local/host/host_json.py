"""The ``host.json`` of the app: those settings that mean something on one machine, with Azure's own defaults."""

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from local.host.errors import HostError

_TIMESPAN: Final = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,7}))?")
_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}


def timespan(text: str) -> timedelta:
    """A .NET time span, ``[d.]hh:mm:ss[.fraction]``, as host.json and bindings write it.

    Raises:
        ValueError: *text* is no time span.
    """
    match = _TIMESPAN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time span such as 00:05:00")
    days, hours, minutes, seconds, fraction = match.groups()
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59:
        raise ValueError(f"{text!r} is no time span: hours go to 23, minutes and seconds to 59")
    return timedelta(
        days=int(days or 0),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int((fraction or "0").ljust(6, "0")[:6]),
    )


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Settings of the whole app.

    The defaults are those of the Functions host and its Service Bus extension 5.x; *function_timeout* None: unbounded;
    *log_levels* by log category, ``default`` for all that is not named.
    """

    route_prefix: str = "api"
    max_message_batch_size: int = 1000
    min_message_batch_size: int = 1
    max_batch_wait_time: timedelta = timedelta(seconds=30)
    max_concurrent_calls: int = 16 * (os.cpu_count() or 1)
    max_auto_lock_renewal: timedelta = timedelta(minutes=5)
    function_timeout: timedelta | None = timedelta(minutes=30)
    log_levels: Mapping[str, int] = field(default_factory=dict)

    def apply_log_levels(self) -> None:
        """Set the level of each category's logger, which holds for those below it: ``Function`` for ``Function.x``."""
        for category, level in self.log_levels.items():
            logging.getLogger(None if category == "default" else category).setLevel(level)


class _Section:
    """A JSON object of the file, which names the place when a value is not what it must be."""

    def __init__(self, source: Path, place: str, content: Any) -> None:
        if not isinstance(content, dict):
            raise HostError(f"{source}: {place or 'the file'} must be a JSON object")
        self._source, self._place, self._content = source, place, content

    def section(self, name: str) -> "_Section":
        return _Section(self._source, self._name(name), self._content.get(name, {}))

    def whole(self, name: str, default: int, *, least: int = 1) -> int:
        value = self._content.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise HostError(f"{self._source}: {self._name(name)} must be a whole number from {least}, not {value!r}")
        return value

    def text(self, name: str, default: str) -> str:
        value = self._content.get(name, default)
        if not isinstance(value, str):
            raise HostError(f"{self._source}: {self._name(name)} must be a text, not {value!r}")
        return value

    def span(self, name: str, default: timedelta) -> timedelta:
        if name not in self._content:
            return default
        try:
            return timespan(self.text(name, ""))
        except ValueError as error:
            raise HostError(f"{self._source}: {self._name(name)}: {error}") from None

    def levels(self, name: str) -> dict[str, int]:
        levels = {}
        for category in self.section(name)._content:
            word = self.section(name).text(category, "").lower()
            if word not in _LEVELS:
                raise HostError(
                    f"{self._source}: {self._name(name)}.{category} must be one of {', '.join(_LEVELS)}, not {word!r}"
                )
            levels[category] = _LEVELS[word]
        return levels

    def _name(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name


def read_host_json(path: Path) -> HostSettings:
    """The settings in the file at *path*; what it does not name keeps its default.

    Raises:
        HostError: the file is missing, is no JSON, or a value in it is not what it must be.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HostError(f"{path} is missing; a Functions app has a host.json beside its function_app.py") from None
    except (OSError, ValueError) as error:
        raise HostError(f"{path} can't be read as JSON: {error}") from None
    root = _Section(path, "", content)
    if root.text("version", "") != "2.0":
        raise HostError(f'{path}: version must be "2.0"')
    bus = root.section("extensions").section("serviceBus")
    default = HostSettings()
    settings = HostSettings(
        route_prefix=root.section("extensions").section("http").text("routePrefix", "api").strip("/"),
        max_message_batch_size=bus.whole("maxMessageBatchSize", default.max_message_batch_size),
        min_message_batch_size=bus.whole("minMessageBatchSize", default.min_message_batch_size),
        max_batch_wait_time=bus.span("maxBatchWaitTime", default.max_batch_wait_time),
        max_concurrent_calls=bus.whole("maxConcurrentCalls", default.max_concurrent_calls),
        max_auto_lock_renewal=bus.span("maxAutoLockRenewalDuration", default.max_auto_lock_renewal),
        function_timeout=(
            None if root.text("functionTimeout", "") == "-1" else root.span("functionTimeout", timedelta(minutes=30))
        ),
        log_levels=root.section("logging").levels("logLevel"),
    )
    # The Service Bus extension refuses to start on these two, so the app must hear of them here as well.
    if settings.min_message_batch_size > settings.max_message_batch_size:
        raise HostError(f"{path}: extensions.serviceBus.minMessageBatchSize is above maxMessageBatchSize")
    if settings.max_batch_wait_time > timedelta(minutes=2, seconds=30):
        raise HostError(f"{path}: extensions.serviceBus.maxBatchWaitTime is above 00:02:30")
    return settings
