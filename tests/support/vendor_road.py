"""The one way out to a vendor, as tests can make it slow or cut it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
import requests
from source_rig import SourceRig

from connections import egress


class VendorRoad:
    """Every call of a test's process to a vendor goes by here.

    *seconds* is how long each takes by the rig's clock: it passes behind the vendor's answer and before it is here.
    *calls_left* are those that still get through; None: all do. *asked* is when each call was made.
    """

    def __init__(self, rig: SourceRig) -> None:
        self._rig = rig
        self.seconds = 0.0
        self.calls_left: int | None = None
        self.asked: list[datetime] = []

    def call(self, send: Any, *args: Any, **options: Any) -> requests.Response:
        """Make a call that *send* makes."""
        if self.calls_left is not None:
            if self.calls_left == 0:
                raise requests.ConnectionError("the way to the vendor is cut")
            self.calls_left -= 1
        self.asked.append(self._rig.now)
        response: requests.Response = send(*args, **options)
        if self.seconds:
            self._rig.wait(self.seconds)
        return response


@contextmanager
def road_of(rig: SourceRig) -> Iterator[VendorRoad]:
    """The way out of *rig*'s process."""
    road = VendorRoad(rig)
    send = egress._SimulatorAdapter.send

    def by_road(adapter: Any, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        return road.call(send, adapter, request, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(egress._SimulatorAdapter, "send", by_road)
        yield road
