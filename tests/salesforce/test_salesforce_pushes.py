"""The simulator's pushes, switched by its control route, and what reaches the shards by them."""

import asyncio
from typing import Any

import requests
from polled_org import CONNECTION
from pushed_org import HttpDoor, PushedOrg

from processors.outcome import DONE


async def control(org: PushedOrg, method: str, path: str, body: Any = None) -> requests.Response:
    """A call of the control route."""
    url = f"{org.simulator.base_url}/_control{path}"
    return await asyncio.to_thread(requests.request, method, url, json=body, timeout=60)


async def test_changes_are_posted_where_the_control_route_says_until_it_says_no_more(org: PushedOrg) -> None:
    assert (await control(org, "POST", "/pushes", {"url": "http://example.com/x"})).status_code == 400
    with HttpDoor(org) as door:
        for style in ("outbound", "changes"):
            given = {"url": door.url, "style": style, "objects": ["Account"]}
            assert (await control(org, "POST", "/pushes", given)).json() == {"url": door.url, "style": style}
        change = {"operation": "create", "object": "Account", "fields": {"Name": "A"}}
        [made] = (await control(org, "POST", "/records", change)).json()["ids"]
        async with asyncio.timeout(60):
            taken = {"waiting": 0, "delivered": 2, "dropped": 0}
            while (await control(org, "GET", "")).json()["pushes"] != taken:  # noqa: ASYNC110 - another thread's
                await asyncio.sleep(0.02)
        assert sorted(answer.status for answer in door.answers) == [200, 202]
        assert (await control(org, "DELETE", "/pushes")).json() == {"ok": True}

    assert await org.work() == [DONE, DONE]
    assert org.seen.records("Account").keys() == {made}
    assert len(org.queries("Account")) == 1, "both told of one record, which was read once"


async def test_what_is_pushed_while_the_connection_is_paused_waits_for_people(org: PushedOrg) -> None:
    await org.connect("Account", status="paused")
    org.use_door()
    assert (await org.post({"Id": "001000000000001"}, connection=CONNECTION)).status == 202
    [work] = await org.taken()
    assert work.ids == {"Account": ["001000000000001AAA"]}
