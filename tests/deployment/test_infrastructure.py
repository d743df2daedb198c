"""What `infra/` would deploy: that it can be, that it is what Azure knows, and who may do what afterwards."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from bicep_template import BicepError, Deployment, deploy, idle_names
from deployments import VARIANTS
from resource_types import read_types

from messaging.queues import QUEUES
from settings import load_settings
from shards.blobs import PASSING

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "infra" / "main.bicep"
TYPES = read_types(json.loads(Path(__file__).with_name("resource_types.json").read_text()))
NOT_IN_THE_TYPES = ("indexingPolicy.fullTextIndexes is no property", "vectorIndexShardKey is no property")
"""What Cosmos DB takes and Azure's published types of a container leave out."""
ROLES = {
    "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39": "Service Bus Data Sender",
    "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0": "Service Bus Data Receiver",
    "090c5cfd-751d-490a-894a-3ce6f1109419": "Service Bus Data Owner",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": "Storage Blob Data Contributor",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
    "b86a8fe4-44ce-4948-aee5-eccb2c155cd7": "Key Vault Secrets Officer",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
}
APP = "[identity.properties.principalId]"

Grants = dict[str, set[tuple[str, str]]]


@pytest.fixture(params=VARIANTS, scope="module")
def deployment(request: pytest.FixtureRequest) -> Deployment:
    """Each variant in turn."""
    return deploy(MAIN, VARIANTS[request.param])


def granted(deployment: Deployment) -> Grants:
    """The roles of each principal, with the last words of what they hold on."""
    found: Grants = defaultdict(set)
    for one in deployment.of_type("Microsoft.Authorization/roleAssignments"):
        properties = one.body["properties"]
        assert one.scope is not None, "a role on a whole resource group is never the least"
        role = ROLES[properties["roleDefinitionId"].rsplit("/", 1)[1]]
        found[properties["principalId"]].add((role, one.scope.rsplit("/providers/", 1)[1].split("/", 1)[1]))
    return found


def names_of(deployment: Deployment, kind: str) -> list[str]:
    return [one.name for one in deployment.of_type(kind)]


def test_every_resource_is_what_azure_publishes_for_its_type(deployment: Deployment) -> None:
    problems = [
        problem
        for one in deployment.resources
        for problem in TYPES[f"{one.type}@{one.api_version}"].problems(one)
        if not any(known in problem for known in NOT_IN_THE_TYPES)
    ]
    assert problems == []


@pytest.mark.parametrize("file", sorted(MAIN.parent.glob("*.bicep")), ids=lambda file: file.name)
def test_nothing_is_declared_that_nothing_uses(file: Path) -> None:
    assert idle_names(file) == set()


def test_every_file_is_part_of_the_deployment() -> None:
    texts = "\n".join(file.read_text() for file in MAIN.parent.glob("*.bicep"))
    for file in MAIN.parent.iterdir():
        if file.suffix in (".bicep", ".json") and not file.name.startswith("main."):
            assert f"'{file.name}'" in texts, f"nothing deploys {file.name}"


def test_no_key_opens_anything(deployment: Deployment) -> None:
    closed: dict[str, tuple[str, Any]] = {
        "Microsoft.ServiceBus/namespaces": ("disableLocalAuth", True),
        "Microsoft.DocumentDB/databaseAccounts": ("disableLocalAuth", True),
        "Microsoft.Storage/storageAccounts": ("allowSharedKeyAccess", False),
        "Microsoft.Insights/components": ("DisableLocalAuth", True),
        "Microsoft.KeyVault/vaults": ("enableRbacAuthorization", True),
    }
    for kind, (key, value) in closed.items():
        assert deployment.only(kind).body["properties"][key] is value
    for login in deployment.of_type("Microsoft.Web/sites/basicPublishingCredentialsPolicies"):
        assert login.body["properties"] == {"allow": False}
    assert sorted(names_of(deployment, "Microsoft.Web/sites/basicPublishingCredentialsPolicies")) == ["ftp", "scm"]
    assert deployment.only("Microsoft.Storage/storageAccounts").body["properties"]["allowBlobPublicAccess"] is False
    assert deployment.only("Microsoft.KeyVault/vaults").body["properties"]["enablePurgeProtection"] is True


def test_no_setting_and_no_output_holds_a_key(deployment: Deployment) -> None:
    site = deployment.only("Microsoft.Web/sites").body["properties"]
    settings = {one["name"]: one["value"] for one in site["siteConfig"]["appSettings"]}
    for name in ("ServiceBusConnection", "CosmosConnection", "AzureWebJobsStorage"):
        assert name not in settings
        assert settings[f"{name}__credential"] == "managedidentity"
    for text in (*settings.values(), *deployment.outputs.values()):
        assert "AccountKey" not in text
        assert "SharedAccessKey" not in text
    assert site["functionAppConfig"]["deployment"]["storage"]["authentication"]["type"] == "UserAssignedIdentity"


