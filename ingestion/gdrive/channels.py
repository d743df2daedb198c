"""Push channels: Drive is asked to say when a log has moved, and asked anew before it stops.

A notification carries nothing but headers and is signed by nothing. What it proves is its token, which only whoever
opened the channel could have made: it names the connection, and a keyed hash over that name and the channel's own id.
"""

import hmac
import logging
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BinasciiError
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec

from connections.gdrive_connection import DriveConnection
from connections.secrets import Secret, SecretError, SecretsUnavailableError
from connections.state import Saved
from ingestion.errors import CredentialError, TransientError
from ingestion.gdrive.client import DriveClients
from ingestion.gdrive.errors import FileRefusedError, LostTokenError, NotFoundError, RequestRefusedError
from ingestion.gdrive.memory import (
    Channel,
    ChannelNotes,
    ChannelsMemory,
    DriveNotes,
    channels_key,
    log_key,
    new_channels_memory,
    new_log_memory,
)
from ingestion.gdrive.poll import Log, logs_of
from ingestion.gdrive.taking import known_drives
from ingestion.source import RunReport, SourcePorts
from messaging.times import from_milliseconds, from_text, to_milliseconds, to_text
from operations.metrics import Metrics

log = logging.getLogger(__name__)

LIFETIME = timedelta(days=7)
"""The most that Drive gives a channel on changes."""
RENEWED_BEFORE = timedelta(days=2)
WATCHED_EVERY = timedelta(hours=6)


def channel_token(connection: DriveConnection, channel_id: str, secret: Secret) -> str:
    """The token of a channel: ``<connection id in base64>.<keyed hash>``; Drive allows 256 characters."""
    named = urlsafe_b64encode(connection.connection_id.encode()).decode().rstrip("=")
    text = f"{len(connection.tenant_id)}:{connection.tenant_id}{connection.connection_id}\n{channel_id}"
    digest = hmac.new(secret.reveal().encode(), text.encode("utf-8", "surrogatepass"), sha256).hexdigest()
    return f"{named}.{digest}"


def connection_named_in(token: str) -> str | None:
    """The connection that a token says it is of; None when it is no token."""
    named, dot, _ = token.partition(".")
    if not dot or not named.isascii() or len(token) > 256:
        return None
    try:
        return urlsafe_b64decode(named + "=" * (-len(named) % 4)).decode()
    except (BinasciiError, ValueError):
        return None


