"""Login: a service account's signed assertions, the users it may act for, and the tokens it gets."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.gdrive.errors import DriveApiError, bad_credentials

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
"""The audience of every assertion, whatever address it is sent to."""

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_SECONDS = 3599
SKEW = timedelta(minutes=5)
"""How far ahead of the vendor's clock an assertion's may be."""

DRIVE_SCOPES = (
    "https://www.googleapis.com/auth/drive",
    "https://www.googleapis.com/auth/drive.readonly",
    "https://www.googleapis.com/auth/drive.metadata.readonly",
)
DIRECTORY_SCOPES = ("https://www.googleapis.com/auth/admin.directory.customer.readonly",)
_CONTENT_SCOPES = frozenset(DRIVE_SCOPES[:2])
_LONGEST = timedelta(hours=1)


@cache
def _key() -> rsa.RSAPrivateKey:
    """The key of this process's service accounts: making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Credentials:
    """A service account with domain-wide delegation, and the users it is there for.

    *private_key* is a PEM; None has this process's own key, made once. Only *public_key* goes to the simulator.
    """

    admin: str
    users: tuple[str, ...] = ()
    client_email: str = "shardline@shardline-sandbox.iam.gserviceaccount.com"
    client_id: str = "104729001597204817362"
    private_key: str | None = field(default=None, repr=False)

    @property
    def public_key(self) -> str:
        """The PEM that the simulator checks signatures with."""
        key: Any = serialization.load_pem_private_key(self.private_key.encode(), None) if self.private_key else _key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        made: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
        return made.decode()

    @property
    def service_account_info(self) -> dict[str, str]:
        """The JSON key that an administrator downloads."""
        private_key = self.private_key or (
            _key()
            .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            .decode()
        )
        return {
            "type": "service_account",
            "project_id": "shardline-sandbox",
            "private_key_id": "5a0dbc7e3f1249d8b6c4e2a1907f35d8c61b94e2",
            "private_key": private_key,
            "client_email": self.client_email,
            "client_id": self.client_id,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": TOKEN_URI,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "universe_domain": "googleapis.com",
        }


class TokenRefusedError(Exception):
    """A refused token request: a status and ``{error, error_description}``."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description}


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a token is for, and what it lets them do."""

    user: str
    scopes: frozenset[str]


@dataclass(slots=True)
class _Token:
    caller: Caller
    delegated: bool
    ends: datetime


