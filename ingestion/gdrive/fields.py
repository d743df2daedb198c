"""The field masks of Drive's answers: without one the API leaves out most of what is needed here.

A page's own tokens are fields too; a mask that forgets them ends the paging without a word.
"""

from typing import Final

USER: Final = "displayName,emailAddress,permissionId"
PERMISSION: Final = (
    "id,type,role,emailAddress,domain,displayName,allowFileDiscovery,expirationTime,deleted,pendingOwner,view,"
    "inheritedPermissionsDisabled,permissionDetails(permissionType,role,inherited,inheritedFrom)"
)
FILE: Final = (
    "kind,id,name,mimeType,description,starred,trashed,explicitlyTrashed,parents,properties,appProperties,version,"
    "webViewLink,webContentLink,createdTime,modifiedTime,"
    f"owners({USER}),driveId,lastModifyingUser({USER}),"
    "originalFilename,fullFileExtension,fileExtension,md5Checksum,sha1Checksum,sha256Checksum,size,headRevisionId,"
    "shortcutDetails(targetId,targetMimeType),contentRestrictions(readOnly,reason),copyRequiresWriterPermission,"
    f"exportLinks,resourceKey,shared,permissions({PERMISSION})"
)
"""All of a file that is kept, and what it takes to read its content."""

FOLDER: Final = "id,name,mimeType,parents,driveId,trashed,ownedByMe"
"""What the path of what is in a folder needs of it."""

CHANGES: Final = (
    "nextPageToken,newStartPageToken,changes(changeType,time,removed,fileId,driveId,"
    "file(id,mimeType,version,trashed,driveId))"
)
START_TOKEN: Final = "startPageToken"  # noqa: S105 - the name of a field
LISTED: Final = (
    f"nextPageToken,incompleteSearch,files(id,mimeType,version,parents,driveId,ownedByMe,permissions({PERMISSION}))"
)
FILES: Final = f"nextPageToken,incompleteSearch,files({FILE})"
CHILDREN: Final = "nextPageToken,files(id)"
PERMISSIONS: Final = f"nextPageToken,permissions({PERMISSION})"
DRIVES: Final = "nextPageToken,drives(id,name)"
ABOUT: Final = "user(displayName,emailAddress,permissionId)"
