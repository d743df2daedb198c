"""Whether the files around the app say what the code relies on: queues, containers, bindings, settings, ports.

Each comparison is a function that yields a sentence for everything that differs; :func:`disagreements` has them all.
The code is the one that runs; the files are read below a root of the caller's, so that a copy can be made to drift.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import yaml
from app_bindings import app_bindings, triggers
from bicep_template import Deployment, deploy, parameters_of
from deployments import VARIANTS

from infra.write_definitions import CONTAINERS_FILE, EMULATOR_FILE, QUEUES_FILE, definitions
from local.emulators.wait import ADDRESSES
from local.host.host_json import timespan
from messaging.queues import QUEUES
from processors.models.embedding import StaticEmbeddingModel
from settings import Settings, SettingsError, load_settings, variable
from shards.cosmos_containers import containers

FILES: Final = (
    ".funcignore",
    ".github/workflows/deploy.yml",
    "azure.yaml",
    "docker-compose.yml",
    "docs/configuration.md",
    "docs/deploy.md",
    "docs/telemetry.md",
    "host.json",
    "infra",
    "local.settings.example.json",
    EMULATOR_FILE,
)
"""What the comparisons read."""

SETTING_IN_BINDING: Final = re.compile(r"%([^%]+)%")
HOSTS_OWN: Final = {
    "FUNCTIONS_WORKER_RUNTIME",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}
"""Settings that the Functions host reads, and that are no fields of :class:`settings.Settings`."""

KNOWN_WHILE_DEPLOYING: Final = {
    "[account.properties.documentEndpoint]": "https://acme.documents.azure.com:443/",
    "[vault.properties.vaultUri]": "https://acme.vault.azure.net/",
    "[identity.properties.clientId]": "44444444-4444-4444-4444-444444444444",
    "[component.properties.ConnectionString]": (
        "InstrumentationKey=55555555-5555-5555-5555-555555555555;IngestionEndpoint=https://acme.in.example/"
    ),
}
"""What Azure gives while it deploys, by the names that the template reader has for it."""

EMULATOR_DIFFERS: Final = {
    "maxDeliveryCount": (100, 10),
    "duplicateDetectionHistoryTimeWindow": ("PT10M", "PT5M"),
    "defaultMessageTimeToLive": ("P14D", "PT1H"),
}
"""What a queue has on Azure, and in the emulator, which goes no further."""
ONLY_ON_AZURE: Final = {"maxSizeInMegabytes"}


class Files:
    """The files below *root*, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._deployments: dict[str, Deployment] = {}

    def text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")

    def deployment(self, variant: str = "as it comes", **parameters: Any) -> Deployment:
        """What ``infra/main.bicep`` deploys."""
        key = variant + json.dumps(parameters, sort_keys=True)
        if key not in self._deployments:
            self._deployments[key] = deploy(self.root / "infra/main.bicep", VARIANTS[variant] | parameters)
        return self._deployments[key]

    @cached_property
    def host(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text("host.json"))
        return found

    @cached_property
    def local_settings(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.text("local.settings.example.json"))["Values"]
        return found

    @cached_property
    def compose(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.text("docker-compose.yml"))["services"]
        return found

    @cached_property
    def emulated_queues(self) -> dict[str, dict[str, Any]]:
        (namespace,) = json.loads(self.text(EMULATOR_FILE))["UserConfig"]["Namespaces"]
        return {queue["Name"]: queue["Properties"] for queue in namespace["Queues"]}

    def deployed_settings(self, variant: str = "as it comes") -> dict[str, str]:
        """The app's settings as deployed."""
        site = self.deployment(variant).only("Microsoft.Web/sites").body["properties"]
        settings = {one["name"]: str(one["value"]) for one in site["siteConfig"]["appSettings"]}
        for stand_in, value in KNOWN_WHILE_DEPLOYING.items():
            settings = {name: text.replace(stand_in, value) for name, text in settings.items()}
        return settings

    def rows(self, page: str) -> dict[str, str]:
        """The first two columns of the tables of a page whose first column is code."""
        return dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", self.text(page), re.MULTILINE))


