"""Login: the OAuth token flows a server uses, the SOAP login, and the sessions they give."""

import base64
import binascii
import html
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import jwt

from local.salesforce import ids
from local.salesforce.errors import ApiError

SESSION_LIFETIME = timedelta(hours=2)
"""An org's default session timeout."""

JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LOGIN_HOSTS = ("https://login.salesforce.com", "https://test.salesforce.com")


def _secret() -> str:
    return secrets.token_urlsafe(18)


@dataclass
class Credentials:
    """What the org's one connected app and its one API user are let in with. Made up anew where not given.

    *public_key* is the PEM of the app's certificate key; without it no JWT is good. *approved* says whether the user
    may use the app; *run_as_user* whether the app has a user for client credentials; *user_state* is ``active``,
    ``inactive`` or ``locked``.
    """

    consumer_key: str = field(default_factory=lambda: "3MVG9" + secrets.token_hex(16))
    consumer_secret: str = field(default_factory=_secret, repr=False)
    username: str = "integration@sandbox.example"
    password: str = field(default_factory=_secret, repr=False)
    security_token: str = field(default_factory=_secret, repr=False)
    public_key: str | None = None
    approved: bool = True
    run_as_user: bool = True
    user_state: str = "active"


class OAuthError(Exception):
    """A refused token request: HTTP 400 with ``{error, error_description}``."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


class LoginRefusedError(Exception):
    """A refused SOAP login: HTTP 500 with a fault that carries ``sf:exceptionCode``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    def envelope(self) -> str:
        """The answer's XML."""
        text = html.escape(f"{self.code}: {self.message}")
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:sf="urn:fault.partner.soap.sforce.com" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            f"<soapenv:Body><soapenv:Fault><faultcode>sf:{self.code}</faultcode><faultstring>{text}</faultstring>"
            f'<detail><sf:LoginFault xsi:type="sf:LoginFault"><sf:exceptionCode>{self.code}</sf:exceptionCode>'
            f"<sf:exceptionMessage>{html.escape(self.message)}</sf:exceptionMessage></sf:LoginFault></detail>"
            "</soapenv:Fault></soapenv:Body></soapenv:Envelope>"
        )


