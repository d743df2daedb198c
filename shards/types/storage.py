"""Folders and files of a document store."""

from typing import Literal

from shards.types.definition import JsonObject, Link, Moment, ShardType, StructuredData
from shards.types.text import Fact, LongText, TextTemplate

ContentStatus = Literal["extracted", "none", "failed"]
StorageProvider = Literal["gdrive", "sharepoint", "onedrive", "dropbox"]

_DRIVE_FILE = {"gdrive": "file"}
"""Drive's API has one resource, File, for files and folders: both are of object type ``file``."""


_SHORTCUT = {"gdrive": "shortcutDetails.targetId"}


class FolderData(StructuredData):
    """A folder."""

    provider: StorageProvider
    external_id: str
    path: str | None = None
    parent_external_id: str | None = None
    owner: str | None = None
    description: str | None = None
    created_date: Moment | None = None
    drive_id: str | None = None
    web_url: str | None = None
    permissions: list[JsonObject] | None = None


class FileData(StructuredData):
    """A file; its text stands in ``unstructuredData``."""

    provider: StorageProvider
    external_id: str
    mime_type: str | None = None
    size: int | None = None
    checksum: str | None = None
    source_url: str | None = None
    parent_folder_external_id: str | None = None
    path: str | None = None
    owner: str | None = None
    description: str | None = None
    created_date: Moment | None = None
    last_modified: Moment | None = None
    drive_id: str | None = None
    web_url: str | None = None
    download_url: str | None = None
    thumbnail_url: str | None = None
    permissions: list[JsonObject] | None = None
    content_status: ContentStatus | None = None
    content_problem: str | None = None
    content_version: str | None = None
    content_truncated: bool | None = None
    shortcut_target_external_id: str | None = None
    shortcut_target_folder_external_id: str | None = None


FOLDER = ShardType(
    id="c_folder",
    noun="folder",
    data=FolderData,
    chunking="own",
    links=(Link("parentExternalId", "child_of", "c_folder", _DRIVE_FILE, {"gdrive": "parents"}),),
    text=TextTemplate(facts=(Fact("path", "Path"),), texts=(LongText("description", "Description"),)),
)

FILE = ShardType(
    id="c_file",
    noun="file",
    data=FileData,
    chunking="own",
    links=(
        Link("parentFolderExternalId", "belongs_to", "c_folder", _DRIVE_FILE, {"gdrive": "parents"}),
        Link("shortcutTargetExternalId", "references", "c_file", _DRIVE_FILE, _SHORTCUT),
        Link("shortcutTargetFolderExternalId", "references", "c_folder", _DRIVE_FILE, _SHORTCUT),
    ),
    text=TextTemplate(facts=(Fact("path", "Path"),), texts=(LongText("description", "Description"),)),
)
