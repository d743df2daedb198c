"""The bindings of the app's functions, as ``azure.functions`` gives them; asked of a process of their own, because an
app gives its functions only once."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json
from the_app import app
print(json.dumps({
    function.get_function_name(): [json.loads(binding) for binding in function.get_raw_bindings()]
    for function in app.get_functions()
}))
"""


@cache
def app_bindings() -> dict[str, list[dict[str, Any]]]:
    """Each function's bindings by its name."""
    path = [str(ROOT), str(ROOT / "tests" / "support")]
    program = f"import sys; sys.path[:0] = {path!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    found: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)
    return found


def triggers(kind: str) -> dict[str, dict[str, Any]]:
    """The triggers of one kind, by the names of their functions."""
    return {
        name: binding for name, bindings in app_bindings().items() for binding in bindings if binding["type"] == kind
    }
