"""Takes the types of the resources that ``infra/`` deploys, and writes those parts of them that it uses.

They come from ``azmcp``, the program of the PyPI package ``msmcp-azure``, which carries the types of the Bicep compiler
and needs neither an account nor a network:

    python3 -m venv .cache/resource-types && .cache/resource-types/bin/pip install msmcp-azure==3.0.0
    PYTHONPATH=tests/support .venv/bin/python tests/deployment/take_resource_types.py \
        .cache/resource-types/lib/python3*/site-packages/msmcp_azure/bin/azmcp

It knows each type at its newest settled version alone, so that is the one to write in ``infra/``. Types that it does
not know stand below, written by hand from Azure's reference.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bicep_template import deploy
from deployments import VARIANTS
from resource_types import ResourceType

ROOT: Final = Path(__file__).resolve().parents[2]

FILE: Final = Path(__file__).with_name("resource_types.json")


_TEXT: Final = {"type": "string"}
_NEEDED_TEXT: Final = {"type": "string", "flags": "Required"}
_NUMBER: Final = {"type": "int"}
_FLAG: Final = {"type": "bool"}
_TEXTS: Final = {"type": "string[]"}
_SEVERITY: Final = {"type": "int", "modifiers": "minValue: 0, maxValue: 4"}
_TRACKED: Final[dict[str, Any]] = {"name": _NEEDED_TEXT, "location": _NEEDED_TEXT, "tags": {"type": "Tags"}}
_TAGS: Final[dict[str, Any]] = {"properties": {}, "others": "string"}


def _written(properties: Mapping[str, Any], **objects: Mapping[str, Any]) -> dict[str, Any]:
    """A tracked resource's type: its own *properties*, and the *objects* that they name."""
    body = {"properties": _TRACKED | dict(properties)}
    return {"body": body, "objects": {"Tags": _TAGS} | {name: {"properties": one} for name, one in objects.items()}}


BY_HAND: Final[dict[str, dict[str, Any]]] = {
    "Microsoft.Network/privateDnsZones@2024-06-01": _written({"properties": {"type": "Zone"}}, Zone={}),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01": _written(
        {"properties": {"type": "Link"}},
        Link={
            "registrationEnabled": _FLAG,
            "resolutionPolicy": {"type": "Default | NxDomainRedirect"},
            "virtualNetwork": {"type": "SubResource"},
        },
        SubResource={"id": _TEXT},
    ),
    "Microsoft.Insights/actionGroups@2023-01-01": _written(
        {"properties": {"type": "Group", "flags": "Required"}},
        Group={
            "groupShortName": _NEEDED_TEXT | {"modifiers": "maxLength: 12"},
            "enabled": _FLAG | {"flags": "Required"},
            "emailReceivers": {"type": "EmailReceiver[]"},
        },
        EmailReceiver={"name": _NEEDED_TEXT, "emailAddress": _NEEDED_TEXT, "useCommonAlertSchema": _FLAG},
    ),
    "Microsoft.Insights/scheduledQueryRules@2023-12-01": _written(
        {"kind": {"type": "LogAlert | LogToMetric"}, "properties": {"type": "Rule", "flags": "Required"}},
        Rule={
            "actions": {"type": "Actions"},
            "autoMitigate": _FLAG,
            "criteria": {"type": "Criteria"},
            "description": _TEXT,
            "displayName": _TEXT,
            "enabled": _FLAG,
            "evaluationFrequency": _TEXT,
            "muteActionsDuration": _TEXT,
            "overrideQueryTimeRange": _TEXT,
            "scopes": _TEXTS,
            "severity": _SEVERITY,
            "skipQueryValidation": _FLAG,
            "windowSize": _TEXT,
        },
        Actions={"actionGroups": _TEXTS},
        Criteria={"allOf": {"type": "Condition[]"}},
        Condition={
            "query": _TEXT,
            "metricMeasureColumn": _TEXT,
            "timeAggregation": {"type": "Average | Count | Maximum | Minimum | Total"},
            "dimensions": {"type": "Dimension[]"},
            "operator": {
                "type": "Equals | GreaterThan | GreaterThanOrEqual | LessThan | LessThanOrEqual",
            },
            "threshold": _NUMBER,
            "failingPeriods": {"type": "FailingPeriods"},
        },
        Dimension={
            "name": _NEEDED_TEXT,
            "operator": {"type": "Exclude | Include", "flags": "Required"},
            "values": _TEXTS | {"flags": "Required"},
        },
        FailingPeriods={"numberOfEvaluationPeriods": _NUMBER, "minFailingPeriodsToAlert": _NUMBER},
    ),
    "Microsoft.Insights/metricAlerts@2018-03-01": _written(
        {"properties": {"type": "Alert", "flags": "Required"}},
        Alert={
            "actions": {"type": "Action[]"},
            "autoMitigate": _FLAG,
            "criteria": {"type": "MetricCriteria", "flags": "Required"},
            "description": _TEXT,
            "enabled": _FLAG | {"flags": "Required"},
            "evaluationFrequency": _NEEDED_TEXT,
            "scopes": _TEXTS | {"flags": "Required"},
            "severity": _SEVERITY | {"flags": "Required"},
            "windowSize": _NEEDED_TEXT,
        },
        Action={"actionGroupId": _TEXT},
        MetricCriteria={
            "odata.type": {
                "type": "Microsoft.Azure.Monitor.MultipleResourceMultipleMetricCriteria"
                " | Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria",
                "flags": "Required",
            },
            "allOf": {"type": "MetricCriterion[]"},
        },
        MetricCriterion={
            "criterionType": {"type": "DynamicThresholdCriterion | StaticThresholdCriterion", "flags": "Required"},
            "name": _NEEDED_TEXT,
            "metricNamespace": _TEXT,
            "metricName": _NEEDED_TEXT,
            "dimensions": {"type": "MetricDimension[]"},
            "timeAggregation": {"type": "Average | Count | Maximum | Minimum | Total", "flags": "Required"},
            "operator": {"type": "Equals | GreaterThan | GreaterThanOrEqual | LessThan | LessThanOrEqual"},
            "threshold": _NUMBER,
        },
        MetricDimension={
            "name": _NEEDED_TEXT,
            "operator": {"type": "Exclude | Include", "flags": "Required"},
            "values": _TEXTS | {"flags": "Required"},
        },
    ),
}


