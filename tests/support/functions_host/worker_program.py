"""The worker's side, run in the environment of the Functions worker: one process is one worker instance.

It answers the host's requests with Microsoft's library (``azure_functions_runtime``) and sends on what the functions
log. It imports nothing else that is not of Python, so that an app whose requirements are broken is reported by the
library and not by this program. Requests and answers are JSON objects in frames of a length (4 bytes, big-endian) and a
text, over the socket whose descriptor is the one argument; bytes travel in base 64. Between host and worker stands
protobuf on Azure; the library reads its messages by attribute, so plain objects of the same names do.
"""

import asyncio
import contextvars
import json
import logging
import os
import socket
import sys
import traceback
from base64 import b64decode, b64encode
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

MESSAGES = (
    "WorkerInitResponse",
    "WorkerMetadata",
    "FunctionMetadataResponse",
    "FunctionLoadResponse",
    "InvocationResponse",
    "RpcFunctionMetadata",
    "RpcRetryOptions",
    "RpcException",
    "RpcHttp",
    "FunctionEnvironmentReloadResponse",
)
SUCCESS = 1

_invocation: contextvars.ContextVar[str | None] = contextvars.ContextVar("invocation", default=None)


class _Fields:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class _OneOf(_Fields):
    """A message of which one field is set."""

    def WhichOneof(self, _: str) -> str | None:
        return next(iter(self.__dict__), None)


class _ParameterBinding(_Fields):
    def WhichOneof(self, _: str) -> str:
        return "data"


def _protos() -> ModuleType:
    """What the library uses of the protocol's generated module."""
    module = ModuleType("functions_rpc")
    for name in MESSAGES:
        setattr(module, name, type(name, (_Fields,), {}))
    directions = {"undefined": 0, "string": 1, "binary": 2, "stream": 3, "in": 0, "out": 1, "inout": 2}
    vars(module).update(
        TypedData=_OneOf,
        ParameterBinding=_ParameterBinding,
        BindingInfo=type("BindingInfo", (_Fields,), directions),
        StatusResult=type("StatusResult", (_Fields,), {"Failure": 0, "Success": SUCCESS, "Cancelled": 2}),
        RpcHttpCookie=type("RpcHttpCookie", (_Fields,), {"SameSite": type("SameSite", (), {})}),
    )
    return module


def _typed_data(data: dict[str, Any]) -> _OneOf:
    """TypedData as it came over the socket: at most one field."""
    if not data:
        return _OneOf()
    [(kind, value)] = data.items()
    match kind:
        case "bytes":
            value = b64decode(value)
        case "collection_bytes":
            value = SimpleNamespace(bytes=[b64decode(one) for one in value])
        case "collection_string":
            value = SimpleNamespace(string=value)
        case "collection_sint64":
            value = SimpleNamespace(sint64=value)
        case "http":
            value = SimpleNamespace(**{**value, "body": _typed_data(value["body"])})
    return _OneOf(**{kind: value})


def _plain(data: Any) -> dict[str, Any]:
    """TypedData as it goes over the socket."""
    if data is None:
        return {}
    kind = data.WhichOneof("data")
    value = getattr(data, kind)
    if kind == "bytes":
        return {"bytes": b64encode(value).decode()}
    if kind == "http":
        return {
            "http": {
                "status_code": int(value.status_code),
                "headers": dict(value.headers),
                "body": _plain(value.body),
            }
        }
    return {kind: value}