@dataclass(slots=True)
class Watching:
    """Opens, renews and closes the channels of one connection, under its lease."""

    connection: DriveConnection
    ports: SourcePorts
    clients: DriveClients
    metrics: Metrics
    report: RunReport = field(default_factory=RunReport)

    async def watch(self, deadline: datetime) -> RunReport:
        """Have every log watched, by a channel that does not end soon; the new one is open before the old one closes.

        Raises:
            CredentialError, TransientError, BudgetExhaustedError, StateMovedError: ask again.
            StoreUnavailableError: nothing is lost, ask again.
        """
        saved = await self._load()
        secret = await self._secret()
        notes = await known_drives(self.connection, self.ports)
        logs = {one.name: one for one in logs_of(self.connection, notes)}
        saved = await self._save(saved, _without_others(saved.value.metadata, set(logs)))
        for one in logs.values():
            if self.ports.clock() >= deadline:
                self.report.finished = False
                break
            known = saved.value.metadata.channels.get(one.name)
            if known is not None and self._lasts(known, secret):
                continue
            try:
                opened = await self._opened_by_whoever_can(one, notes, secret)
            except (CredentialError, NotFoundError, FileRefusedError, RequestRefusedError, LostTokenError) as error:
                self.report.errors[one.name] = f"no push channel for {one.name}: {error}"
                continue
            if opened is not None:
                saved = await self._save(saved, _replaced(saved.value.metadata, one.name, opened))
        saved = await self._close_left(saved)
        self._tell_expiry(saved.value.metadata)
        self.report.failed = bool(self.report.errors) and len(self.report.errors) == len(logs)
        return self.report

    async def stop(self) -> None:
        """Close all channels, as far as Drive can be reached."""
        saved = await self._load()
        saved = await self._save(saved, _without_others(saved.value.metadata, set()))
        await self._close_left(saved)

    def _lasts(self, channel: Channel, secret: Secret) -> bool:
        """Whether a channel needs no other in its place; the notifications of one of an old secret are refused."""
        return (
            channel.address == self.connection.push_address
            and channel.mark == _mark(channel_token(self.connection, channel.channel_id, secret))
            and from_text(channel.expires_at) - RENEWED_BEFORE > self.ports.clock()
        )

    async def _opened_by_whoever_can(self, one: Log, notes: DriveNotes, secret: Secret) -> Channel | None:
        """As :meth:`_opened`; on a shared drive as the first of its members whom Google gives a token."""
        members = notes.drives[one.drive_id].members if one.drive_id is not None else ()
        for member in members[:-1]:
            try:
                return await self._opened(replace(one, subject=member), secret)
            except CredentialError as error:
                log.info("connection %s: %s", self.connection.connection_id, error)
        return await self._opened(replace(one, subject=members[-1]) if members else one, secret)

    async def _opened(self, one: Log, secret: Secret) -> Channel | None:
        """A new channel on a log; None while the log has no token, which the first poll takes."""
        key, empty = log_key(self.connection, one.name), new_log_memory(self.connection, one.name)
        standing = (await self.ports.states.load(self.connection.tenant_id, key, empty)).value.metadata
        if standing.token is None or standing.relisting is not None:
            return None
        client = self.clients.of(self.connection, one.subject)
        channel_id = str(uuid.uuid4())
        token = channel_token(self.connection, channel_id, secret)
        before = client.calls
        try:
            answer = await client.watch(
                standing.token,
                one.drive_id,
                {
                    "id": channel_id,
                    "type": "web_hook",
                    "address": self.connection.push_address,
                    "token": token,
                    "expiration": str(to_milliseconds(self.ports.clock() + LIFETIME)),
                },
            )
        finally:
            self.report.calls += client.calls - before
        return Channel(
            channel_id=channel_id,
            resource_id=str(answer["resourceId"]),
            subject=one.subject,
            expires_at=to_text(from_milliseconds(int(answer["expiration"]))),
            address=self.connection.push_address or "",
            mark=_mark(token),
        )

    async def _close_left(self, saved: Saved[ChannelsMemory]) -> Saved[ChannelsMemory]:
        left = []
        for channel in saved.value.metadata.left:
            try:
                await self.clients.of(self.connection, channel.subject).stop_channel(
                    channel.channel_id, channel.resource_id
                )
            except (NotFoundError, FileRefusedError, RequestRefusedError, CredentialError):
                # It has ended, or will by itself: a user who is gone gets no notifications either.
                continue
            except TransientError:
                left.append(channel)
        return await self._save(saved, msgspec.structs.replace(saved.value.metadata, left=tuple(left)))

    def _tell_expiry(self, notes: ChannelNotes) -> None:
        ends = [from_text(channel.expires_at) for channel in notes.channels.values()]
        if ends:
            left = min(ends) - self.ports.clock()
            self.metrics.watch_expires(self.connection.tenant_id, self.connection.connection_id, left)

    async def _secret(self) -> Secret:
        reference = self.connection.channel_secret
        if reference is None:
            raise CredentialError("pushAddress needs channelSecret: the tokens of push channels are made with it")
        try:
            return await self.ports.secrets.get(self.connection.tenant_id, reference)
        except SecretError as error:
            raise CredentialError(str(error)) from None
        except SecretsUnavailableError as error:
            raise TransientError(str(error)) from None

    async def _load(self) -> Saved[ChannelsMemory]:
        return await self.ports.states.load(
            self.connection.tenant_id, channels_key(self.connection), new_channels_memory(self.connection)
        )

    async def _save(self, saved: Saved[ChannelsMemory], notes: ChannelNotes) -> Saved[ChannelsMemory]:
        if notes == saved.value.metadata:
            return saved
        value = msgspec.structs.replace(saved.value, metadata=notes, last_sync_status="success")
        return await self.ports.states.save(self.connection.tenant_id, channels_key(self.connection), saved, value)


def _mark(token: str) -> str:
    """What tells a token from another one, and does not tell the token."""
    return sha256(token.encode()).hexdigest()[:16]


def _replaced(notes: ChannelNotes, log: str, opened: Channel) -> ChannelNotes:
    old = notes.channels.get(log)
    left = (*notes.left, old) if old is not None else notes.left
    return ChannelNotes(channels={**notes.channels, log: opened}, left=left)


def _without_others(notes: ChannelNotes, logs: set[str]) -> ChannelNotes:
    """*notes* with the channels of logs that are no more to be closed."""
    others = tuple(channel for log, channel in notes.channels.items() if log not in logs)
    kept = {log: channel for log, channel in notes.channels.items() if log in logs}
    return ChannelNotes(channels=kept, left=(*notes.left, *others)) if others else notes
