"""Salesforce as polling sees it: simple-salesforce behind typed calls, typed errors and the org's API budget.

The library logs in and calls; two of its habits are kept out of the way. It is given a session id, so that it never
logs in again by itself (it would do so up to five times in a row for a token that stays bad, on the old host, and
trips over a 401 whose body is no list); and it is called from a thread, one call at a time for each login.
"""

import asyncio
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

import jwt
import requests
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceAuthenticationFailed
from simple_salesforce.exceptions import SalesforceError as LibraryError
from simple_salesforce.login import SalesforceLogin

from connections.budget import ApiBudget
from connections.egress import SALESFORCE_HOSTS, RefusedDestinationError, vendor_session
from connections.salesforce_connection import SalesforceAuth, SalesforceConnection
from connections.secrets import Secret, SecretError, SecretStore, SecretsUnavailableError
from ingestion.errors import BudgetExhaustedError, CredentialError, TransientError
from ingestion.salesforce.errors import SessionExpiredError, http_date, of_login, of_response
from ingestion.vendor_threads import in_vendor_thread
from messaging import codec
from messaging.times import Clock, to_text, utc_now
from shards.identity import InvalidExternalIdError, salesforce_id

# The library warns with a URL that names the connected app; the error that follows says what to do without it.
warnings.filterwarnings("ignore", module=r"simple_salesforce\.login")

T = TypeVar("T")

log = logging.getLogger(__name__)

REFUSED_FOR = timedelta(minutes=30)
"""How long nobody asks after the org has refused a call because its limit is reached: the limit is over a rolling day,
and no answer says when it eases."""

SECRETS_PAUSE = timedelta(seconds=30)
"""How long nobody asks after the store of secrets was away: it has been asked several times by then."""

_budget: ContextVar[ApiBudget | None] = ContextVar("salesforce_budget", default=None)
"""Whose calls are being made: a read and a poll of one login each count their own."""

