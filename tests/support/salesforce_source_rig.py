"""A Salesforce org and everything that reads it, as the source contract drives it."""

import secrets
from datetime import datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

from source_rig import Key, SourceRig

from connections.budget import RECHECK
from connections.connection import Connection
from connections.salesforce_connection import PolledObject, SalesforceAuth, SalesforceConnection
from ingestion.salesforce.webhook import receive
from ingestion.webhooks import PushAnswer, PushRequest
from local.company import Company, default_org_id
from local.salesforce.ids import made_id
from local.salesforce.org import Org
from local.salesforce.schema import empty_table
from local.salesforce.server import SalesforceSimulator
from shards.model import Shard

OBJECTS = ("Account", "Contact", "Opportunity", "User")
POLLED = "Account"
ADDRESS_SECRET = "planted-address-Q3v9"
SESSION = "00D000000000001!planted.session.R7t2"


class SalesforceSourceRig(SourceRig):
    """Records are accounts; pushes are Outbound Messages. Deletions are pushed by nobody."""

    system = "salesforce"
    login_secret = "sf-consumer"

    def __init__(self, folder: Path) -> None:
        company = Company("acme", default_org_id("acme"), {name: empty_table(name) for name in OBJECTS})
        self.org = Org(company)
        self.simulator = SalesforceSimulator(self.org).start()
        self._told: list[str] = []
        self._notified = 0
        super().__init__(folder, salesforce_simulator=self.simulator.base_url)

    def set_vendor_clock(self, moment: datetime) -> None:
        self.org.clock.freeze(moment)

    def new_connection(self, tenant_id: str) -> Connection:
        credentials = self.simulator.credentials
        self.planted.append(SESSION)
        return SalesforceConnection(
            connection_id="sf",
            tenant_id=tenant_id,
            name="Acme Salesforce",
            auth=SalesforceAuth(
                flow="client-credentials",
                domain="acme.my",
                consumer_key=credentials.consumer_key,
                consumer_secret=self.keep("sf-consumer", credentials.consumer_secret, tenant_id),
            ),
            objects=(PolledObject(name=POLLED),),
            webhook_secrets=(self.keep("sf-address", ADDRESS_SECRET, tenant_id),),
            page_size=2,
            schedule=self.schedule,
        )

    async def create(self, text: str) -> Key:
        record_id = self.org.create(POLLED, {"Name": text})
        self._told.append(record_id)
        return Key(POLLED, record_id)

    async def change(self, key: Key, text: str) -> None:
        self.org.update(key.object_type, key.external_id, {"Name": text})
        self._told.append(key.external_id)

    async def delete(self, key: Key) -> None:
        self.org.delete(key.object_type, key.external_id)

    async def destroy(self, key: Key) -> None:
        self.org.hard_delete(key.object_type, key.external_id)

    def limit_rate(self, seconds: int) -> timedelta:
        # Salesforce names no time: the count of the last 24 hours eases bit by bit, and is looked at again after this.
        self.simulator.api.faults.add("request-limit", times=None)
        return RECHECK

    def answer_with_html(self) -> None:
        self.simulator.api.faults.add("unavailable-html", times=None)

    def end_faults(self) -> None:
        self.simulator.api.faults.clear()

    def revoke_credentials(self) -> None:
        self.simulator.credentials.run_as_user = False
        self.simulator.api.login.expire_sessions()

    def restore_credentials(self) -> None:
        self.simulator.credentials.run_as_user = True

    def rotate_credentials(self) -> None:
        fresh = self.simulator.credentials.consumer_secret = secrets.token_urlsafe(18)
        self.keep("sf-consumer", fresh)
        self.simulator.api.login.expire_sessions()

    def withhold(self) -> None:
        self.org.hide(POLLED)

    def calls(self) -> int:
        # The login is none that counts.
        return sum(call.path.startswith("/services/data") for call in self.simulator.api.calls)

    async def pushes(self) -> list[PushRequest]:
        told, self._told = self._told, []
        return [self._outbound_message(record_id) for record_id in dict.fromkeys(told)]

    def _outbound_message(self, record_id: str) -> PushRequest:
        self._notified += 1
        notification = made_id("04l", "Notification", str(self._notified))
        name = escape(str(self.org.tables[POLLED].records[record_id]["Name"]))
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
            'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
            '<notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
            f"<OrganizationId>{self.org.org_id}</OrganizationId><ActionId>04k000000000001AAA</ActionId>"
            f"<SessionId>{SESSION}</SessionId>"
            f"<Notification><Id>{notification}</Id>"
            f'<sObject xsi:type="sf:{POLLED}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
            f"<sf:Id>{record_id}</sf:Id><sf:Name>{name}</sf:Name></sObject></Notification>"
            "</notifications></soapenv:Body></soapenv:Envelope>"
        )
        route = {"connectionId": "sf", "secret": ADDRESS_SECRET}
        return PushRequest({"content-type": "text/xml; charset=utf-8"}, body.encode(), route)

    async def take_push(self, request: PushRequest) -> PushAnswer:
        return await receive(request, self.webhooks)

    def text_of(self, shard: Shard) -> str:
        return str(shard.structured_data["name"])

    async def close(self) -> None:
        await super().close()
        self.simulator.stop()
