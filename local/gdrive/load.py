"""The Drive of a company directory."""

import logging
import re
from pathlib import Path
from typing import Any

from ingestion.gdrive.folder_tree import FolderTreeError, read_folder_tree
from local.company import CompanyError, read_company_settings
from local.gdrive.drive import Drive

logger = logging.getLogger(__name__)

_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_CUSTOMER_ID = re.compile(r"C[0-9a-z]{2,}")


def load_drive(directory: Path) -> Drive:
    """The Drives of the company in *directory*: ``gdrive/`` in it, without files where there is no such folder.

    company.json may say ``{"gdrive": {"domain", "customerId", "admin"}}``. Files that name no owner are the
    administrator's.

    Raises:
        CompanyError: the directory is missing, or something in it can't be read.
    """
    if not directory.is_dir():
        raise CompanyError(f"{directory}: no such directory; give the path of a company directory")
    settings = read_company_settings(directory)
    given = settings.get("gdrive", {})
    if not isinstance(given, dict):
        raise CompanyError('company.json: "gdrive" is no JSON object; write {"domain": "acme.example"} or leave it out')
    label = re.sub(r"[^a-z0-9]+", "-", settings["tenantId"].lower()).strip("-") or "sandbox"
    domain = _matching(given, "domain", _DOMAIN, "acme.example") or f"{label}.example"
    drive = Drive(
        domain,
        customer=_matching(given, "customerId", _CUSTOMER_ID, "C03az79cb"),
        tenant_id=settings["tenantId"],
        admin=_matching(given, "admin", _ADDRESS, f"admin@{domain}"),
    )
    folder = directory / "gdrive"
    if folder.is_symlink():
        logger.warning("%s is a link and was left out", folder)
    elif folder.is_dir():
        try:
            drive.load(read_folder_tree(folder, domain=domain, owner=drive.admin))
        except FolderTreeError as error:
            raise CompanyError(f"gdrive/{error}") from error
    return drive


def _matching(given: dict[str, Any], name: str, pattern: re.Pattern[str], example: str) -> str | None:
    value = given.get(name)
    if value is not None and (not isinstance(value, str) or pattern.fullmatch(value) is None):
        raise CompanyError(f"company.json: gdrive.{name} {value!r}; write it like {example}")
    return value
