"""Guests and people of other companies: they read the channels that they are in, and none else, as at Slack."""

import json
from collections.abc import Iterator
from typing import Any

import azure.functions as func
import pytest
from chain_rig import TENANT, current
from slack_rig import TEAM, SlackRig

from api.reading import principals_of, readable
from api.tokens import TokenKey, reader_principals
from shards.store import SearchQuery

GUEST = "gus@agency.example"
KINDS: dict[str, dict[str, Any]] = {
    "a guest of several channels": {"is_restricted": True},
    "a guest of one channel": {"is_restricted": True, "is_ultra_restricted": True},
    "somebody of another company": {"team_id": "T0PARTNER1"},
    "a stranger": {"team_id": "T0PARTNER1", "is_stranger": True},
}


@pytest.fixture(autouse=True)
def api_of_the_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("api.blueprint.services", current.get)
    yield


async def found(rig: SlackRig, words: str, address: str) -> list[str]:
    """What search finds for *address* on the command line."""
    reader = await principals_of(rig.store, TENANT, address)
    hits = await rig.store.search(SearchQuery(TENANT, words, None, principals=reader))
    return sorted(hit.shard.structured_data["content"] for hit in hits if "content" in hit.shard.structured_data)


async def found_by_token(rig: SlackRig, words: str, address: str) -> list[str]:
    """What search finds over HTTP, with a token that is signed for *address*."""
    current.set(rig.services)
    tokens = rig.services.tokens
    assert isinstance(tokens, TokenKey)
    headers = {"Authorization": f"Bearer {tokens.sign(TENANT, address, now=rig.now)}"}
    body = json.dumps({"query": words, "types": ["c_message"]}).encode()
    [route] = [one for one in rig.index.http if one.name == "search"]
    answer = await route.call(func.HttpRequest("POST", "/api/search", headers=headers, body=body))
    texts = [hit["text"].partition(": ")[2] or hit["text"] for hit in json.loads(answer.get_body())["hits"]]
    return sorted(text for text in texts if words in text)  # more is found that means about the same


def guest(rig: SlackRig, kind: str = "a guest of several channels") -> str:
    return rig.workspace.add_user("gus", profile={"email": GUEST}, **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_guest_reads_no_public_channel_but_those_that_they_are_in(rig: SlackRig, deal: str, kind: str) -> None:
    slack = rig.workspace
    gus = guest(rig, kind)
    away = slack.create_channel("figures", user="U0ANN", members=[slack.bot_user_id]).id
    closed = slack.create_channel("board", user="U0ANN", members=[slack.bot_user_id], private=True).id
    for channel, text in ((deal, "merger of the deal"), (away, "merger in figures"), (closed, "merger of the board")):
        slack.post(channel, text, user="U0ANN")
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == await found_by_token(rig, "merger", GUEST) == []
    assert "merger of the deal" in await found(rig, "merger", "bob@acme.example")
    slack.join(deal, gus, inviter="U0ANN")
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == ["merger of the deal"]
    [told] = await found_by_token(rig, "merger", GUEST)
    assert "merger of the deal" in told
    slack.join(closed, gus, inviter="U0ANN")
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == ["merger of the board", "merger of the deal"]
    assert await found(rig, "merger", "bob@acme.example") == ["merger in figures", "merger of the deal"]
    slack.leave(deal, gus)
    slack.leave(closed, gus)
    # A worker that has not heard of it writes another message with the readers that it knows.
    ts = slack.post(deal, "merger goes on", user="U0ANN")
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == await found_by_token(rig, "merger", GUEST) == []
    assert not await readable(rig.store, await rig.message(deal, ts), reader_principals(GUEST) - {"tenant"})
    assert "merger goes on" in await found(rig, "merger", "bob@acme.example")
    assert await rig.parked() == []


async def test_a_guest_who_becomes_a_member_reads_what_members_do(rig: SlackRig, deal: str) -> None:
    gus = guest(rig)
    rig.workspace.post(deal, "merger", user="U0ANN")
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == []
    rig.workspace.change_user(gus, is_restricted=False)
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == ["merger"]
    rig.workspace.change_user(gus, is_restricted=True)
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == []


async def test_guests_that_no_event_told_of_are_found(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    await rig.deliver()
    slack.post(deal, "merger", user="U0ANN")
    await rig.deliver()
    rig.simulator.sender.lose_next(1_000_000)
    gus = guest(rig)
    slack.join(deal, gus, inviter="U0ANN")
    await sweep(rig)
    assert await found(rig, "merger", GUEST) == ["merger"]
    slack.leave(deal, gus)
    await sweep(rig)
    assert await found(rig, "merger", GUEST) == []
    assert (await rig.channel(deal)).acl.principals == ("tenant",)


async def test_a_guest_who_leaves_a_channel_that_the_app_is_not_in_any_more_is_found(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    gus = guest(rig)
    slack.post(deal, "merger", user="U0ANN")
    await rig.deliver()
    slack.join(deal, gus, inviter="U0ANN")
    await rig.deliver()
    slack.leave(deal, actor="U0ANN")
    slack.leave(deal, gus)
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == ["merger"], "no event tells of it"
    await sweep(rig)
    assert await found(rig, "merger", GUEST) == []
    assert await found(rig, "merger", "bob@acme.example") == ["merger"]


async def test_a_guest_who_is_deactivated_does_not_become_one_of_the_tenants_own(rig: SlackRig, deal: str) -> None:
    gus = guest(rig)
    rig.workspace.post(deal, "merger", user="U0ANN")
    await rig.deliver()
    del rig.workspace.users[gus]["is_restricted"]  # as Slack does
    rig.workspace.change_user(gus, deleted=True)
    await rig.deliver()
    shard = await rig.slack_shard("user", gus)
    assert shard is not None and shard.structured_data["isActive"] is False
    assert await found(rig, "merger", GUEST) == await found_by_token(rig, "merger", GUEST) == []


async def sweep(rig: SlackRig) -> None:
    """Twice: the rig's clock stands still in one, so that two readings of a channel have the same version."""
    await rig.ask("sweep")
    await rig.ask("sweep")


async def test_a_guest_who_is_a_member_of_another_of_the_tenants_workspaces_is_one_of_its_own(
    rig: SlackRig, deal: str
) -> None:
    guest(rig)
    rig.workspace.post(deal, "merger", user="U0ANN")
    await rig.deliver()
    assert await found(rig, "merger", GUEST) == []
    member = rig.source._workspace(rig.connection).events.user(
        {"id": "U0OTHER", "team_id": "T0OTHER", "name": "gus", "profile": {"email": GUEST}}, "2026-01-01T00:00:00.000Z"
    )
    await rig.run(member.model_copy(update={"instance": "T0OTHER"}))
    assert await found(rig, "merger", GUEST) == ["merger"]


async def test_what_a_channel_with_guests_holds_is_closed_when_it_turns_private(rig: SlackRig, deal: str) -> None:
    slack = rig.workspace
    gus = guest(rig)
    slack.join(deal, gus, inviter="U0ANN")
    ts = slack.post(deal, "merger", user="U0ANN")
    await rig.deliver()
    slack.channel(deal).is_private = True
    await rig.ask("read", ids={"channel": [deal]})
    message = await rig.message(deal, ts)
    assert message.acl.scope == f"slack:{TEAM}:{deal}"
    assert await found(rig, "merger", GUEST) == ["merger"], "they are in it"
    assert not await readable(rig.store, message, frozenset({"user:eve@acme.example", "tenant"}))
