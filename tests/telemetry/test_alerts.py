"""Each alert has a section on the page for operators, and goes by what the app really tells."""

import re
from pathlib import Path

import pytest
from bicep_template import Resource, deploy, parameters_of
from deployments import VARIANTS

from operations.metrics import METRICS
from operations.telemetry import SERVICE

ROOT = Path(__file__).parents[2]
FILE = ROOT / "infra" / "alerts.bicep"
OPERATE = (ROOT / "docs" / "operate.md").read_text()
DEPLOYED = [
    resource
    for resource in deploy(ROOT / "infra" / "main.bicep", next(iter(VARIANTS.values()))).resources
    if resource.file == FILE.name
]
QUERIES = [one for one in DEPLOYED if one.type == "Microsoft.Insights/scheduledQueryRules"]
ALERTS = [one for one in DEPLOYED if one.type != "Microsoft.Insights/actionGroups"]
ATTRIBUTE = re.compile(r'Properties\["([^"]+)"\]')
SEVERITIES = {1: "Severity 1.", 2: "Severity 2.", 3: "Severity 3."}


def name_of(alert: Resource) -> str:
    return alert.name.removeprefix("shardline-")


def section(name: str) -> str:
    """The section of the page for operators."""
    parts = re.split(r"^### (.+)$", OPERATE[OPERATE.index("## Alerts") :].split("\n## ")[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[name]


def test_the_page_has_a_section_for_each_alert_and_no_other() -> None:
    told = re.findall(r"^### (.+)$", OPERATE[OPERATE.index("## Alerts") :].split("\n## ")[0], flags=re.MULTILINE)
    assert sorted(told) == sorted(name_of(alert) for alert in ALERTS)
    assert len(ALERTS) == len(set(told)) > 8


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_says_what_to_do_and_where_to_read_on(alert: Resource) -> None:
    properties = alert.body["properties"]
    description = properties["description"]
    assert description.endswith(f"See docs/operate.md#{name_of(alert)}.")
    assert len(description.split(". ")) >= 2
    assert section(name_of(alert)).strip().startswith(SEVERITIES[properties["severity"]])
    assert properties["enabled"] is True
    assert properties["autoMitigate"] is True


def test_each_threshold_is_a_parameter_whose_default_the_page_tells() -> None:
    thresholds = {
        declared.name: declared for declared in parameters_of(FILE) if declared.type == "int" and declared.description
    }
    names = [str(declared.description).partition(":")[0] for declared in thresholds.values()]
    assert sorted(names) == sorted(name_of(alert) for alert in ALERTS)
    for declared in thresholds.values():
        alert = str(declared.description).partition(":")[0]
        assert re.search(rf"`{declared.name}`[^`]{{0,4}}\b{declared.default}\b", section(alert)), declared.name


@pytest.mark.parametrize("alert", QUERIES, ids=name_of)
def test_a_query_asks_for_what_the_app_tells(alert: Resource) -> None:
    [criterion] = alert.body["properties"]["criteria"]["allOf"]
    query = criterion["query"]
    assert "{" not in query
    assert "_ResourceId =~" in query
    if query.startswith("AppRequests"):
        assert f'AppRoleName != "{SERVICE}"' in query
    else:
        [name] = re.findall(r'Name == "([^"]+)"', query)
        [metric] = [metric for metric in METRICS if metric.name == name]
        assert set(ATTRIBUTE.findall(query)) <= set(metric.attributes)
        # A gauge's points must not be added up, nor a counter's newest taken for all.
        assert ("sum(Sum)" in query) == (metric.kind != "gauge")
    for dimension in criterion["dimensions"]:
        assert re.search(rf"\b{dimension['name']}\b", query.rpartition(" by ")[2])
    assert criterion["metricMeasureColumn"] == "Value"
    assert "Value" in query


def test_what_is_asked_for_is_watched() -> None:
    """Age of the oldest message, parked messages, dead letters, empty passes, expiries, lag, failures, throttling."""
    watched = {name for alert in QUERIES for name in re.findall(r'"(shardline\.[\w.]+)"', str(alert.body)) if name}
    assert watched >= {
        "shardline.queue.oldest_age",
        "shardline.parked",
        "shardline.dead_letters",
        "shardline.full_pass.empty",
        "shardline.expiry.left",
        "shardline.connection.lag",
        "shardline.store.throttled",
    }


def test_the_pages_name_metrics_and_attributes_that_there_are() -> None:
    known = {metric.name for metric in METRICS} | {attribute for metric in METRICS for attribute in metric.attributes}
    of_spans = set(re.findall(r"`(shardline\.[\w.]+)`", (ROOT / "docs" / "telemetry.md").read_text()))
    named = set(re.findall(r'[`"](shardline\.[a-z_.]+)[`"]', OPERATE))
    assert named <= known | of_spans