class _Forwarder(logging.Handler):
    """Sends each log record on, with the invocation it belongs to."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send
        self._text = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        from azure_functions_runtime import invocation_id_cv

        self._send(
            {
                "log": {
                    "category": record.name,
                    "level": record.levelname,
                    "message": self._text.format(record),
                    "invocation": _invocation.get() or invocation_id_cv.get(),
                }
            }
        )


class _Worker:
    """Answers requests."""

    def __init__(self) -> None:
        import azure_functions_runtime

        self._runtime = azure_functions_runtime
        self._properties = {"host": "127.0.0.1", "protos": _protos()}
        self._runtime.start_threadpool_executor()

    def _request(self, **message: Any) -> SimpleNamespace:
        return SimpleNamespace(request=SimpleNamespace(**message), properties=self._properties)

    async def init(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Load and index the app."""
        directory = ask["directory"]
        done = await self._runtime.worker_init_request(
            self._request(worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=directory))
        )
        return {**_result(done.result), "capabilities": done.capabilities}

    async def metadata(self, ask: dict[str, Any]) -> dict[str, Any]:
        """The functions that were found, each loaded."""
        done = await self._runtime.functions_metadata_request(
            self._request(functions_metadata_request=SimpleNamespace(function_app_directory=ask["directory"]))
        )
        functions = done.function_metadata_results or []
        for function in functions:
            await self._runtime.function_load_request(
                self._request(
                    function_load_request=SimpleNamespace(function_id=function.function_id, metadata=function)
                )
            )
        return {
            **_result(done.result),
            "functions": [
                {
                    "name": function.name,
                    "id": function.function_id,
                    "bindings": [json.loads(binding) for binding in function.raw_bindings],
                    "retry": _retry(function.retry_options),
                }
                for function in functions
            ],
        }

    async def invoke(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Run a function once."""
        _invocation.set(ask["invocation"])
        inputs = [_ParameterBinding(name=name, data=_typed_data(data)) for name, data in ask["inputs"].items()]
        done = await self._runtime.invocation_request(
            self._request(
                invocation_request=SimpleNamespace(
                    invocation_id=ask["invocation"],
                    function_id=ask["function"],
                    input_data=inputs,
                    trigger_metadata={name: _typed_data(data) for name, data in ask["metadata"].items()},
                    trace_context=SimpleNamespace(**ask["trace"]),
                    retry_context=SimpleNamespace(**ask["retry"]),
                )
            )
        )
        outputs = getattr(done, "output_data", None) or []
        return {
            **_result(done.result),
            "returned": _plain(getattr(done, "return_value", None)),
            "outputs": {output.name: _plain(output.data) for output in outputs},
        }


def _result(result: Any) -> dict[str, Any]:
    if result.status == SUCCESS:
        return {"succeeded": True, "problem": "", "stack": ""}
    return {"succeeded": False, "problem": result.exception.message, "stack": result.exception.stack_trace}


def _retry(options: Any) -> dict[str, Any] | None:
    if options is None:
        return None
    return {
        "strategy": options.retry_strategy,
        "count": options.max_retry_count,
        **{
            name: getattr(options, field).total_seconds()
            for name, field in (
                ("delay", "delay_interval"),
                ("minimum", "minimum_interval"),
                ("maximum", "maximum_interval"),
            )
            if hasattr(options, field)
        },
    }


async def _serve(channel: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=channel)
    loop = asyncio.get_running_loop()

    def send(message: dict[str, Any]) -> None:
        frame = json.dumps(message).encode()
        loop.call_soon_threadsafe(writer.write, len(frame).to_bytes(4, "big") + frame)

    worker = _Worker()
    # The library logs as azure.functions and as azure_functions_runtime; the app below its own names.
    logging.getLogger().addHandler(_Forwarder(send))
    logging.getLogger().setLevel(logging.INFO)

    async def answer(ask: dict[str, Any]) -> None:
        try:
            done = await getattr(worker, ask["ask"])(ask)
        except Exception:  # noqa: BLE001 - the host waits for an answer and reports it
            done = {"broken": traceback.format_exc()}
        send({"id": ask["id"], **done})

    answering: set[asyncio.Task[None]] = set()
    while True:
        try:
            size = int.from_bytes(await reader.readexactly(4), "big")
            ask = json.loads(await reader.readexactly(size))
        except asyncio.IncompleteReadError:
            return  # the host is gone, so this worker ends
        task = asyncio.create_task(answer(ask))
        answering.add(task)
        task.add_done_callback(answering.discard)


def main() -> None:
    """Serve the socket of the descriptor in the first argument, for the app in the folder of the second."""
    descriptor, directory = int(sys.argv[1]), sys.argv[2]
    os.chdir(directory)
    # The folder of this file must not offer its modules to the app; the app's folder is where the worker looks first.
    sys.path[0] = directory
    asyncio.run(_serve(socket.socket(fileno=descriptor)))
    os._exit(0)  # what a function left running in a thread does not hold up the end


if __name__ == "__main__":
    main()
