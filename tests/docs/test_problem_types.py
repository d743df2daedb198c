"""The page on the HTTP API and the problems that the code answers with are in step."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RAISED = re.compile(r'(?:ProblemError|problem)\(\s*HTTPStatus\.\w+,\s*"([a-z-]+)"')
ROW = re.compile(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| \d{3} \|", re.MULTILINE)


def test_the_page_lists_every_problem_type_and_no_other() -> None:
    sources = [*(ROOT / "api").glob("*.py"), ROOT / "local" / "host" / "http_door.py"]
    sources += (ROOT / "ingestion").glob("*/webhook.py")
    raised = {kind for source in sources for kind in RAISED.findall(source.read_text())}
    listed = [
        kind for row in ROW.findall((ROOT / "docs" / "api.md").read_text()) for kind in re.findall(r"[a-z-]+", row)
    ]
    assert len(raised) > 10
    assert sorted(listed) == sorted(raised)
