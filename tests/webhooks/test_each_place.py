"""Each value that nobody means, in each place of a recorded payload, one at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

from hostile_json import RAW, places
from webhook_rig import ACME, ORG, TEAM, TIMES, WebhookRig

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SLACK = (
    "events/derived_channel_rename.json",
    "events/bolt_message_changed.json",
    "events/bolt_message_file_share.json",
)
SALESFORCE = (
    "cdc/derived_account_delete.json",
    "cdc/derived_account_overflow.json",
    "cdc/derived_account_update_and_null.json",
    "callout/SFDCCallbackSampleOpportunityUpdated.json",
)
OF_AN_ORDINARY_RUN = (b"null", b'""', b"[null]", b"1e999999", b'"' + b"A" * 300_000 + b'"', b"[" * 90 + b"]" * 90)


def changed(sample: bytes) -> Iterator[bytes]:
    """*sample* with each value in each place."""
    count = len(list(places(json.loads(sample))))
    for number in range(count):
        content = json.loads(sample)
        holder, key = list(places(content))[number]
        holder[key] = "@@"
        text = json.dumps(content).encode()
        for value in RAW if TIMES > 1 else OF_AN_ORDINARY_RUN:
            yield text.replace(b'"@@"', value)


async def test_in_what_slack_sends(rig: WebhookRig) -> None:
    for name in SLACK if TIMES > 1 else SLACK[:1]:
        sample = {**json.loads((SAMPLES / "slack" / name).read_bytes()), "team_id": TEAM}
        for body in changed(json.dumps(sample).encode()):
            answer = await rig.post("webhooks/slack", body, rig.slack(body))
            assert answer.status in (200, 400, 401)
            assert {work.tenant_id for work in answer.taken} <= {ACME}


async def test_in_what_salesforce_sends(rig: WebhookRig) -> None:
    for name in SALESFORCE if TIMES > 1 else SALESFORCE[:1]:
        sample = (SAMPLES / "salesforce" / name).read_bytes().replace(b"00D5g000000OPENEA4", ORG.encode())
        for body in changed(sample):
            answer = await rig.post(rig.address(), body, [("Content-Type", "application/json")])
            assert answer.status in (202, 400, 403, 413)
            assert {work.tenant_id for work in answer.taken} <= {ACME}
