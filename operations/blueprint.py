"""The operations functions: what runs on timers of its own."""

from datetime import timedelta

import azure.functions as func

from composition import services
from messaging import tracing
from operations.dead_letters import drain
from operations.reconciliation import observe, reconcile
from operations.text_sweep import slice_at, sweep_texts
from shards.request_charges import charged

blueprint = func.Blueprint()


@blueprint.timer_trigger("timer", "%SHARDLINE_RECONCILE_SCHEDULE%", run_on_startup=False, use_monitor=True)
@charged
async def reconcile_stages(timer: func.TimerRequest) -> None:
    """Park what the bus gave up on, emit again what stayed behind, and measure how things stand."""
    app = services()
    with tracing.span("reconcile", {}):
        await drain(app.dead_letters)
        await reconcile(app.reconciliation, after=timedelta(seconds=app.settings.reconcile_after_seconds))
        await observe(app.reconciliation)


@blueprint.timer_trigger("timer", "0 17 3 * * *", run_on_startup=False, use_monitor=True)
@charged
async def expire_payloads(timer: func.TimerRequest) -> None:
    """Delete large payloads that no message can name any more."""
    app = services()
    await app.blobs.delete_older(app.clock() - timedelta(days=app.settings.payload_days))


@blueprint.timer_trigger("timer", "0 43 * * * *", run_on_startup=False, use_monitor=True)
@charged
async def sweep_file_texts(timer: func.TimerRequest) -> None:
    """Delete the texts of files that nothing names, of the hour's slice of all texts."""
    app = services()
    await sweep_texts(app.text_sweep, slice_at(app.clock()))
