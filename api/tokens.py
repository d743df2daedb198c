"""Reader tokens: bearer JWTs that say which tenant's reader asks, and as whom."""

import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeGuard

import jwt

from messaging.contracts import is_tenant_id
from shards.model import ANYONE_PRINCIPAL, TENANT_PRINCIPAL

ALGORITHM = "HS256"
"""Of tokens that are signed and checked with one key."""
LIFETIME = timedelta(hours=12)

ABSURD: Final = (UnicodeError, OverflowError, RecursionError)
"""What PyJWT, in one version or another, lets out of tokens of lone surrogates, infinite times or endless nesting."""


class InvalidTokenError(Exception):
    """The token proves nothing; the message says why and never repeats the token."""


class VerificationUnavailableError(Exception):
    """What tokens are checked against can't be had now; the message says why."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks: the tenant from the token, and everything that an acl may name this reader by."""

    tenant_id: str
    user: str
    principals: frozenset[str]
    roles: frozenset[str] = frozenset()


class TokenVerifier(Protocol):
    """Checks reader tokens."""

    async def verify(self, token: str) -> Reader:
        """The reader that *token* proves.

        Raises:
            InvalidTokenError: the signature, issuer, audience or lifetime does not hold, or a claim is missing.
            VerificationUnavailableError: it can't be checked now.
        """


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The names that a token must carry, and the claims that tell its tenant and user."""

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    user_claim: str = "sub"

    def reader(self, token: str, key: Any, algorithms: Sequence[str]) -> Reader:
        """The reader of *token*, when it is signed with *key*.

        Raises:
            InvalidTokenError: as :meth:`TokenVerifier.verify` says.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(algorithms),
                issuer=self.issuer,
                audience=self.audience,
                options={"require": ["exp", "iat", self.user_claim, self.tenant_claim]},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidTokenError(_words(error, algorithms)) from None
        except ABSURD:
            raise InvalidTokenError(
                "the token is malformed: it is no signed JSON Web Token, or a claim is absurd"
            ) from None
        tenant, user = claims[self.tenant_claim], claims[self.user_claim]
        if not _is_text(tenant) or not is_tenant_id(tenant) or not _is_text(user):
            raise InvalidTokenError("the token names no tenant or no user")
        return Reader(
            tenant, user, reader_principals(user, _texts(claims, "groups")), frozenset(_texts(claims, "roles"))
        )


@dataclass(frozen=True, slots=True)
class TokenKey:
    """One key that signs and checks tokens under *rules* (HS256)."""

    key: bytes
    rules: TokenRules

    def sign(
        self,
        tenant_id: str,
        user: str,
        *,
        groups: Iterable[str] = (),
        roles: Iterable[str] = (),
        now: datetime,
        lifetime: timedelta = LIFETIME,
    ) -> str:
        """A token for *user* (an e-mail address) of *tenant_id*."""
        claims = {
            "iss": self.rules.issuer,
            "aud": self.rules.audience,
            self.rules.user_claim: user,
            self.rules.tenant_claim: tenant_id,
            "groups": list(groups),
            "roles": list(roles),
            "iat": now,
            "exp": now + lifetime,
        }
        return jwt.encode(claims, self.key, algorithm=ALGORITHM)

    async def verify(self, token: str) -> Reader:
        """See :meth:`TokenVerifier.verify`."""
        return self.rules.reader(token, self.key, [ALGORITHM])


_PROBLEMS: Final[tuple[tuple[type[jwt.InvalidTokenError], str], ...]] = (
    (jwt.ExpiredSignatureError, "has expired: ask for a new one"),
    (jwt.ImmatureSignatureError, "is not valid yet: look at the clock of whoever signed it"),
    (jwt.InvalidSignatureError, "has a wrong signature: it was signed with another key, or changed since"),
    (jwt.InvalidAlgorithmError, "is signed in another way than {algorithms}"),
    (jwt.InvalidIssuerError, "names a wrong issuer (iss)"),
    (jwt.InvalidAudienceError, "names a wrong audience (aud)"),
    (jwt.DecodeError, "is malformed: it is no signed JSON Web Token"),
)


def _words(error: jwt.InvalidTokenError, algorithms: Sequence[str]) -> str:
    """What is wrong with the token, without anything of its content."""
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"the token lacks the claim {error.claim}"
    words = (words for kind, words in _PROBLEMS if isinstance(error, kind))
    return f"the token {next(words, 'holds a claim of a wrong kind')}".format(algorithms=" or ".join(algorithms))


def reader_principals(user: str, groups: Iterable[str] = ()) -> frozenset[str]:
    """What an acl may name a reader of the tenant by: the tenant itself, the address, its domain, the groups."""
    address = user.lower()
    names = {TENANT_PRINCIPAL, ANYONE_PRINCIPAL, f"user:{address}", *(f"group:{group.lower()}" for group in groups)}
    if "@" in address:
        names.add(f"domain:{address.rpartition('@')[2]}")
    return frozenset(names)


def _texts(claims: dict[str, Any], name: str) -> list[str]:
    values = claims.get(name, [])
    return [value for value in values if _is_text(value)] if isinstance(values, list) else []


def _is_text(value: object) -> TypeGuard[str]:
    """Whether *value* is a text that a store can be asked for: JSON escapes can make halves of characters."""
    if not isinstance(value, str) or not value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def local_key(file: Path) -> bytes:
    """The local home's key in *file*, 32 bytes; made at first use and readable by its owner alone."""
    if not file.exists():
        _make_key(file)
    return bytes.fromhex(file.read_text().strip())


def _make_key(file: Path) -> None:
    """Make a key, unless another process is first: it gets its name only once it is whole."""
    key = secrets.token_bytes(32)
    made = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(key.hex())
        with suppress(FileExistsError):
            os.link(made, file)
    finally:
        made.unlink(missing_ok=True)
