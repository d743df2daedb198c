"""A Slack workspace and everything that reads it, as the source contract drives it."""

import secrets
from datetime import datetime, timedelta
from pathlib import Path

from slack_receiver import SlackReceiver
from source_rig import Key, SourceRig

from connections.connection import Connection
from connections.slack_connection import SlackAuth, SlackConnection
from ingestion.slack.webhook import receive
from ingestion.webhooks import PushAnswer, PushRequest
from local.slack.event_sender import signature
from local.slack.server import SlackSimulator
from local.slack.workspace import Workspace
from shards.model import Shard

TEAM = "T0ACME0001"
SECONDS_TO_SEND = 10.0


class SlackSourceRig(SourceRig):
    """Records are messages of one channel that the bot is in; pushes are what the Events API sends, signed anew."""

    system = "slack"
    login_secret = "slack-bot"
    signs_bodies = True

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(TEAM, "Acme", domain="acme", email_domain="acme.example")
        self.receiver = SlackReceiver()
        self.receiver.__enter__()
        self.simulator = SlackSimulator(self.workspace).start()
        # What the tiers do is for limit_rate() to show.
        self.simulator.api.limits.scale = None
        self.simulator.sender.concurrency = 1
        self.simulator.sender.answer_seconds = 60
        self.simulator.sender.subscribe(self.receiver.url)
        super().__init__(folder, slack_simulator=self.simulator.base_url)
        self.user = self.workspace.add_user("ann")
        members = [self.workspace.bot_user_id]
        self.channel = self.workspace.create_channel("deals", user=self.user, members=members).id

    def set_vendor_clock(self, moment: datetime) -> None:
        self.workspace.clock.freeze(moment)

    def new_connection(self, tenant_id: str) -> Connection:
        credentials = self.simulator.credentials
        self.planted.append(credentials.verification_token)
        return SlackConnection(
            connection_id="slack",
            tenant_id=tenant_id,
            name="Acme Slack",
            auth=SlackAuth(
                bot_token=self.keep(self.login_secret, credentials.bot_token, tenant_id),
                signing_secret=self.keep("slack-signing", credentials.signing_secret, tenant_id),
            ),
            history_page=2,
            schedule=self.schedule,
        )

    async def create(self, text: str) -> Key:
        ts = self.workspace.post(self.channel, text, user=self.user)
        return Key("message", f"{self.channel}:{ts}")

    async def reply(self, root: Key, text: str) -> Key:
        """Answer a message in its thread."""
        ts = self.workspace.post(self.channel, text, user=self.user, thread_ts=ts_of(root))
        return Key("message", f"{self.channel}:{ts}")

    async def change(self, key: Key, text: str) -> None:
        self.workspace.edit(self.channel, ts_of(key), text, user=self.user)

    async def delete(self, key: Key) -> None:
        self.workspace.delete_message(self.channel, ts_of(key))

    async def destroy(self, key: Key) -> None:
        with self.workspace.lock:
            self.workspace.channel(self.channel).remove(ts_of(key))

    def limit_rate(self, seconds: int) -> timedelta:
        self.simulator.api.faults.add("ratelimited", times=None, headers={"Retry-After": str(seconds)})
        return timedelta(seconds=seconds)

    def answer_with_html(self) -> None:
        self.simulator.api.faults.add("unavailable-html", times=None)

    def end_faults(self) -> None:
        self.simulator.api.faults.clear()

    def revoke_credentials(self) -> None:
        self.workspace.revoke_token()

    def restore_credentials(self) -> None:
        self.workspace.reinstall()

    def rotate_credentials(self) -> None:
        credentials = self.simulator.credentials
        credentials.bot_token = f"xoxb-{secrets.token_hex(20)}"
        credentials.signing_secret = secrets.token_hex(16)
        self.keep(self.login_secret, credentials.bot_token)
        self.keep("slack-signing", credentials.signing_secret)

    def withhold(self) -> None:
        self.simulator.credentials.scopes.discard("channels:history")

    def calls(self) -> int:
        return len(self.simulator.api.calls)

    def limited_calls(self) -> int:
        # A limit is of one method: the others go on.
        calls = list(self.simulator.api.calls)
        refused = {call.method for call in calls if call.status == 429}
        return sum(call.method in refused for call in calls)

    async def pushes(self) -> list[PushRequest]:
        assert self.simulator.sender.wait_until_idle(SECONDS_TO_SEND)
        bodies = [one.body for one in self.receiver.received]
        self.receiver.received.clear()
        return [self.signed(body) for body in bodies]

    def signed(self, body: bytes) -> PushRequest:
        """As Slack signs it, by the time that it is here."""
        timestamp = str(int(self.now.timestamp()))
        signed = signature(self.simulator.credentials.signing_secret, timestamp, body)
        headers = {
            "content-type": "application/json",
            "x-slack-request-timestamp": timestamp,
            "x-slack-signature": signed,
        }
        return PushRequest(headers, body)

    def with_body(self, request: PushRequest, body: bytes) -> PushRequest:
        return self.signed(body)

    async def take_push(self, request: PushRequest) -> PushAnswer:
        return await receive(request, self.webhooks)

    def text_of(self, shard: Shard) -> str:
        return str(shard.structured_data["content"])

    async def close(self) -> None:
        await super().close()
        self.simulator.stop()
        self.receiver.__exit__(None, None, None)


def ts_of(key: Key) -> str:
    """The message's own ts."""
    return key.external_id.partition(":")[2]
