"""The operations functions: what runs on timers of its own."""

from datetime import timedelta

import azure.functions as func

from composition import services
from operations.dead_letters import drain
from operations.reconciliation import reconcile

blueprint = func.Blueprint()


@blueprint.timer_trigger("timer", "%SHARDLINE_RECONCILE_SCHEDULE%", run_on_startup=False, use_monitor=True)
async def reconcile_stages(timer: func.TimerRequest) -> None:
    """Park what the bus gave up on, and emit again what stayed behind."""
    app = services()
    await drain(app.dead_letters)
    await reconcile(app.reconciliation, after=timedelta(seconds=app.settings.reconcile_after_seconds))


@blueprint.timer_trigger("timer", "0 17 3 * * *", run_on_startup=False, use_monitor=True)
async def expire_payloads(timer: func.TimerRequest) -> None:
    """Delete large payloads that no message can name any more."""
    app = services()
    await app.blobs.delete_older(app.clock() - timedelta(days=app.settings.payload_days))