class Login:
    """The org's front door. *instance_url* is the https address that logged-in clients are sent to."""

    def __init__(self, credentials: Credentials, org_id: str, instance_url: str, clock: Callable[[], datetime]) -> None:
        self.credentials = credentials
        self.instance_url = instance_url
        self.session_lifetime = SESSION_LIFETIME
        self.logins = 0
        self.soap_enabled = True
        self._org_id = org_id
        self._user_id = ids.made_id("005", "User", credentials.username)
        self._clock = clock
        self._sessions: dict[str, datetime] = {}

    def check(self, authorization: str | None) -> None:
        """Let a call with this Authorization header pass.

        Raises:
            ApiError: 401 INVALID_SESSION_ID: no session, an unknown one, or one that has ended.
        """
        kind, _, session_id = (authorization or "").partition(" ")
        began = self._sessions.get(session_id) if kind.lower() in {"bearer", "oauth"} else None
        if began is None or self._clock() - began >= self.session_lifetime:
            raise ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")

    def expire_sessions(self) -> None:
        """End all sessions now."""
        self._sessions.clear()

    def token(self, form: Mapping[str, str], authorization: str | None) -> dict[str, str]:
        """The answer of ``/services/oauth2/token``.

        Raises:
            OAuthError: the flow refuses.
        """
        grant = form.get("grant_type")
        if grant == JWT_GRANT:
            self._check_assertion(form.get("assertion", ""))
        elif grant == "client_credentials":
            self._check_client(*_basic(authorization, form))
            if not self.credentials.run_as_user:
                raise OAuthError("invalid_grant", "no client credentials user enabled")
        elif grant == "password":
            self._check_client(form.get("client_id", ""), form.get("client_secret", ""))
            known = self.credentials
            good = {known.password, known.password + known.security_token}
            if form.get("username") != known.username or form.get("password") not in good:
                raise OAuthError("invalid_grant", "authentication failure")
        else:
            raise OAuthError("unsupported_grant_type", "grant type not supported")
        self._check_user()
        session_id = self._begin_session()
        return {
            "access_token": session_id,
            "instance_url": self.instance_url,
            "id": f"https://login.salesforce.com/id/{self._org_id}/{self._user_id}",
            "token_type": "Bearer",
            "issued_at": str(int(self._clock().timestamp() * 1000)),
            "signature": base64.b64encode(secrets.token_bytes(32)).decode(),
            "scope": "api",
        }

    def _check_client(self, key: str, secret: str) -> None:
        if key != self.credentials.consumer_key:
            raise OAuthError("invalid_client_id", "client identifier invalid")
        if not secrets.compare_digest(secret.encode(), self.credentials.consumer_secret.encode()):
            raise OAuthError("invalid_client", "invalid client credentials")

    def _check_user(self) -> None:
        if self.credentials.user_state == "locked":
            raise OAuthError("invalid_grant", "user is locked")
        if self.credentials.user_state != "active":
            raise OAuthError("invalid_grant", "inactive user")

    def _check_assertion(self, assertion: str) -> None:
        if self.credentials.public_key is None:
            raise OAuthError("invalid_grant", "invalid assertion")
        try:
            # The clock is the org's, so the time is compared here and not by the library.
            claims = jwt.decode(
                assertion,
                self.credentials.public_key,
                algorithms=["RS256"],
                options={"verify_aud": False, "verify_exp": False, "require": ["iss", "sub", "aud", "exp"]},
            )
            expires = int(claims["exp"])  # simple-salesforce writes the number as a text
        except (jwt.InvalidTokenError, ValueError) as error:
            raise OAuthError("invalid_grant", "invalid assertion") from error
        if claims["iss"] != self.credentials.consumer_key:
            raise OAuthError("invalid_client_id", "client identifier invalid")
        if claims["aud"] not in (*LOGIN_HOSTS, self.instance_url):
            raise OAuthError("invalid_grant", "audience is invalid")
        if expires <= self._clock().timestamp():
            raise OAuthError("invalid_grant", "expired authorization code")
        if claims["sub"] != self.credentials.username or not self.credentials.approved:
            raise OAuthError("invalid_grant", "user hasn't approved this consumer")

    def soap(self, body: str, version: str) -> str:
        """The answer to a SOAP ``login`` call.

        Raises:
            LoginRefusedError: the login is refused.
        """
        if not self.soap_enabled:
            raise LoginRefusedError("API_DISABLED_FOR_ORG", "API is not enabled for this Organization or Partner")
        username, password = _element(body, "username"), _element(body, "password")
        known = self.credentials
        from_trusted_network = _element(body, "organizationId") == self._org_id
        if username != known.username or known.user_state != "active":
            raise LoginRefusedError("INVALID_LOGIN", _INVALID_LOGIN)
        if password == known.password and not from_trusted_network:
            raise LoginRefusedError("LOGIN_MUST_USE_SECURITY_TOKEN", _INVALID_LOGIN + _NEW_LOCATION)
        if password not in {known.password, known.password + known.security_token}:
            raise LoginRefusedError("INVALID_LOGIN", _INVALID_LOGIN)
        session_id = self._begin_session()
        server = f"{self.instance_url}/services/Soap/u/{version}/{self._org_id}"
        return (
            '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
            'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:partner.soap.sforce.com">'
            f"<soapenv:Body><loginResponse><result><passwordExpired>false</passwordExpired><sandbox>false</sandbox>"
            f"<serverUrl>{server}</serverUrl><sessionId>{session_id}</sessionId><userId>{self._user_id}</userId>"
            f"<userInfo><organizationId>{self._org_id}</organizationId>"
            f"<sessionSecondsValid>{int(self.session_lifetime.total_seconds())}</sessionSecondsValid></userInfo>"
            "</result></loginResponse></soapenv:Body></soapenv:Envelope>"
        )

    def _begin_session(self) -> str:
        session_id = f"{self._org_id[:15]}!AQ{secrets.token_urlsafe(48)}"
        self._sessions[session_id] = self._clock()
        self.logins += 1
        return session_id


_INVALID_LOGIN = "Invalid username, password, security token; or user locked out."
_NEW_LOCATION = " From outside of your company's trusted networks, add the security token to the password."


def _basic(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    kind, _, encoded = (authorization or "").partition(" ")
    if kind.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise OAuthError("invalid_client", "invalid client credentials") from error
    return key, secret


def _element(body: str, name: str) -> str:
    """The text of the first element of that local name; a login body is flat and has each once."""
    found = re.search(rf"<(?:\w+:)?{name}>(.*?)</(?:\w+:)?{name}>", body, re.DOTALL)
    return html.unescape(found[1]) if found else ""
