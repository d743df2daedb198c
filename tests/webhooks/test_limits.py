"""The largest and most expensive bodies, in a process whose time and memory are bounded by the system."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_body_takes_unbounded_memory_or_time() -> None:
    program = ROOT / "tests" / "support" / "webhook_limits.py"
    ended = subprocess.run(
        [sys.executable, str(program)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{program.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    answers = [line.partition(" ")[::2] for line in ended.stdout.splitlines()]
    assert len(answers) > 40
    assert {name: status for status, name in answers if status not in ("400", "401", "413")} == {
        # A number is a number, however long: what can't be queued whole is queued as what it is.
        "slack: digits of a fraction": "200",
        "50 MB to an address of nobody": "404",
    }
    assert {status for status, name in answers if "MB to" in name} == {"404", "413"}
