"""The test of a connection: each user's login, what Drive shows them, and whether a file can be read whole."""

from dataclasses import dataclass, field

from connections.gdrive_connection import DriveConnection
from ingestion.errors import CredentialError
from ingestion.gdrive import fields
from ingestion.gdrive.client import SELF, DriveClient, DriveClients, subjects_of
from ingestion.gdrive.errors import FileRefusedError, NotFoundError, RequestRefusedError, SubjectError
from ingestion.gdrive.events import instance_of
from ingestion.gdrive.mime_types import FOLDER
from ingestion.gdrive.poll import BASE_URL
from ingestion.source import Checked, Finding


@dataclass(slots=True)
class Checking:
    """Tries one connection."""

    connection: DriveConnection
    clients: DriveClients
    findings: list[Finding] = field(default_factory=list)

    async def check(self) -> Checked:
        """What was found.

        Raises:
            TransientError, BudgetExhaustedError: try again.
        """
        drives: dict[str, str] = {}
        for subject in subjects_of(self.connection):
            await self._check_user(self.clients.of(self.connection, subject), drives)
        await self._check_folders(drives)
        if self.connection.push_address is None:
            self.findings.append(
                Finding("push", "ok", f"changes are polled for every {self.connection.schedule.poll_seconds} seconds")
            )
        instance = instance_of(self.connection)
        self._tell_instance(instance)
        return Checked(instance, BASE_URL, self.findings)

    def _tell_instance(self, instance: str) -> None:
        if not instance:
            self.findings.append(
                Finding(
                    "instance",
                    "error",
                    "nothing tells which Google customer this is",
                    "give the customer id (Admin console: Account, Account settings) as instance, or a user as subject",
                )
            )
        elif not self.connection.instance:
            self.findings.append(
                Finding(
                    "instance",
                    "warning",
                    f"Drive does not tell the customer id; {instance} stands for it, and stays so",
                    "where it may ever differ (another domain of the same customer), give the customer id as instance",
                )
            )

    async def _check_user(self, client: DriveClient, drives: dict[str, str]) -> None:
        who = client.subject or "the service account"
        try:
            user = (await client.about()).get("user", {})
        except CredentialError as error:
            problem, remedy = (
                (error.problem, error.remedy)
                if isinstance(error, SubjectError)
                else ("the service account's login is refused", str(error))
            )
            self.findings.append(Finding(f"login of {who}", "error", problem, remedy))
            return
        except FileRefusedError as error:
            self.findings.append(Finding(f"login of {who}", "error", str(error), "allow the scope drive.readonly"))
            return
        self.findings.append(Finding(f"login of {who}", "ok", f"as {user.get('emailAddress', who)}"))
        if client.subject == SELF:
            self.findings.append(
                Finding(
                    "users",
                    "warning",
                    "the service account acts for nobody and sees only what is shared with it",
                    "name users as subjects and allow domain-wide delegation, to read their Drives",
                )
            )
        if self.connection.shared_drives:
            found = await client.drives()
            drives.update(found)
            self.findings.append(Finding(f"shared drives of {who}", "ok", f"{len(found)}"))
        await self._check_sample(client, who)

    async def _check_sample(self, client: DriveClient, who: str) -> None:
        page = await client.files(f"mimeType != '{FOLDER}' and trashed = false", fields.FILES, page_size=1)
        if not page.files:
            self.findings.append(
                Finding(f"sample of {who}", "warning", "there is no file to read", "share something with this user")
            )
            return
        file = page.files[0]
        try:
            if not isinstance(file.get("permissions"), list):
                await client.permissions(str(file["id"]))
        except (FileRefusedError, NotFoundError):
            self.findings.append(
                Finding(
                    f"sample of {who}",
                    "warning",
                    f"{who} may not see who reads {file.get('name')!r}",
                    "files stay closed unless their owner, a writer, or a manager of their shared drive is a subject",
                )
            )
            return
        self.findings.append(Finding(f"sample of {who}", "ok", f"read {file.get('name')!r} and who may read it"))

    async def _check_folders(self, drives: dict[str, str]) -> None:
        for what, folders in (("folder", self.connection.folders), ("left-out folder", self.connection.left_out)):
            for folder_id in folders:
                if folder_id in drives or await self._is_seen(folder_id):
                    continue
                self.findings.append(
                    Finding(
                        f"{what} {folder_id}",
                        "error",
                        "no user of the connection sees it",
                        "check the id, as its address in the browser ends, and share it with one of the users",
                    )
                )

    async def _is_seen(self, folder_id: str) -> bool:
        for subject in subjects_of(self.connection):
            try:
                await self.clients.of(self.connection, subject).file(folder_id, fields.FOLDER)
            except (NotFoundError, FileRefusedError, RequestRefusedError, CredentialError):
                continue
            return True
        return False
