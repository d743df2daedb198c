"""What a FunctionApp holds, read once and checked: its functions by trigger, as the host runs them."""

import importlib
import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import azure.functions as func

from local.host.errors import HostError
from local.host.host_json import HostSettings, read_host_json
from local.host.routes import RouteTemplate
from local.host.schedule import Schedule
from settings import SettingsError

_SETTING: Final = re.compile(r"%([^%]+)%")
_ALL_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
CHANGE_FEED_CONTAINER: Final = "shards"
"""The one container that has a change feed on one machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFunction:
    """A function of the app. *parameter* takes what triggered it; *wants_context* asks for a ``func.Context`` too."""

    name: str
    call: Callable[..., Any]
    parameter: str
    is_async: bool
    wants_context: bool
    directory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFunction(IndexedFunction):
    """A function behind a route. *auth_level* is anonymous, function or admin."""

    route: RouteTemplate
    methods: tuple[str, ...]
    auth_level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFunction(IndexedFunction):
    """A function that runs on a schedule."""

    schedule: Schedule
    run_on_startup: bool
    use_monitor: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFunction(IndexedFunction):
    """A function that takes messages of a queue, one by one or in batches."""

    queue: str
    batches: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFunction(IndexedFunction):
    """A function that follows the change feed of the shards."""

    max_items: int
    poll_delay: timedelta
    from_beginning: bool


@dataclass(frozen=True, slots=True)
class AppIndex:
    """The functions of an app by trigger, and the app's settings. *notes* are for the operator to know at start."""

    settings: HostSettings
    http: tuple[HttpFunction, ...] = ()
    timers: tuple[TimerFunction, ...] = ()
    queues: tuple[QueueFunction, ...] = ()
    feeds: tuple[FeedFunction, ...] = ()
    notes: tuple[str, ...] = field(default=())


_functions: WeakKeyDictionary[func.FunctionApp, list[Any]] = WeakKeyDictionary()


def index_app(
    app: func.FunctionApp, settings: HostSettings, *, environment: Mapping[str, str] = os.environ
) -> AppIndex:
    """The index of *app*; *environment* gives the values of ``%SETTING%`` in queue names and schedules.

    Raises:
        HostError: a function of the app can't run on this host; the text names it and says why.
    """
    if app not in _functions:
        # An app object gives its functions only once: asked again, it takes them for duplicates of themselves.
        try:
            _functions[app] = app.get_functions()
        except ValueError as error:
            raise HostError(f"the app can't be indexed: {' '.join(str(error).split())}") from error
    indexed = [_index(function, environment) for function in _functions[app]]
    http = tuple(sorted((one for one in indexed if isinstance(one, HttpFunction)), key=lambda one: one.route.sort_key))
    _refuse_shared_routes(http)
    queues = tuple(one for one in indexed if isinstance(one, QueueFunction))
    return AppIndex(
        settings=settings,
        http=http,
        timers=tuple(one for one in indexed if isinstance(one, TimerFunction)),
        queues=queues,
        feeds=tuple(one for one in indexed if isinstance(one, FeedFunction)),
        notes=tuple(
            f"the retry policy of function {function.get_function_name()} is not applied on one machine"
            for function in _functions[app]
            if function.get_setting("retry_policy") is not None and not _follows_changes(function)
        ),
    )


def load_app(module_name: str, host_json: Path | None = None) -> AppIndex:
    """The index of the FunctionApp that *module_name* holds as ``app``, with its host.json.

    The host.json is the one beside the module unless *host_json* names another.

    Raises:
        HostError: the module holds no app, or what :func:`index_app` and :func:`read_host_json` refuse.
    """
    try:
        module = importlib.import_module(module_name)
    except SettingsError as error:
        raise HostError(str(error)) from None
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise HostError(f"there is no module {module_name} to take the functions from") from None
    app = getattr(module, "app", None)
    if not isinstance(app, func.FunctionApp):
        raise HostError(f"module {module_name} holds no azure.functions.FunctionApp named app")
    if host_json is None:
        if module.__file__ is None:
            raise HostError(f"module {module_name} has no file, so there is no host.json beside it")
        host_json = Path(module.__file__).with_name("host.json")
    return index_app(app, read_host_json(host_json))


