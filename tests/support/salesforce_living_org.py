"""The Salesforce orgs of a random life, and the connections that read them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from salesforce_source_rig import SalesforceSourceRig
from salesforce_truth import CURRENCY, OBJECTS, tables
from source_rig import TENANT, SourceRig
from starlette.types import Receive, Scope, Send

from connections.connection import Connection
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from ingestion.salesforce.history import HistoryReader
from ingestion.salesforce.record_reads import RecordReads
from ingestion.salesforce.source import SalesforceSource
from ingestion.webhooks import PushRequest
from local.company import Company, default_org_id
from local.salesforce.org import ChangeKind, Org
from local.salesforce.server import SalesforceSimulator
from messaging.bus import QueueDepth

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A life goes the same way whenever it is tried."""

Change = tuple[ChangeKind, str, str]


@cache
def key_pair(number: int) -> tuple[str, str]:
    """A private key of a connected app, and the public one of its certificate, as PEM."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@dataclass
class Place:
    """An org as one connection reads it. Two connections of one org share all but their names and ways to log in."""

    connection_id: str
    by_jwt: bool
    org: Org
    simulator: SalesforceSimulator
    domain: str
    made: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in OBJECTS})
    changes: list[Change] = field(default_factory=list)
    sent: list[PushRequest] = field(default_factory=list)

    @property
    def secret(self) -> str:
        """The name of the secret that its connection logs in with."""
        return f"{self.domain}-{'key' if self.by_jwt else 'consumer'}"


class LivingOrg(SalesforceSourceRig):
    """An org of six objects whose clock never gives the same moment twice: no two readings are of one.

    *second* is where another connection of the tenant leads: nowhere, to the same org, or to one of its own.
    """

    def __init__(self, folder: Path, *, bulk_from: int, without: str, by_jwt: bool, second: str) -> None:
        self._bulk_from = bulk_from
        self._without = {"Visit__c", without}
        self._keys = 0
        self.org = Org(Company(TENANT, default_org_id(TENANT), tables()))
        self.simulator = SalesforceSimulator(self.org)
        self.places = [Place("sf", by_jwt, self.org, self.simulator, "acme.my")]
        if second == "same":
            [one] = self.places
            self.places.append(
                Place("sf2", not by_jwt, one.org, one.simulator, one.domain, one.made, one.changes, one.sent)
            )
        elif second == "other":
            self.places.append(self._other_place(not by_jwt))
        self._server = self.simulator.start()
        self._told = []
        self._notified = 0
        SourceRig.__init__(self, folder, salesforce_simulator=self.simulator.base_url)
        self.at = self.places[0]
        self.now = START
        self.set_vendor_clock(self.now)
        self._hurry()

    def _other_place(self, by_jwt: bool) -> Place:
        """Another org, behind the same server: who calls is told apart by the host that is asked for."""
        company = Company("other", default_org_id("other"), tables())
        org = Org(company, self.org.clock)
        simulator = SalesforceSimulator(org)
        here, there = self.simulator.app, simulator.app

        async def by_host(scope: Scope, receive: Receive, send: Send) -> None:
            asked = dict(scope["headers"]).get(b"x-forwarded-host", b"")
            await (there if asked.startswith(b"other.my") else here)(scope, receive, send)

        self.simulator.app = by_host  # type: ignore[assignment]  # any ASGI app will do
        return Place("sf2", by_jwt, org, simulator, "other.my")

    def go_to(self, place: Place) -> None:
        """Let what follows be about *place*."""
        self.at, self.org, self.simulator = place, place.org, place.simulator

    @property
    def made(self) -> dict[str, list[str]]:
        """The ids of all records that were ever made in the org, by object."""
        return self.at.made

    def places_of_org(self) -> list[Place]:
        """The places of the org that the present step is about."""
        return [one for one in self.places if one.org is self.org]

    async def connection(self, tenant_id: str = TENANT) -> SalesforceConnection:
        found = await self.services.connections.get(tenant_id, self.at.connection_id)
        assert isinstance(found, SalesforceConnection)
        return found

    async def held(self) -> dict[str, QueueDepth]:
        """The queues that hold anything, whether it is worked on, waits for its time or is given up."""
        depths = await self.bus.depths()
        return {
            name: depth
            for name, depth in depths.items()
            if depth.active or depth.locked or depth.scheduled or depth.dead_lettered
        }

    def revoke_credentials(self) -> None:
        self.simulator.credentials.approved = False
        super().revoke_credentials()

    def restore_credentials(self) -> None:
        self.simulator.credentials.approved = True
        super().restore_credentials()

    def rotate_credentials(self) -> None:
        self._keys += 1
        for place in self.places:
            if place.simulator is self.simulator:
                self._new_secret(place)
        self.simulator.api.login.expire_sessions()

    def _new_secret(self, place: Place) -> str:
        """Let in a new secret or key for *place*, and put it where secrets are; its reference."""
        credentials = place.simulator.credentials
        if place.by_jwt:
            private, credentials.public_key = key_pair(self._keys % 2)
            return self.keep(place.secret, private)
        credentials.consumer_secret = f"consumer-secret-{place.domain}-{self._keys}"
        return self.keep(place.secret, credentials.consumer_secret)

    async def close(self) -> None:
        self.simulator = self._server
        await super().close()

    def _hurry(self) -> None:
        """Have few records pass for many, and nothing wait in the real time."""
        source = self.source
        assert isinstance(source, SalesforceSource)
        source._reads = RecordReads(source._ports, source._store, join_seconds=0)
        source._history = HistoryReader(source._ports, {}, bulk_from=self._bulk_from, pause_seconds=0)

    def clock(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    async def start_again(self) -> None:
        await super().start_again()
        self._hurry()

    def new_connection(self, tenant_id: str) -> Connection:
        made = super().new_connection(tenant_id)
        place, credentials = self.at, self.simulator.credentials
        secret = self._new_secret(place)
        if place.by_jwt:
            # Without a token host of its own, a login leads to where everyone's begins.
            own = place.domain if place.domain != "acme.my" else None
            auth = SalesforceAuth(
                flow="jwt-bearer",
                instance_domain=own,
                username=credentials.username,
                consumer_key=credentials.consumer_key,
                private_key=secret,
            )
        else:
            auth = SalesforceAuth(
                flow="client-credentials",
                domain=place.domain,
                consumer_key=credentials.consumer_key,
                consumer_secret=secret,
            )
        objects = tuple(PolledObject(name=name) for name in OBJECTS if name not in self._without)
        return msgspec.structs.replace(
            made,
            connection_id=place.connection_id,
            name=place.connection_id,
            auth=auth,
            objects=objects,
            page_size=5,
            sweep_share=1.0,
            default_currency=CURRENCY,
        )