_USAGE = re.compile(r"(?<!-)\bapi-usage=(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class QueryPage:
    """Records of one response. *more*: the query has further rows than these; *total*: how many it has in all."""

    records: list[dict[str, Any]]
    more: bool
    total: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no query's: its headers, and its body as it came."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The JSON in the body.

        Raises:
            TransientError: there is none.
        """
        try:
            return codec.decode(self.body)
        except codec.DecodeError:
            raise TransientError("Salesforce's answer is no JSON") from None


@contextmanager
def spending(budget: ApiBudget) -> Iterator[None]:
    """Count the calls that are made in here against *budget*, and ask it before each."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


class SalesforceClient:
    """One login to one org. Its calls may be awaited from several tasks; they run one after the other.

    All calls raise the errors of :mod:`ingestion.salesforce.errors`.
    """

    def __init__(
        self,
        connection: SalesforceConnection,
        secrets: SecretStore,
        *,
        simulator: str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._connection = connection
        self._secrets = secrets
        self._clock = clock
        self._session = vendor_session(SALESFORCE_HOSTS, simulator=simulator)
        self._session.hooks["response"].append(self._note_response)
        self._headers: Mapping[str, str] = {}
        self._library: Salesforce | None = None
        self._turn = asyncio.Lock()
        self._in_thread = threading.Lock()
        self.source_time: datetime | None = None
        """What the clock of Salesforce said with its last answer."""
        self.behind = timedelta(0)
        """By how much that was behind this machine's, a call's time included."""

    @property
    def name(self) -> str:
        """Whose calls these are, as the log says it."""
        return f"connection {self._connection.connection_id}"

    @property
    def base_url(self) -> str:
        """Where people open the org's records (``https://acme.my.salesforce.com``), empty before the first login."""
        return f"https://{self._library.sf_instance}" if self._library is not None else ""

    async def org_id(self) -> str:
        """The 18-character id of the org that the login leads to; logs in when there is no session yet."""
        async with self._turn:
            library = await self._logged_in()
            # An access token starts with the org's id: "00D…!…".
            try:
                return salesforce_id(str(library.session_id).partition("!")[0])
            except InvalidExternalIdError:
                page = await self._repeated(lambda: self._query("SELECT Id FROM Organization", False), None)
        if not page.records:
            raise CredentialError("the user may not see which org this is: grant read access to Organization")
        return salesforce_id(str(page.records[0]["Id"]))

    async def query(self, soql: str, *, object_type: str, deleted_too: bool = True) -> QueryPage:
        """The first response to *soql*: up to 2,000 records, soft-deleted ones too (queryAll) unless told otherwise."""
        async with self._turn:
            return await self._repeated(lambda: self._query(soql, deleted_too), object_type)

    async def describe(self, object_type: str) -> dict[str, Any]:
        """The object's describe: its fields as this login may see them."""
        async with self._turn:
            return await self._repeated(lambda: self._describe(object_type), object_type)

    async def count(self, object_type: str) -> int:
        """How many records of the object there are, those in the recycle bin included."""
        page = await self.query(f"SELECT COUNT() FROM {object_type}", object_type=object_type)
        return page.total

    async def call(
        self, method: str, path: str, *, object_type: str | None = None, content: Any = None, accept: str | None = None
    ) -> Answer:
        """Any other resource of the REST API: *path* is what follows ``/services/data/vNN.N/``, *content* JSON."""
        async with self._turn:
            return await self._repeated(lambda: self._call(method, path, content, accept), object_type)

    def close(self) -> None:
        """Give back the HTTP connections."""
        self._session.close()

    async def _repeated(self, call: Callable[[], T], object_type: str | None) -> T:
        """*call*'s result; a session that is over is renewed once, and the call repeated once."""
        await self._logged_in()
        try:
            return await self._counted(call, object_type)
        except SessionExpiredError:
            log.info("connection %s: the session is over; logging in again", self._connection.connection_id)
            self._library = None
        await self._logged_in(fresh=True)
        try:
            return await self._counted(call, object_type)
        except SessionExpiredError as error:
            self._library = None
            raise CredentialError(
                f"{error}, right after a login: the session is not accepted from this address, or the user may not use "
                "the API"
            ) from None

    async def _counted(self, call: Callable[[], T], object_type: str | None) -> T:
        now = self._clock()
        budget = _budget.get()
        if budget is not None:
            until = budget.closed_until(now)
            if until is not None:
                raise BudgetExhaustedError(
                    f"the org's API calls are used up as far as this connection may use them; going on at "
                    f"{to_text(until)}",
                    until,
                )
            budget.count_call(now)
        try:
            return await in_vendor_thread(self._translated, call, object_type)
        except BudgetExhaustedError as error:
            until = self._clock() + REFUSED_FOR
            if budget is not None:
                budget.refuse(until)
            raise BudgetExhaustedError(f"{error}; going on at {to_text(until)}", until) from None

    def _translated(self, call: Callable[[], T], object_type: str | None) -> T:
        # A cancelled task leaves its thread running: the next call of this session waits for it here.
        with self._in_thread:
            try:
                return call()
            except LibraryError as error:
                raise of_response(
                    int(error.status), _parsed(error.content), self._headers, self._clock(), object_type
                ) from None
            except RefusedDestinationError as error:
                raise CredentialError(f"the call was not made: {error}") from None
            except (requests.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
                raise TransientError(f"Salesforce's answer is not what it should be ({type(error).__name__})") from None
            except requests.RequestException as error:
                raise TransientError(f"Salesforce can't be reached ({type(error).__name__})") from None

    def _query(self, soql: str, deleted_too: bool) -> QueryPage:
        answer = self._in_session().query(soql, include_deleted=deleted_too)
        return QueryPage(answer["records"], more=not answer["done"], total=answer["totalSize"])

    def _describe(self, object_type: str) -> dict[str, Any]:
        answer = self._in_session().restful(f"sobjects/{object_type}/describe")
        if not isinstance(answer, dict):
            raise TypeError("a describe is an object")
        return answer

    def _call(self, method: str, path: str, content: Any, accept: str | None) -> Answer:
        library = self._in_session()
        headers = {**library.headers, **({"Accept": accept} if accept else {})}
        url = f"{library.base_url}{path}"
        response = self._session.request(method, url, headers=headers, json=content)
        if response.status_code >= 300:
            try:
                content = response.json()
            except requests.JSONDecodeError:
                content = response.text
            raise LibraryError(url, response.status_code, path, content)
        return Answer(response.headers, response.content)

    def _in_session(self) -> Salesforce:
        if self._library is None:
            raise AssertionError("calls are made only after a login")
        return self._library

    async def _logged_in(self, *, fresh: bool = False) -> Salesforce:
        if self._library is None:
            values = await self._secret_values(fresh)
            try:
                self._library = await in_vendor_thread(self._log_in, values)
            except CredentialError:
                # They may have been changed since they were read; refused ones are not tried twice.
                newest = values if fresh else await self._secret_values(fresh=True)
                if newest == values:
                    raise
                self._library = await in_vendor_thread(self._log_in, newest)
        return self._library

    async def _secret_values(self, fresh: bool) -> dict[str, Secret]:
        auth = self._connection.auth
        references = {
            "consumer_secret": auth.consumer_secret,
            "privatekey": auth.private_key,
            "password": auth.password,
            "security_token": auth.security_token,
        }
        try:
            return {
                name: await self._secrets.get(self._connection.tenant_id, reference, fresh=fresh)
                for name, reference in references.items()
                if reference is not None
            }
        except SecretError as error:
            raise CredentialError(str(error)) from None
        except SecretsUnavailableError as error:
            raise TransientError(str(error), SECRETS_PAUSE) from None

    def _log_in(self, values: Mapping[str, Secret]) -> Salesforce:
        with self._in_thread:
            try:
                session_id, host = SalesforceLogin(
                    session=self._session,
                    sf_version=self._connection.api_version,
                    **_login_arguments(self._connection.auth, values),
                )
            except SalesforceAuthenticationFailed as error:
                raise of_login(error.code, _without(error.auth_message, values)) from None
            except RefusedDestinationError as error:
                raise CredentialError(f"the login was not made: {error}") from None
            except requests.RequestException as error:
                raise TransientError(f"the login host can't be reached ({type(error).__name__})") from None
            except jwt.PyJWTError:
                # Without its cause: the message of a key that can't be read may quote the key.
                raise CredentialError(_UNREADABLE_KEY) from None
            except (ExpatError, AttributeError, KeyError, TypeError):
                raise TransientError("the login host answered with something that is no token answer") from None
            except ValueError:
                raise CredentialError(_UNREADABLE_KEY) from None
        return Salesforce(
            session_id=session_id,
            instance=host,
            session=self._session,
            version=self._connection.api_version,
            parse_float=Decimal,
            object_pairs_hook=None,
        )

    def _note_response(self, response: requests.Response, *_args: Any, **_kwargs: Any) -> None:
        self._headers = response.headers
        said = http_date(response.headers.get("Date"))
        if said is not None:
            self.source_time, self.behind = said, max(self._clock() - said, timedelta(0))
        usage = _USAGE.search(response.headers.get("Sforce-Limit-Info", ""))
        budget = _budget.get()
        if usage and budget is not None:
            budget.observe(int(usage[1]), int(usage[2]), self._clock())


class SalesforceClients:
    """The clients of a process, one a connection, so that a poll needs no login of its own."""

    def __init__(self, secrets: SecretStore, *, simulator: str | None = None, clock: Clock = utc_now) -> None:
        self._simulator = simulator
        self._clock = clock
        self.secrets = secrets
        """Where the clients' secrets come from."""
        self._clients: dict[tuple[str, str], tuple[tuple[SalesforceAuth, str], SalesforceClient]] = {}

    def of(self, connection: SalesforceConnection) -> SalesforceClient:
        """The client of *connection*; a new one when its login settings have changed."""
        key = (connection.tenant_id, connection.connection_id)
        settings = (connection.auth, connection.api_version)
        known = self._clients.get(key)
        if known is not None and known[0] == settings:
            return known[1]
        if known is not None:
            known[1].close()
        client = SalesforceClient(connection, self.secrets, simulator=self._simulator, clock=self._clock)
        self._clients[key] = (settings, client)
        return client

    def drop(self, connection: SalesforceConnection) -> None:
        """Forget the connection's session, so that the next call logs in with the secrets as they are then."""
        known = self._clients.pop((connection.tenant_id, connection.connection_id), None)
        if known is not None:
            known[1].close()

    def close(self) -> None:
        """Give back all HTTP connections."""
        for _, client in self._clients.values():
            client.close()
        self._clients.clear()


_UNREADABLE_KEY = "the private key is not a readable RSA key in PEM form: store the whole file, header lines included"


def _login_arguments(auth: SalesforceAuth, values: Mapping[str, Secret]) -> dict[str, Any]:
    revealed = {name: secret.reveal() for name, secret in values.items()}
    if "privatekey" in revealed:
        # Environment variables often carry the line breaks of a PEM file as backslash and n.
        revealed["privatekey"] = revealed["privatekey"].replace("\\n", "\n")
    arguments: dict[str, Any] = {"domain": auth.domain, **revealed}
    if auth.flow != "client-credentials":
        arguments["username"] = auth.username
    if auth.flow != "username-password":
        arguments["consumer_key"] = auth.consumer_key
    if auth.flow == "jwt-bearer" and auth.instance_domain:
        arguments["instance_url"] = auth.instance_domain
    return arguments


def _without(text: str, values: Mapping[str, Secret]) -> str:
    for secret in values.values():
        text = text.replace(secret.reveal(), "…")
    return text


def _parsed(content: object) -> object:
    return content if isinstance(content, list | dict) else str(content)