def _index(function: Any, environment: Mapping[str, str]) -> IndexedFunction:
    name = str(function.get_function_name())
    trigger: dict[str, Any] = {}
    for raw in function.get_raw_bindings():
        binding = json.loads(raw)
        if binding["type"].endswith("Trigger"):
            trigger = binding
        elif not (binding["type"] == "http" and binding["name"] == "$return"):
            raise HostError(f"function {name}: the binding {binding['type']} {binding['name']!r} is not supported here")
    call = function.get_user_function()
    parameters = set(inspect.signature(call).parameters)
    if trigger["name"] not in parameters:
        raise HostError(f"function {name}: it has no parameter {trigger['name']!r} for its trigger")
    extra = parameters - {trigger["name"], "context"}
    if extra:
        raise HostError(f"function {name}: no binding gives it the parameter {sorted(extra)[0]!r}")
    common: dict[str, Any] = {
        "name": name,
        "call": call,
        "parameter": trigger["name"],
        "is_async": inspect.iscoroutinefunction(call),
        "wants_context": "context" in parameters,
        "directory": str(Path(inspect.getfile(inspect.unwrap(call))).parent),
    }
    try:
        return _by_trigger(trigger, common, environment)
    except ValueError as error:
        raise HostError(f"function {name}: {error}") from None


def _follows_changes(function: Any) -> bool:
    """Whether it follows a change feed: what fails there comes again, with or without a policy."""
    return any(json.loads(raw)["type"] == "cosmosDBTrigger" for raw in function.get_raw_bindings())


def _by_trigger(trigger: dict[str, Any], common: dict[str, Any], environment: Mapping[str, str]) -> IndexedFunction:
    match trigger["type"]:
        case "httpTrigger":
            return HttpFunction(
                **common,
                route=RouteTemplate(trigger["route"]),
                methods=tuple(method.upper() for method in trigger.get("methods") or _ALL_METHODS),
                auth_level=str(trigger.get("authLevel", "function")).lower(),
            )
        case "timerTrigger":
            return TimerFunction(
                **common,
                schedule=Schedule(_resolve(trigger["schedule"], environment)),
                run_on_startup=bool(trigger.get("runOnStartup", False)),
                use_monitor=bool(trigger.get("useMonitor", True)),
            )
        case "serviceBusTrigger":
            if "queueName" not in trigger:
                raise ValueError("topics and subscriptions are not supported here")
            if trigger.get("isSessionsEnabled"):
                raise ValueError("queues with sessions are not supported here")
            if trigger.get("autoCompleteMessages") is False:
                raise ValueError("autoCompleteMessages=False is not supported here")
            return QueueFunction(
                **common,
                queue=_resolve(trigger["queueName"], environment),
                batches=str(trigger.get("cardinality", "one")).lower() == "many",
            )
        case "cosmosDBTrigger":
            container = _resolve(trigger.get("containerName", ""), environment)
            if container != CHANGE_FEED_CONTAINER:
                raise ValueError(
                    f"container {container!r} has no change feed here; only {CHANGE_FEED_CONTAINER!r} has one"
                )
            return FeedFunction(
                **common,
                # 100 items and 5 seconds are the trigger's own defaults.
                max_items=int(trigger.get("maxItemsPerInvocation", 100)),
                poll_delay=timedelta(milliseconds=int(trigger.get("feedPollDelay", 5000))),
                from_beginning=bool(trigger.get("startFromBeginning", False)),
            )
        case other:
            raise ValueError(f"the trigger {other} is not supported here")


def _resolve(text: str, environment: Mapping[str, str]) -> str:
    """*text* with each ``%NAME%`` replaced by the setting of that name."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ValueError(f"the setting {match[1]} that {text!r} names is missing")
        return environment[match[1]]

    return _SETTING.sub(value, text)


def _refuse_shared_routes(functions: tuple[HttpFunction, ...]) -> None:
    taken: dict[tuple[object, ...], HttpFunction] = {}
    for one in functions:
        for method in one.methods:
            other = taken.setdefault((method, one.route.shape), one)
            if other is not one:
                raise HostError(f"functions {other.name} and {one.name} both answer {method} {one.route.template}")
