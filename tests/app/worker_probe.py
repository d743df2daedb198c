"""Run inside the environment of the Functions worker: index the app with Microsoft's library, and invoke what it found.

It prints one JSON object: the functions with their bindings, and what became of each invocation. The messages between
host and worker are protobuf on the wire; the library reads them by attribute, so plain objects with the same names do.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


MESSAGES = (
    "WorkerInitResponse",
    "WorkerMetadata",
    "FunctionMetadataResponse",
    "FunctionLoadResponse",
    "InvocationResponse",
    "RpcFunctionMetadata",
    "RpcRetryOptions",
    "RpcException",
    "ParameterBinding",
    "RpcHttp",
    "FunctionEnvironmentReloadResponse",
)


class _Fields:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class _TypedData(_Fields):
    def WhichOneof(self, _: str) -> str | None:
        return next(iter(self.__dict__), None)


class _Binding(_TypedData):
    def WhichOneof(self, _: str) -> str | None:
        return "data"


def _protos() -> ModuleType:
    """What the library uses of the protocol's generated module."""
    module = ModuleType("functions_rpc")
    for name in MESSAGES:
        setattr(module, name, type(name, (_Fields,), {}))
    directions = {"undefined": 0, "string": 1, "binary": 2, "stream": 3, "in": 0, "out": 1, "inout": 2}
    vars(module).update(
        TypedData=_TypedData,
        BindingInfo=type("BindingInfo", (_Fields,), directions),
        StatusResult=type("StatusResult", (_Fields,), {"Failure": 0, "Success": 1, "Cancelled": 2}),
        RpcHttpCookie=type("RpcHttpCookie", (_Fields,), {"SameSite": type("SameSite", (), {})}),
    )
    return module


def _request(**message: Any) -> SimpleNamespace:
    return SimpleNamespace(request=SimpleNamespace(**message), properties={"host": "127.0.0.1", "protos": _protos()})


def _batch(bodies: list[str]) -> tuple[_TypedData, dict[str, _TypedData]]:
    ids = [f"message-{number}" for number in range(len(bodies))]
    empty = json.dumps([{} for _ in bodies])
    return _TypedData(collection_string=SimpleNamespace(string=bodies)), {
        "MessageIdArray": _TypedData(collection_string=SimpleNamespace(string=ids)),
        "DeliveryCountArray": _TypedData(json=json.dumps([1 for _ in bodies])),
        "UserPropertiesArray": _TypedData(json=empty),
        "ApplicationPropertiesArray": _TypedData(json=empty),
    }


def _single(body: str) -> tuple[_TypedData, dict[str, _TypedData]]:
    return _TypedData(string=body), {
        "MessageId": _TypedData(string="message-0"),
        "DeliveryCount": _TypedData(json="1"),
        "UserProperties": _TypedData(json="{}"),
        "ApplicationProperties": _TypedData(json="{}"),
    }


def _http(method: str, route: str) -> _TypedData:
    return _TypedData(
        http=SimpleNamespace(
            method=method,
            url=f"http://localhost/api/{route}",
            headers={},
            body=_TypedData(bytes=b'{"query": "x"}'),
            params={"id": "x"} if "{id}" in route else {},
            query={},
        )
    )


def _trigger(bindings: list[dict[str, Any]]) -> tuple[_TypedData, dict[str, _TypedData]]:
    trigger = bindings[0]
    if trigger["type"] == "httpTrigger":
        return _http(trigger["methods"][0], trigger["route"]), {}
    if trigger["type"] == "timerTrigger":
        return _TypedData(json='{"IsPastDue": false, "Schedule": {}, "ScheduleStatus": null}'), {}
    body = '{"tenantId": "acme"}'
    return _batch([body, "no JSON"]) if str(trigger.get("cardinality", "")).lower() == "many" else _single(body)


async def _main() -> dict[str, Any]:
    import azure_functions_runtime as runtime

    runtime.start_threadpool_executor()
    started = await runtime.worker_init_request(
        _request(worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=str(ROOT)))
    )
    if started.result.status != 1:
        return {"failed": started.result.exception.message}
    described = await runtime.functions_metadata_request(
        _request(functions_metadata_request=SimpleNamespace(function_app_directory=str(ROOT)))
    )
    if described.result.status != 1:
        return {"failed": described.result.exception.message}
    found: dict[str, Any] = {}
    for function in described.function_metadata_results:
        bindings = [json.loads(binding) for binding in function.raw_bindings]
        bindings.sort(key=lambda binding: str(binding["direction"]).upper() == "OUT")
        await runtime.function_load_request(
            _request(function_load_request=SimpleNamespace(function_id=function.function_id, metadata=function))
        )
        data, metadata = _trigger(bindings)
        answer = await runtime.invocation_request(
            _request(
                invocation_request=SimpleNamespace(
                    invocation_id=f"call-{function.name}",
                    function_id=function.function_id,
                    input_data=[_Binding(name=bindings[0]["name"], data=data)],
                    trigger_metadata=metadata,
                    trace_context=SimpleNamespace(trace_parent="", trace_state="", attributes={}),
                    retry_context=SimpleNamespace(retry_count=0, max_retry_count=0, exception=None),
                )
            )
        )
        http = getattr(getattr(answer, "return_value", None), "http", None)
        found[function.name] = {
            "bindings": bindings,
            "succeeded": answer.result.status == 1,
            "problem": "" if answer.result.status == 1 else answer.result.exception.message,
            "httpStatus": str(http.status_code) if http is not None else None,
        }
    return {"functions": found}


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.stdout.write(json.dumps(asyncio.run(_main())))