def disagreements(root: Path) -> list[str]:
    """Everything in the files below *root* that differs from the code or from another file."""
    files = Files(root)
    comparisons = (
        _definitions_are_written,
        _queues_on_azure,
        _queues_in_the_emulator,
        _queue_triggers,
        _change_feed_triggers,
        _containers_on_azure,
        _settings_of_bindings,
        _settings_are_known_and_enough,
        _defaults,
        _host_json,
        _compose,
        _azd,
        _workflow,
        _parameters,
    )
    return [text for compare in comparisons for text in compare(files)]


def _definitions_are_written(files: Files) -> Iterator[str]:
    for name, text in definitions().items():
        if files.text(name) != text:
            yield f"{name} is not what the code says: run make definitions"


def _queues_on_azure(files: Files) -> Iterator[str]:
    deployed = {queue.name: queue.body["properties"] for queue in files.deployment().of_type(QUEUE_TYPE)}
    if set(deployed) != set(QUEUES):
        yield f"{QUEUES_FILE}: deployed are {sorted(deployed)}, and the code has {sorted(QUEUES)}"
    for name in set(deployed) & set(QUEUES):
        code, found = QUEUES[name], deployed[name]
        wanted = {
            "lockDuration": code.lock_duration.total_seconds(),
            "duplicateDetectionHistoryTimeWindow": code.duplicate_detection_window.total_seconds(),
            "maxDeliveryCount": code.max_delivery_count,
            "requiresDuplicateDetection": True,
            "deadLetteringOnMessageExpiration": True,
            "requiresSession": False,
        }
        for key, value in wanted.items():
            told = found.get(key)
            if (_seconds(told) if isinstance(told, str) else told) != value:
                yield f"queue {name}: {key} is {told!r} on Azure, and {value!r} in the code"


QUEUE_TYPE: Final = "Microsoft.ServiceBus/namespaces/queues"
CONTAINER_TYPE: Final = "Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers"


def _seconds(duration: str) -> float:
    days, hours, minutes, seconds = re.fullmatch(  # type: ignore[union-attr]
        r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?", duration
    ).groups(default="0")
    return ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(seconds)


def _queues_in_the_emulator(files: Files) -> Iterator[str]:
    deployed = {queue.name: queue.body["properties"] for queue in files.deployment().of_type(QUEUE_TYPE)}
    if set(files.emulated_queues) != set(deployed):
        yield f"{EMULATOR_FILE} has {sorted(files.emulated_queues)}, and Azure {sorted(deployed)}"
    for name in set(files.emulated_queues) & set(deployed):
        emulated = {key[:1].lower() + key[1:]: value for key, value in files.emulated_queues[name].items()}
        for key in (emulated.keys() | deployed[name].keys()) - ONLY_ON_AZURE:
            told = (deployed[name].get(key), emulated.get(key))
            if told[0] != told[1] and told != EMULATOR_DIFFERS.get(key):
                yield f"queue {name}: {key} is {told[0]!r} on Azure, and {told[1]!r} in the emulator"


def _queue_triggers(files: Files) -> Iterator[str]:
    deployed = {queue.name for queue in files.deployment().of_type(QUEUE_TYPE)}
    followed = sorted(binding["queueName"] for binding in triggers("serviceBusTrigger").values())
    if followed != sorted(deployed):
        yield f"functions follow the queues {followed}, and deployed are {sorted(deployed)}"
    for name, binding in triggers("serviceBusTrigger").items():
        if binding.get("isSessionsEnabled"):
            yield f"function {name} asks for sessions, and no queue has them"


def _change_feed_triggers(files: Files) -> Iterator[str]:
    keys = {
        one.name: one.body["properties"]["resource"]["partitionKey"]["paths"]
        for one in files.deployment().of_type(CONTAINER_TYPE)
    }
    for name, binding in triggers("cosmosDBTrigger").items():
        if binding["containerName"] not in keys:
            yield f"function {name} follows the container {binding['containerName']}, which is not deployed"
        if keys.get(binding["leaseContainerName"]) != ["/id"]:
            yield f"function {name} keeps its leases in {binding['leaseContainerName']}, which is not deployed by /id"
        if binding.get("createLeaseContainerIfNotExists"):
            yield f"function {name} would make its container of leases, which an identity may not"


