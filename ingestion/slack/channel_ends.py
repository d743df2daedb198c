"""Channels that are no more: deleted, under another id, or not to be seen by the app any longer."""

from collections.abc import AsyncIterator

from ingestion.slack.events import send_events, ts_of
from ingestion.slack.facts import channel_scope
from ingestion.slack.resharing import ResharingPorts, close_channel
from ingestion.slack.workspace import Workspace
from messaging.times import to_text
from processors.mapping.slack import CHANNEL, MESSAGE
from shards.model import ExternalRelationship, Shard

PAGE = 200


async def channel_deleted(
    workspace: Workspace,
    channel_id: str,
    version: str,
    read_at: str,
    event_id: str | None = None,
    *,
    home: str | None = None,
) -> int:
    """Delete the channel and, as Slack does, all that was in it; how many events were sent. *home* None: of the
    workspace that it is stored under.

    The messages first: whoever does it again finds those that are left.

    Raises:
        BusUnavailableError, StoreUnavailableError: do it again.
    """
    home = home or await workspace.stored_home(channel_id)
    sent = await _messages_end(workspace, channel_id, home, version=version, read_at=read_at, event_id=event_id)
    gone = workspace.events.gone(CHANNEL, channel_id, home, version, read_at, event_id=event_id)
    workspace.forget_channel(channel_id)
    return sent + await send_events(workspace.ports.bus, [gone])


async def channel_moved(
    workspace: Workspace, old: str, new: str, *, version: str, read_at: str, event_id: str | None = None
) -> int:
    """Let the old id of a channel, and of each message in it, lead to the new one; how many events were sent.

    Raises:
        BusUnavailableError, StoreUnavailableError: do it again.
    """
    home = await workspace.stored_home(old)
    sent = await _messages_end(workspace, old, home, version=version, read_at=read_at, event_id=event_id, moved_to=new)
    workspace.forget_channel(old)
    workspace.forget_channel(new)
    moved = workspace.events.gone(CHANNEL, old, home, version, read_at, event_id=event_id, moved_to=new)
    return sent + await send_events(workspace.ports.bus, [moved])


async def late_messages_end(workspace: Workspace, channel: Shard) -> int:
    """End what has come of a *channel* that is there no more: it was on its way when the channel's end was told. How
    many events were sent.

    Raises:
        BusUnavailableError, StoreUnavailableError: do it again.
    """
    source, ports = channel.external_relationships[0], workspace.ports
    moved_to: str | None = None
    if channel.redirect_to is not None:
        # Where Slack shows nothing of what it has become, there is nothing to lead to.
        moved = await ports.store.get(channel.tenant_id, channel.redirect_to)
        moved_to = None if moved is None else moved.external_relationships[0].external_id
    now = ports.clock()
    version, read_at = ts_of(now), to_text(now)
    return await _messages_end(
        workspace, source.external_id, source.instance, version=version, read_at=read_at, moved_to=moved_to
    )


async def channel_unseen(workspace: Workspace, channel_id: str) -> int:
    """Close a private channel that the app can't see any more; how many shards were written. A public one stays: the
    app may read of it without being in it, and whoever is of the tenant may read it.

    Raises:
        StateMovedError, BusUnavailableError, StoreUnavailableError: do it again.
    """
    workspace.forget_channel(channel_id)
    if await workspace.ends_here_alone(channel_id):
        return 0
    home = await workspace.stored_home(channel_id)
    shard_id = workspace.events.shard_id(CHANNEL, channel_id, home)
    shard = await workspace.ports.store.get(workspace.connection.tenant_id, shard_id)
    if shard is None or not shard.structured_data.get("isPrivate"):
        return 0
    return await close(workspace, channel_id)


async def close(workspace: Workspace, channel_id: str) -> int:
    """Let nobody read the channel, nor what is in it.

    Raises:
        StateMovedError, BusUnavailableError, StoreUnavailableError: do it again.
    """
    workspace.forget_channel(channel_id)
    home = await workspace.stored_home(channel_id)
    ports = workspace.ports
    closed = await close_channel(
        workspace.connection.tenant_id,
        workspace.events.shard_id(CHANNEL, channel_id, home),
        channel_scope(home, channel_id),
        ResharingPorts(ports.store, ports.bus, ports.clock),
    )
    if closed:
        await workspace.share_again(channel_id, is_scoped=True)
    return closed


async def _messages_end(
    workspace: Workspace,
    channel_id: str,
    home: str,
    *,
    version: str,
    read_at: str,
    event_id: str | None = None,
    moved_to: str | None = None,
) -> int:
    """Delete the stored live messages of a channel, or let them lead to the channel that it has become."""
    sent = 0
    async for messages in _messages_of(workspace, channel_id, home):
        events = [
            workspace.events.gone(
                MESSAGE,
                one.external_id,
                home,
                version,
                read_at,
                event_id=event_id,
                moved_to=f"{moved_to}:{one.external_id.partition(':')[2]}" if moved_to else None,
            )
            for one in messages
        ]
        sent += await send_events(workspace.ports.bus, events)
    return sent


async def _messages_of(workspace: Workspace, channel_id: str, home: str) -> AsyncIterator[list[ExternalRelationship]]:
    """The stored live messages of a channel, in pages."""
    tenant_id = workspace.connection.tenant_id
    target = workspace.events.shard_id(CHANNEL, channel_id, home)
    cursor: str | None = None
    while True:
        page = await workspace.ports.store.incoming(tenant_id, target, limit=PAGE, cursor=cursor)
        ids = [link.source_shard_id for link in page.items if link.link.relationship_type == "message_in_channel"]
        stored = await workspace.ports.store.get_many(tenant_id, ids) if ids else {}
        yield [
            source
            for shard in stored.values()
            if shard.is_live
            for source in shard.external_relationships
            if source.object_type == MESSAGE and source.external_id.startswith(f"{channel_id}:")
        ]
        cursor = page.cursor
        if cursor is None:
            return
