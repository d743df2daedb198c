"""The command for whoever deploys: provision."""

from typing import Annotated

import typer

from cli.home import CommandError, JsonOption, UsageError, run_async
from cli.output import console, print_json_lines, table
from settings import load_settings


def provision(
    throughput: Annotated[
        int | None,
        typer.Option(min=1000, help="Request units a second at most, of each new container; none: serverless."),
    ] = None,
    without_search: Annotated[
        bool, typer.Option("--without-search", help="Leave out index and search policies, as the emulator wants it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make the database and the containers that the home on Azure lacks; tell where those that are there differ."""
    settings = load_settings()
    if settings.home != "azure":
        raise UsageError(f"a home on Azure is provisioned, but SHARDLINE_HOME is {settings.home}")
    from azure_composition import provision_azure
    from shards.cosmos_provisioning import ProvisioningError

    try:
        found = run_async(provision_azure(settings, throughput=throughput, search=not without_search))
    except ProvisioningError as error:
        raise CommandError(str(error)) from None
    if json:
        print_json_lines({"name": one.name, "made": one.made, "differences": one.differences} for one in found)
    else:
        rows = [[one.name, "made" if one.made else "there", "; ".join(one.differences)] for one in found]
        console().print(table("Containers", ["container", "is", "other than defined"], rows))
    different = [one.name for one in found if one.differences]
    if different and not without_search:
        raise CommandError(f"{', '.join(different)}: other than this version defines; see docs/deploy.md")
