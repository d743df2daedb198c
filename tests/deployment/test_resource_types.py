"""The check against Azure's published types notices what a deployment would stumble over."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bicep_template import Resource, Runtime, deploy
from deployments import VARIANTS
from resource_types import read_types

MAIN = Path(__file__).parents[2] / "infra" / "main.bicep"
TYPES = read_types(json.loads(Path(__file__).with_name("resource_types.json").read_text()))


def problems(kind: str, change: dict[str, Any], **body: Any) -> str:
    """What is said of the deployed resource of that type, with *change* in its properties and *body* beside them."""
    found = next(one for one in deploy(MAIN, VARIANTS["isolated"]).of_type(kind))
    changed = {**found.body, **body, "properties": {**found.body.get("properties", {}), **change}}
    resource: Resource = replace(found, body=changed)
    return "\n".join(TYPES[f"{found.type}@{found.api_version}"].problems(resource))


QUEUE = "Microsoft.ServiceBus/namespaces/queues"
ACCOUNT = "Microsoft.DocumentDB/databaseAccounts"
BLOBS = "Microsoft.Storage/storageAccounts"
VAULT = "Microsoft.KeyVault/vaults"


def test_what_is_deployed_has_none() -> None:
    assert problems(QUEUE, {}) == ""


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        (QUEUE, {"lockDurations": "PT1M"}, "properties.lockDurations is no property there"),
        (QUEUE, {"maxDeliveryCount": "ten"}, "properties.maxDeliveryCount is 'ten', no int"),
        (QUEUE, {"requiresSession": 1}, "properties.requiresSession is 1, no bool"),
        (QUEUE, {"maxDeliveryCount": True}, "properties.maxDeliveryCount is True, no int"),
        (QUEUE, {"messageCount": 5}, "properties.messageCount can't be set"),
        (ACCOUNT, {"databaseAccountOfferType": None}, "properties.databaseAccountOfferType is missing"),
        (ACCOUNT, {"publicNetworkAccess": "Off"}, "properties.publicNetworkAccess is 'Off'"),
        (ACCOUNT, {"locations": "here"}, "properties.locations is no array"),
        (ACCOUNT, {"backupPolicy": {"type": "Sometimes"}}, "type must be one of Continuous, Periodic"),
        (ACCOUNT, {"backupPolicy": {"type": "Continuous", "often": 1}}, "properties.backupPolicy.often is no property"),
        (ACCOUNT, {"consistencyPolicy": "Session"}, "properties.consistencyPolicy is no object"),
        (BLOBS, {"minimumTlsVersion": "TLS2"}, "properties.minimumTlsVersion is 'TLS2'"),
        (VAULT, {"tenantId": "x"}, "properties.tenantId is 'x', against minLength: 36"),
    ],
)
def test_what_a_type_does_not_allow_is_told_with_its_place(kind: str, change: dict[str, Any], told: str) -> None:
    assert told in problems(kind, change)


def test_what_is_known_only_while_deploying_is_taken() -> None:
    assert problems(QUEUE, {"lockDuration": Runtime("[other.properties.lock]")}) == ""


def test_parts_without_a_list_of_names_take_any_name_but_not_any_value() -> None:
    assert problems(ACCOUNT, {}, tags={"anything": "text"}) == ""
    assert "tags.anything is 3, no string" in problems(ACCOUNT, {}, tags={"anything": 3})
