"""The Drives of a domain and everything that reads them, as the source contract drives it."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from source_rig import Key, SourceRig

from connections.connection import Connection
from connections.gdrive_connection import DriveConnection, GoogleAuth
from ingestion.gdrive.webhook import receive
from ingestion.webhooks import PushAnswer, PushRequest
from local.gdrive.auth import DIRECTORY_SCOPES
from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator
from shards.model import Shard

DOMAIN = "acme.example"
USER = f"ann@{DOMAIN}"
IMAGE = "image/png"
"""A kind of file that has no text: nothing is fetched and read for it."""


class DriveSourceRig(SourceRig):
    """Records are files, their text is their name; pushes are notifications of the channels that the source opens."""

    system = "gdrive"
    login_secret = "drive-account"

    def __init__(self, folder: Path) -> None:
        self.drive = Drive(DOMAIN)
        self.drive.add_user(USER)
        self.simulator = DriveSimulator(self.drive).start()
        self._moved = False
        self._numbers = 1
        super().__init__(folder, gdrive_simulator=self.simulator.base_url)

    def set_vendor_clock(self, moment: datetime) -> None:
        with self.drive.lock:
            self.drive.clock.freeze(moment)
            self.drive.settle()

    def new_connection(self, tenant_id: str) -> Connection:
        key = json.dumps(self.simulator.credentials.service_account_info)
        connection = DriveConnection(
            connection_id="drive",
            tenant_id=tenant_id,
            name="Acme Drive",
            auth=GoogleAuth(
                service_account=self.keep(self.login_secret, key, tenant_id),
                subjects=(USER,),
            ),
            page_size=2,
            push_address="https://shardline.acme.example/api/webhooks/gdrive",
            channel_secret=self.keep("drive-channels", "planted-channels-W4x8", tenant_id),
            schedule=self.schedule,
        )
        self.planted.append(self.simulator.credentials.service_account_info["private_key"])
        return connection

    async def create(self, text: str) -> Key:
        with self.drive.lock:
            file_id = self.drive.create_file(text, b"\x89PNG", owner=USER, mime_type=IMAGE)
        self._moved = True
        return Key("file", file_id)

    async def change(self, key: Key, text: str) -> None:
        with self.drive.lock:
            self.drive.rename(key.external_id, text)
        self._moved = True

    async def delete(self, key: Key) -> None:
        with self.drive.lock:
            self.drive.trash(key.external_id)
        self._moved = True

    async def destroy(self, key: Key) -> None:
        with self.drive.lock:
            self.drive.delete(key.external_id)

    def limit_rate(self, seconds: int) -> timedelta:
        self.simulator.api.faults.add("too-many-requests", times=None, headers={"Retry-After": str(seconds)})
        return timedelta(seconds=seconds)

    def answer_with_html(self) -> None:
        self.simulator.api.faults.add("bad-gateway-html", times=None)

    def end_faults(self) -> None:
        self.simulator.api.faults.clear()

    def revoke_credentials(self) -> None:
        self.simulator.api.login.revoke_delegation()
        self.simulator.api.login.expire_tokens()

    def restore_credentials(self) -> None:
        self.simulator.api.login.grant_delegation()

    def rotate_credentials(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem = key.private_bytes(*form).decode()
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        login = self.simulator.api.login
        login.public_key = public.decode()
        login.expire_tokens()
        info = {**self.simulator.credentials.service_account_info, "private_key": pem}
        self.keep(self.login_secret, json.dumps(info))
        self.planted.append(pem)

    def withhold(self) -> None:
        self.simulator.api.login.grant_delegation(DIRECTORY_SCOPES)
        self.simulator.api.login.expire_tokens()

    def calls(self) -> int:
        return len(self.simulator.api.calls)

    async def pushes(self) -> list[PushRequest]:
        if not self._moved:
            return []
        self._moved = False
        requests = []
        for channel in self.simulator.api.channels.open_channels.values():
            self._numbers += 1
            headers = {
                "x-goog-channel-id": channel.channel_id,
                "x-goog-channel-token": channel.token or "",
                "x-goog-resource-id": channel.resource_id,
                "x-goog-resource-uri": channel.resource_uri,
                "x-goog-resource-state": "change",
                "x-goog-message-number": str(self._numbers),
            }
            requests.append(PushRequest(headers, b""))
        return requests

    async def take_push(self, request: PushRequest) -> PushAnswer:
        return await receive(request, self.webhooks)

    def text_of(self, shard: Shard) -> str:
        return str(shard.structured_data["name"])

    async def close(self) -> None:
        await super().close()
        self.simulator.stop()