def _containers_on_azure(files: Files) -> Iterator[str]:
    for model, dimensions in ((StaticEmbeddingModel.name, StaticEmbeddingModel.dimensions), ("other-model-3", 1536)):
        deployment = files.deployment(embeddingModel=model, embeddingDimensions=dimensions)
        deployed = {one.name: one.body["properties"]["resource"] for one in deployment.of_type(CONTAINER_TYPE)}
        code = {one.name: one.resource for one in containers(model, dimensions)}
        if set(deployed) != set(code):
            yield f"{CONTAINERS_FILE}: deployed are {sorted(deployed)}, and the code has {sorted(code)}"
        for name in set(deployed) & set(code):
            for key in deployed[name].keys() | code[name].keys():
                there, here = deployed[name].get(key), code[name].get(key)
                if there != here:
                    yield f"container {name}: {key} is {there!r} on Azure, and {here!r} in the code"


def _settings_of_bindings(files: Files) -> Iterator[str]:
    """A connection or ``%SETTING%`` that is missing puts the whole host in error."""
    places: dict[str, Mapping[str, str]] = {
        "infra/function-app.bicep": files.deployed_settings(),
        "local.settings.example.json": files.local_settings,
        "docs/configuration.md": files.rows("docs/configuration.md"),
    }
    for function, bindings in app_bindings().items():
        for binding in bindings:
            connection = binding.get("connection")
            for place, settings in places.items():
                names = {name.partition("__")[0] for name in settings}
                if connection is not None and connection not in names:
                    yield f"function {function} connects by {connection}, which is not in {place}"
                for name in SETTING_IN_BINDING.findall(json.dumps(binding)):
                    if name not in settings:
                        yield f"function {function} names %{name}%, which is not in {place}"


def _settings_are_known_and_enough(files: Files) -> Iterator[str]:
    fields = {variable(field) for field in Settings.model_fields}
    pages = files.text("docs/configuration.md") + files.text("docs/telemetry.md")
    sources = {f"infra ({variant})": files.deployed_settings(variant) for variant in VARIANTS}
    for source, settings in {**sources, "local.settings.example.json": files.local_settings}.items():
        for name in settings:
            if name not in fields | HOSTS_OWN:
                yield f"{source} sets {name}, which nothing reads"
            elif name != "FUNCTIONS_WORKER_RUNTIME" and not re.search(rf"`{name}\b", pages):
                yield f"{source} sets {name}, which neither configuration.md nor telemetry.md tells of"
        with patch.dict("os.environ", settings, clear=True):
            try:
                load_settings()
            except SettingsError as error:
                yield f"{source}: the app would not start: {error}"


def _defaults(files: Files) -> Iterator[str]:
    deployed = files.deployed_settings()
    for field in ("cosmos_database", "blob_container", "payload_days", "token_tenant_claim", "token_user_claim"):
        if (told := deployed.get(variable(field))) != str(Settings.model_fields[field].default):
            yield f"{variable(field)} is {told!r} on Azure and {Settings.model_fields[field].default!r} in the code"
    database = files.deployment().only("Microsoft.DocumentDB/databaseAccounts/sqlDatabases").name
    if database != deployed["SHARDLINE_COSMOS_DATABASE"]:
        yield f"the database is {database}, and the app is told {deployed['SHARDLINE_COSMOS_DATABASE']}"
    blobs = {
        one.name for one in files.deployment().of_type("Microsoft.Storage/storageAccounts/blobServices/containers")
    }
    if deployed["SHARDLINE_BLOB_CONTAINER"] not in blobs:
        yield f"the blob container {deployed['SHARDLINE_BLOB_CONTAINER']} is not deployed, only {sorted(blobs)}"


def _host_json(files: Files) -> Iterator[str]:
    host, bus = files.host, files.host["extensions"]["serviceBus"]
    lock = min(queue.lock_duration for queue in QUEUES.values())
    if not timespan(host["functionTimeout"]) < timespan(bus["maxAutoLockRenewalDuration"]):
        yield "host.json: a function may run longer than its message's lock is renewed"
    if timespan(host["functionTimeout"]) <= lock:
        yield "host.json: a batch may not even use up its lock"
    if bus["autoCompleteMessages"] is not True:
        yield "host.json: messages must complete by a return; the Python worker can't settle them"
    if bus["prefetchCount"] != 0:
        yield "host.json: prefetched messages would lose their locks while they wait"
    if not host["extensionBundle"]["version"].startswith("[4."):
        yield "host.json: the bindings are those of bundle 4"
    prefix = host["extensions"]["http"]["routePrefix"]
    if not str(files.deployment().outputs["SHARDLINE_API"]).endswith(f"/{prefix}"):
        yield f"infra: SHARDLINE_API does not end with the route prefix {prefix} of host.json"


