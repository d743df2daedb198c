"""The way in: the timer that asks for what is due, and the queue function that does it."""

from collections.abc import Sequence
from functools import partial

import azure.functions as func

from composition import services
from ingestion.asking import enqueue_due
from ingestion.gdrive import webhook as gdrive_webhook
from ingestion.ports import IngestionPorts
from ingestion.salesforce import webhook as salesforce_webhook
from ingestion.slack import webhook as slack_webhook
from ingestion.webhooks import push_request, push_response
from ingestion.work import handle_source_work
from messaging.contracts import SourceWork
from messaging.queues import SOURCE_WORK
from processors.delivery import Delivery, consume
from processors.outcome import Outcome
from shards.request_charges import charged

blueprint = func.Blueprint()


@blueprint.timer_trigger("timer", "%SHARDLINE_POLL_SCHEDULE%", run_on_startup=False, use_monitor=True)
@charged
async def poll_due(timer: func.TimerRequest) -> None:
    """Ask for the polls and sweeps that are due."""
    await enqueue_due(services().ingestion)


@blueprint.service_bus_queue_trigger("message", "ServiceBusConnection", SOURCE_WORK, data_type=func.DataType.BINARY)
@charged
async def work_on_source(message: func.ServiceBusMessage) -> None:
    """Do a piece of work against a source, under the connection's lease."""
    app = services()
    await consume([message], SOURCE_WORK, SourceWork, partial(_each, ports=app.ingestion), app.delivery)


@blueprint.route(
    route="webhooks/salesforce/{connectionId}/{secret}", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS
)
@charged
async def receive_salesforce(req: func.HttpRequest) -> func.HttpResponse:
    """Take what Salesforce posts to a connection's own address."""
    ports = services().webhooks
    return push_response(await salesforce_webhook.receive(push_request(req), ports))


@blueprint.route(route="webhooks/slack", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@charged
async def receive_slack(req: func.HttpRequest) -> func.HttpResponse:
    """Take what Slack's Events API posts."""
    ports = services().webhooks
    return push_response(await slack_webhook.receive(push_request(req), ports))


@blueprint.route(route="webhooks/gdrive", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@charged
async def receive_gdrive(req: func.HttpRequest) -> func.HttpResponse:
    """Take the notifications of Drive's push channels."""
    ports = services().webhooks
    return push_response(await gdrive_webhook.receive(push_request(req), ports))


async def _each(deliveries: Sequence[Delivery[SourceWork]], ports: IngestionPorts) -> list[Outcome]:
    return [await handle_source_work(one.value, ports, source_failures=one.source_failures) for one in deliveries]
