"""A process that has the command line loaded and forks for each call: a process of its own, without half a second of
imports.

It reads calls as JSON lines, one at a time, and answers each with two lines: the child's id, and its exit code. It ends
when nobody can ask it any more.
"""

import importlib
import json
import os
import sys
from typing import Any

import cli.command_line
import cli.main
import local.company
import local.home
import local.host.supervisor
import local.sandbox
import local.summary
import operations.reconciliation

PRELOADED = (
    cli.command_line,
    local.company,
    local.home,
    local.host.supervisor,
    local.sandbox,
    local.summary,
    operations.reconciliation,
)
"""What commands load as they need it, and most calls of the tests do."""


def become(call: dict[str, Any]) -> None:
    """Turn this process into the one that *call* asks for: its words, environment, folder and files for its output."""
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, call["out"], os.O_WRONLY | os.O_APPEND),
        (2, call["error"], os.O_WRONLY | os.O_APPEND),
    ):
        opened = os.open(name, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["shardline", *call["words"]]


def serve() -> bool:
    """Answer calls until there are no more; true in a child that has become a call."""
    for line in sys.stdin:
        call = json.loads(line)
        if call["environment"].get("SHARDLINE_HOME") == "azure":
            # Azure's SDKs take a second and a half to load, and most tests need none.
            importlib.import_module("azure_composition")
        child = os.fork()
        if not child:
            become(call)
            return True
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return False


if __name__ == "__main__":
    if serve():
        cli.main.run()