def _compose(files: Files) -> Iterator[str]:
    published: dict[int, str] = {}
    for name, service in files.compose.items():
        for port in service.get("ports", []):
            address, outside, _ = str(port).split(":")
            published[int(outside)] = name
            if address != "127.0.0.1":
                yield f"docker-compose.yml: port {outside} of {name} is open to other machines"
    # AMQP, Cosmos DB's and Azurite's own; local.settings.example.json names the second.
    wanted = {5672, 10000, int(re.findall(r"localhost:(\d+)/", files.local_settings["CosmosConnection"])[0])}
    wanted |= {int(re.findall(r":(\d+)/", address)[0]) for address in ADDRESSES.values()}
    if missing := sorted(wanted - set(published)):
        yield f"docker-compose.yml: nothing answers at the ports {missing}"
    mounts = [str(mount).split(":")[0] for service in files.compose.values() for mount in service.get("volumes", [])]
    if [str(Path(mount)) for mount in mounts] != [EMULATOR_FILE]:
        yield f"docker-compose.yml mounts {mounts}, and the queues are in {EMULATOR_FILE}"


def _azd(files: Files) -> Iterator[str]:
    project = yaml.safe_load(files.text("azure.yaml"))
    site = files.deployment().only("Microsoft.Web/sites")
    if set(project["services"]) != {site.body["tags"]["azd-service-name"]}:
        yield f"azure.yaml deploys {sorted(project['services'])}, and the site is tagged {site.body['tags']}"
    for name, service in project["services"].items():
        runtime = site.body["properties"]["functionAppConfig"]["runtime"]["name"]
        if (service["host"], service["language"]) != ("function", runtime):
            yield f"azure.yaml: {name} is no function app in {runtime}"
        if not (files.root / service["project"] / "host.json").is_file():
            yield f"azure.yaml: there is no app in {service['project']}"
    if not (files.root / project["infra"]["path"] / "main.bicep").is_file():
        yield f"azure.yaml: there is no main.bicep in {project['infra']['path']}"


def _workflow(files: Files) -> Iterator[str]:
    text = files.text(".github/workflows/deploy.yml")
    runtime = files.deployment().only("Microsoft.Web/sites").body["properties"]["functionAppConfig"]["runtime"]
    if not re.search(rf"^ +{re.escape(runtime['version'])}$", text, re.MULTILINE):
        yield f"deploy.yml does not test on Python {runtime['version']}, which the app is deployed on"
    for name in re.findall(r"jq --raw-output \.(\w+)\.value", text):
        if name not in files.deployment().outputs:
            yield f"deploy.yml reads the output {name}, which main.bicep has not"


def _parameters(files: Files) -> Iterator[str]:
    declared = parameters_of(files.root / "infra/main.bicep")
    given = json.loads(files.text("infra/main.parameters.json"))["parameters"]
    told = files.rows("docs/deploy.md")
    if [one.name for one in declared] != list(given):
        yield f"main.parameters.json has {list(given)}, and main.bicep {[one.name for one in declared]}"
    for one in declared:
        if not one.description:
            yield f"main.bicep: the parameter {one.name} has no description"
        written = re.fullmatch(r"\$\{\w+(?:=(.*))?\}", given.get(one.name, {"value": ""})["value"])
        default = written[1] if written else "nothing that azd understands"
        if default != one.default:
            yield f"main.parameters.json: {one.name} defaults to {default!r}, in main.bicep to {one.default!r}"
        expected = "required" if one.default is None else f"`{one.default}`" if one.default else "none"
        if told.get(one.name) != expected:
            yield f"docs/deploy.md: the default of {one.name} is told as {told.get(one.name)!r}, not {expected}"
