"""Slack's Bolt behind the server that Shardline's door runs on: verifies each delivery and counts those it handles.

``bolt_deliveries.py SECRET``. Prints its port, and at the end of its input how often each event was handled.
"""

import importlib
import importlib.metadata
import json
import socket
import sys
import threading
from collections import Counter
from typing import Any

bolt = importlib.import_module("slack_bolt.async_app")
handler_of = importlib.import_module("slack_bolt.adapter.starlette.async_handler").AsyncSlackRequestHandler
authorize = importlib.import_module("slack_bolt.authorization").AuthorizeResult
starlette = importlib.import_module("starlette.applications")
routing = importlib.import_module("starlette.routing")
uvicorn = importlib.import_module("uvicorn")


def main(secret: str) -> None:
    """Serve until standard input ends."""
    handled: Counter[str] = Counter()

    async def anyone(**_: Any) -> Any:
        return authorize(enterprise_id=None, team_id="T0", bot_token="xoxb-bench", bot_id="B0", bot_user_id="U0")

    app = bolt.AsyncApp(signing_secret=secret, authorize=anyone)

    async def count(body: dict[str, Any]) -> None:
        handled[body["event_id"]] += 1

    app.event("message")(count)
    door = handler_of(app)

    async def receive(request: Any) -> Any:
        return await door.handle(request)

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    application = starlette.Starlette(routes=[routing.Route("/slack/events", receive, methods=["POST"])])
    config = uvicorn.Config(application, log_level="critical", access_log=False, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    serving.start()
    versions = {name: importlib.metadata.version(name) for name in ("slack-bolt", "uvicorn")}
    print(json.dumps({"port": listener.getsockname()[1], "versions": versions}), flush=True)
    sys.stdin.read()
    server.should_exit = True
    serving.join(10)
    print(json.dumps({"handled": sum(handled.values()), "distinct": len(handled)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