def test_what_a_deployment_gives_opens_the_home_whatever_becomes_of_the_case(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure gives ``AZURE_RESOURCE_GROUP`` back as ``azurE_RESOURCE_GROUP``; docs/deploy.md makes it capitals again."""
    for change in (str, str.upper):
        with monkeypatch.context() as environment:
            for name, value in deployment.outputs.items():
                # What only Azure knows, an address, stands in brackets here.
                environment.setenv(change(name), "https://known.example" if value.startswith("[") else value)
            assert load_settings().home == "azure"


def test_the_app_may_send_and_receive_on_each_queue_and_little_else() -> None:
    deployment = deploy(MAIN, VARIANTS["as it comes"])
    (storage,) = names_of(deployment, "Microsoft.Storage/storageAccounts")
    (vault,) = names_of(deployment, "Microsoft.KeyVault/vaults")
    (component,) = names_of(deployment, "Microsoft.Insights/components")
    (bus,) = names_of(deployment, "Microsoft.ServiceBus/namespaces")
    roles = ("Service Bus Data Sender", "Service Bus Data Receiver")
    grants = granted(deployment)
    assert set(grants) == {APP}
    assert grants[APP] == {(role, f"namespaces/{bus}/queues/{queue}") for role in roles for queue in QUEUES} | {
        ("Storage Blob Data Owner", f"storageAccounts/{storage}"),
        ("Key Vault Secrets User", f"vaults/{vault}"),
        ("Monitoring Metrics Publisher", f"components/{component}"),
    }


def test_the_operator_gets_no_more_than_the_commands_need() -> None:
    deployment = deploy(MAIN, VARIANTS["with an operator"])
    operator = VARIANTS["with an operator"]["operatorPrincipalId"]
    grants = granted(deployment)
    assert set(grants) == {APP, operator}
    (storage,) = names_of(deployment, "Microsoft.Storage/storageAccounts")
    assert {role for role, place in grants[operator] if "/queues/" in place} == {
        "Service Bus Data Sender",
        "Service Bus Data Receiver",
    }
    assert {(role, place.split("/")[0]) for role, place in grants[operator] if "/queues/" not in place} == {
        ("Storage Blob Data Contributor", "storageAccounts"),
        ("Key Vault Secrets Officer", "vaults"),
    }
    place = f"storageAccounts/{storage}/blobServices/default/containers/shardline"
    assert ("Storage Blob Data Contributor", place) in grants[operator]


def test_an_app_that_may_manage_its_queues_may_do_so_queue_by_queue() -> None:
    grants = granted(deploy(MAIN, VARIANTS["as it comes"] | {"manageQueues": True}))
    owned = [place for role, place in grants[APP] if role == "Service Bus Data Owner"]
    assert sorted(place.rsplit("/", 1)[1] for place in owned) == sorted(QUEUES)


def test_data_grants_of_cosmos_db_are_given_container_by_container(deployment: Deployment) -> None:
    account = deployment.only("Microsoft.DocumentDB/databaseAccounts")
    roles = {one.id: one for one in deployment.of_type("Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions")}
    containers = names_of(deployment, "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers")
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in deployment.of_type("Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments"):
        grant = one.body["properties"]
        role = roles[grant["roleDefinitionId"]].body["properties"]["roleName"]
        found[grant["principalId"], role].add(grant["scope"].removeprefix(account.id))
    principals = {principal for principal, _ in found}
    everywhere = {f"/dbs/shardline/colls/{name}" for name in containers}
    for principal in principals:
        assert found[principal, "Shardline: reads metadata"] == {""}
        assert found[principal, "Shardline: reads and writes items"] == everywhere
    assert found[APP, "Shardline: follows changes"] == {"/dbs/shardline/colls/shards"}
    assert all(principal == APP for principal, role in found if role == "Shardline: follows changes")
    actions = {action for role in roles.values() for action in role.body["properties"]["permissions"][0]["dataActions"]}
    assert not any("*" in action or "toredProcedure" in action or "onflict" in action for action in actions)


def test_the_account_of_cosmos_db_is_changed_by_one_at_a_time() -> None:
    """It answers 412 to a second change that comes while a first is under way."""
    text = (MAIN.parent / "cosmos.bicep").read_text()
    pattern = r"^((?:@[^\n]*\n)?)(?:resource|module) (\w+) '[^']*' = (\[?)(.*?)^[}\]]$"
    declared = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    assert [symbol for _, symbol, _, _ in declared][:2] == ["account", "database"]
    before = "container"
    for decorator, symbol, loop, body in declared[2:]:
        assert bool(loop) == (decorator == "@batchSize(1)\n"), symbol
        if symbol != before:
            assert f"dependsOn: [{before}]" in body, symbol
        before = symbol


def test_isolation_closes_what_can_be_closed() -> None:
    isolated = deploy(MAIN, VARIANTS["isolated"])
    for kind in (
        "Microsoft.ServiceBus/namespaces",
        "Microsoft.DocumentDB/databaseAccounts",
        "Microsoft.Storage/storageAccounts",
        "Microsoft.KeyVault/vaults",
    ):
        assert isolated.only(kind).body["properties"]["publicNetworkAccess"] == "Disabled"
    # Only Premium namespaces have private endpoints, whatever tier was asked for.
    assert isolated.only("Microsoft.ServiceBus/namespaces").body["sku"]["name"] == "Premium"
    site = isolated.only("Microsoft.Web/sites").body["properties"]
    network = isolated.only("Microsoft.Network/virtualNetworks")
    subnets = {one["name"]: one["properties"] for one in network.body["properties"]["subnets"]}
    assert site["virtualNetworkSubnetId"] == f"{network.id}/subnets/app"
    assert subnets["app"]["delegations"][0]["properties"]["serviceName"] == "Microsoft.App/environments"
    zones = {one.id for one in isolated.of_type("Microsoft.Network/privateDnsZones")}
    groups = isolated.of_type("Microsoft.Network/privateEndpoints/privateDnsZoneGroups")
    used = {one.body["properties"]["privateDnsZoneConfigs"][0]["properties"]["privateDnsZoneId"] for one in groups}
    assert used == zones
    assert len(groups) == len(isolated.of_type("Microsoft.Network/privateEndpoints")) == 4
    assert len(isolated.of_type("Microsoft.Network/privateDnsZones/virtualNetworkLinks")) == 4


def test_without_isolation_there_is_no_network() -> None:
    deployment = deploy(MAIN, VARIANTS["as it comes"])
    assert [one for one in deployment.resources if one.type.startswith("Microsoft.Network/")] == []
    assert deployment.only("Microsoft.ServiceBus/namespaces").body["sku"]["name"] == "Standard"
    assert deployment.only("Microsoft.Web/sites").body["properties"]["virtualNetworkSubnetId"] is None


def test_the_app_is_ready_for_webhooks_unless_told_otherwise() -> None:
    ready = {}
    for variant, parameters in VARIANTS.items():
        site = deploy(MAIN, parameters).only("Microsoft.Web/sites").body["properties"]
        ready[variant] = site["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"]
    assert ready["as it comes"] == [{"name": "http", "instanceCount": 1}]
    assert ready["isolated"] == []


def test_capacity_is_by_request_or_by_load() -> None:
    kind = "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers"
    for variant, capability, options in (
        ("as it comes", True, {}),
        ("isolated", False, {"autoscaleSettings": {"maxThroughput": 10000}}),
    ):
        deployment = deploy(MAIN, VARIANTS[variant])
        account = deployment.only("Microsoft.DocumentDB/databaseAccounts").body["properties"]
        names = {one["name"] for one in account["capabilities"]}
        assert ("EnableServerless" in names) is capability
        assert names >= {"EnableNoSQLVectorSearch", "EnableNoSQLFullTextSearch"}
        assert all(one.body["properties"]["options"] == options for one in deployment.of_type(kind))


def test_payloads_end_by_themselves() -> None:
    deployment = deploy(MAIN, VARIANTS["as it comes"] | {"payloadDays": 30})
    policy = deployment.only("Microsoft.Storage/storageAccounts/managementPolicies").body["properties"]["policy"]
    (rule,) = policy["rules"]
    assert rule["definition"]["filters"]["prefixMatch"] == [f"shardline/{PASSING}/"]
    assert rule["definition"]["actions"]["baseBlob"]["delete"] == {"daysAfterModificationGreaterThan": 30}


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"location": ""}, "location is ''"),
        ({"instanceMemoryMB": 1024}, "instanceMemoryMB is 1024"),
        ({"payloadDays": 3}, "payloadDays is 3"),
        ({"tokenIssuer": None}, "tokenIssuer is a string"),
        ({"region": "x"}, "no parameter region"),
    ],
)
def test_a_wrong_parameter_is_refused(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(BicepError, match=told):
        deploy(MAIN, VARIANTS["as it comes"] | parameters)


def test_names_stay_within_what_azure_allows(deployment: Deployment) -> None:
    for kind, most in (
        ("Microsoft.Storage/storageAccounts", 24),
        ("Microsoft.KeyVault/vaults", 24),
        ("Microsoft.ServiceBus/namespaces", 50),
        ("Microsoft.DocumentDB/databaseAccounts", 44),
        ("Microsoft.Web/sites", 43),
    ):
        name = deployment.only(kind).name
        assert 3 <= len(name) <= most
        assert name.replace("-", "").isalnum()
        assert name == name.lower()
    assert deployment.only("Microsoft.Storage/storageAccounts").name.isalnum()
