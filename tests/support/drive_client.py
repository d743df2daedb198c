"""Google's own client library, led to the Drive simulator."""

from collections.abc import Iterable, Mapping
from typing import Any

import google.auth.transport.requests
import google_auth_httplib2
import httplib2
from google.oauth2 import service_account
from googleapiclient.discovery import build

from local.gdrive.auth import DRIVE_SCOPES

READ_ONLY = DRIVE_SCOPES[1]


def drive_credentials(
    base_url: str, info: Mapping[str, str], user: str | None, scopes: Iterable[str] = (READ_ONLY,)
) -> Any:
    """Credentials of the service account for *user*; its tokens come from the simulator at *base_url*."""
    return service_account.Credentials.from_service_account_info(
        {**info, "token_uri": f"{base_url}/token"}, scopes=list(scopes), subject=user
    )


def drive_service(
    base_url: str, info: Mapping[str, str], user: str | None, scopes: Iterable[str] = (READ_ONLY,)
) -> Any:
    """``build("drive", "v3")`` for *user* against the simulator at *base_url*."""
    credentials = drive_credentials(base_url, info, user, scopes)
    return build(
        "drive",
        "v3",
        http=google_auth_httplib2.AuthorizedHttp(credentials, http=httplib2.Http(timeout=30, proxy_info=None)),
        client_options={"api_endpoint": f"{base_url}/drive/v3/"},
        static_discovery=True,
        cache_discovery=False,
    )


def access_token(base_url: str, info: Mapping[str, str], user: str | None, scopes: Iterable[str] = (READ_ONLY,)) -> str:
    """An access token, for calls that the library does not make."""
    credentials = drive_credentials(base_url, info, user, scopes)
    credentials.refresh(google.auth.transport.requests.Request())
    return str(credentials.token)
