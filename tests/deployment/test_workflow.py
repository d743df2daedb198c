"""The workflow that tests and deploys: what it runs is pinned, and it holds no more rights than it needs."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github/workflows/deploy.yml").read_text()


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    """The workflow as GitHub reads it."""
    found: dict[str, Any] = yaml.safe_load(TEXT)
    return found


def test_every_action_is_pinned_to_a_commit(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)


def test_only_the_deployment_may_log_in(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    rights = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    assert rights == {"test": None, "infra": None, "deploy": {"contents": "read", "id-token": "write"}}


def test_what_is_deployed_has_passed_the_tests_and_a_guarded_environment(workflow: dict[str, Any]) -> None:
    deploy = workflow["jobs"]["deploy"]
    assert set(deploy["needs"]) == {"test", "infra"}
    assert deploy["environment"] == "production"
    assert "refs/heads/main" in deploy["if"]
    assert "pull_request" in deploy["if"]


def test_no_secret_is_kept() -> None:
    assert "secrets." not in TEXT


def test_what_others_write_reaches_no_shell(workflow: dict[str, Any]) -> None:
    """A variable within a script would be run as a part of it; in the environment it is only text."""
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_it_runs_what_a_developer_runs(workflow: dict[str, Any]) -> None:
    assert [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step] == ["make test"]
    compiled = " ".join(step.get("run", "") for step in workflow["jobs"]["infra"]["steps"])
    assert "az bicep build --file infra/main.bicep" in compiled
    assert "az bicep lint --file infra/main.bicep" in compiled