def main(program: str) -> int:
    """Take the types of every resource of every variant, and write :data:`FILE`."""
    resources = [
        one for parameters in VARIANTS.values() for one in deploy(ROOT / "infra/main.bicep", parameters).resources
    ]
    taken: dict[str, ResourceType] = {}
    for resource in resources:
        name = f"{resource.type}@{resource.api_version}"
        if name not in taken:
            taken[name] = _by_hand(name) or _published(program, resource.type, name)
        for problem in taken[name].problems(resource):
            sys.stderr.write(f"{problem}\n")
    types = {name: {"body": one.body, "objects": _used(one)} for name, one in sorted(taken.items())}
    document = {"from": "msmcp-azure 3.0.0", "byHand": sorted(BY_HAND), "types": types}
    FILE.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(types)} types written\n")
    return 0


def _by_hand(name: str) -> ResourceType | None:
    return ResourceType(BY_HAND[name]["body"], BY_HAND[name]["objects"]) if name in BY_HAND else None


def _published(program: str, type_name: str, wanted: str) -> ResourceType:
    command = [program, "bicepschema", "get", "--resource-type", type_name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    if answer["status"] != 200:
        raise SystemExit(f"{type_name}: {answer['message']}")
    body, objects = None, {}
    for part in answer["results"]["BicepSchemaResult"]:
        match part["$type"]:
            case "Resource":
                if part["name"].lower() != wanted.lower():
                    raise SystemExit(f"{wanted}: the newest settled version is {part['name']}")
                body = _object(part["bodyType"])
            case "Object" | "DiscriminatedObject":
                objects[part["name"]] = _object(part)
    if body is None:
        raise SystemExit(f"{type_name}: the answer has no such resource")
    return ResourceType(body, objects)


def _object(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["$type"] == "DiscriminatedObject":
        key = part["discriminator"]
        elements = {_literal(one, key): _object(one) for one in part["elements"]}
        return {"discriminator": key, "elements": elements, "properties": _properties(part["baseProperties"])}
    made: dict[str, Any] = {"properties": _properties(part["properties"])}
    if part.get("additionalPropertiesType"):
        made["others"] = part["additionalPropertiesType"]
    return made


def _literal(element: Mapping[str, Any], key: str) -> str:
    return next(str(one["type"]) for one in element["properties"] if one["name"] == key)


def _properties(found: list[Mapping[str, Any]]) -> dict[str, Any]:
    kept = ("type", "flags", "modifiers")
    return {one["name"]: {key: one[key] for key in kept if one.get(key)} for one in found}


def _used(taken: ResourceType) -> dict[str, Any]:
    return {name: definition for name, definition in sorted(taken.objects.items()) if name in taken.visited}


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