class Login:
    """The token endpoint. *public_key* None: no assertion is good.

    *delegated* are the scopes that the administrator lets the service account have for every user but those *refused*,
    whose part of the organization has it switched off; *skew* is how far the vendor's clock is ahead of this machine's.
    """

    def __init__(
        self,
        public_key: str | None,
        client_email: str,
        *,
        domain: str,
        users: Callable[[], Sequence[str]],
        suspended: Callable[[], set[str]],
        clock: Callable[[], datetime],
    ) -> None:
        self.delegated = frozenset((*DRIVE_SCOPES, *DIRECTORY_SCOPES))
        self.refused: set[str] = set()
        self.skew = timedelta()
        self.logins = 0
        self.client_email = client_email
        self.public_key = public_key
        self._domain = domain
        self._users = users
        self._suspended = suspended
        self._clock = clock
        self._tokens: dict[str, _Token] = {}

    def revoke_delegation(self) -> None:
        """Take back what the administrator has allowed; tokens given so far end."""
        self.delegated = frozenset()
        self._tokens = {name: token for name, token in self._tokens.items() if not token.delegated}

    def grant_delegation(self, scopes: Sequence[str] = (*DRIVE_SCOPES, *DIRECTORY_SCOPES)) -> None:
        """Allow these scopes for every user."""
        self.delegated = frozenset(scopes)

    def revoke_for(self, user: str) -> None:
        """Let nobody act for *user* any more; tokens given so far end."""
        self.refused.add(user)
        self._tokens = {name: token for name, token in self._tokens.items() if token.caller.user != user}

    def grant_for(self, user: str) -> None:
        """Allow it again."""
        self.refused.discard(user)

    def expire_tokens(self) -> None:
        """End all tokens now."""
        self._tokens.clear()

    def caller(self, authorization: str | None) -> Caller:
        """Who calls with this Authorization header.

        Raises:
            DriveApiError: 403 forbidden without one, else 401 authError.
        """
        if not authorization:
            message = (
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
                "or other form of API consumer identity to call this API."
            )
            raise DriveApiError(403, "forbidden", message, status_text="PERMISSION_DENIED")
        kind, _, name = authorization.partition(" ")
        token = self._tokens.get(name) if kind.lower() == "bearer" else None
        if token is None or self._clock() >= token.ends or token.caller.user in self._suspended():
            raise bad_credentials()
        return token.caller

    def token(self, form: Mapping[str, str]) -> dict[str, object]:
        """The answer of the token endpoint.

        Raises:
            TokenRefusedError: it refuses.
        """
        if form.get("grant_type") != JWT_GRANT:
            raise TokenRefusedError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        claims = self._claims(form.get("assertion", ""))
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes:
            raise TokenRefusedError("invalid_scope", "Empty or missing scope not allowed.")
        subject = claims.get("sub")
        user = self._subject(str(subject).lower(), scopes) if subject else self.client_email
        name = "ya29.c." + secrets.token_urlsafe(48)
        ends = self._clock() + timedelta(seconds=TOKEN_SECONDS)
        self._tokens[name] = _Token(Caller(user, scopes), bool(subject), ends)
        self.logins += 1
        return {"access_token": name, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}

    def _claims(self, assertion: str) -> Mapping[str, Any]:
        if self.public_key is None:
            raise TokenRefusedError("invalid_grant", "Invalid grant: account not found")
        try:
            claims: Mapping[str, Any] = jwt.decode(
                assertion,
                self.public_key,
                algorithms=["RS256"],
                options={"verify_aud": False, "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidSignatureError as error:
            raise TokenRefusedError("invalid_grant", "Invalid JWT Signature.") from error
        except jwt.InvalidTokenError as error:
            raise TokenRefusedError("invalid_grant", f"Invalid JWT: {error}") from error
        if claims.get("iss") != self.client_email:
            raise TokenRefusedError("invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != TOKEN_URI:
            raise TokenRefusedError(
                "invalid_grant", f"Invalid JWT: Failed audience check. The right audience is {TOKEN_URI}"
            )
        self._check_times(claims)
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        # Against the machine's time: an assertion is made by its clock, whatever the Drive's is set to.
        now = time.time() + self.skew.total_seconds()
        issued, expires = claims.get("iat"), claims.get("exp")
        if (
            not isinstance(issued, int)
            or not isinstance(expires, int)
            or issued > now + SKEW.total_seconds()
            or expires <= now
            or expires - issued > _LONGEST.total_seconds()
        ):
            raise TokenRefusedError(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your "
                "iat and exp values in the JWT claim.",
            )

    def _subject(self, user: str, scopes: frozenset[str]) -> str:
        if not scopes <= self.delegated or user in self.refused or user.partition("@")[2] != self._domain:
            raise TokenRefusedError(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested.",
                401,
            )
        if user not in self._users() or user in self._suspended():
            raise TokenRefusedError("invalid_grant", "Invalid email or User ID")
        return user


def require_drive_scope(caller: Caller, *, content: bool = False) -> None:
    """Refuse a token that does not reach so far.

    Raises:
        DriveApiError: 403 insufficientPermissions.
    """
    if not caller.scopes & (_CONTENT_SCOPES if content else frozenset(DRIVE_SCOPES)):
        message = "Insufficient Permission: Request had insufficient authentication scopes."
        raise DriveApiError(403, "insufficientPermissions", message, status_text="PERMISSION_DENIED")
