"""Slack's Web API, called within its limits, with errors by what has to be done about them."""

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import requests

from connections.egress import SLACK_HOSTS, RefusedDestinationError, vendor_session
from connections.secrets import SecretError, SecretStore, SecretsUnavailableError
from connections.slack_connection import SlackConnection
from connections.state import StateStore
from ingestion.errors import CredentialError, TransientError
from ingestion.patience import patiently
from ingestion.slack.call_budget import CallBudget
from ingestion.slack.errors import NoJsonError, RefusedError, error_of, retry_after
from ingestion.vendor_threads import in_vendor_thread
from messaging.times import Clock

if TYPE_CHECKING:
    from ingestion.slack.web_client import GuardedWebClient

log = logging.getLogger(__name__)

JsonObject = dict[str, Any]

TIMEOUT: Final = (10.0, 30.0)
"""Seconds to connect, and without a byte of an answer. Slack ends its own calls sooner."""
CURSOR_RESTARTS: Final = 3
"""How often a walk whose cursor has died begins anew before it is left for later."""


class SlackClient:
    """One connection's calls. ``calls`` counts them; ``scopes`` is what Slack last said that the token may do."""

    def __init__(
        self, connection: SlackConnection, secrets: SecretStore, budget: CallBudget, session: requests.Session
    ) -> None:
        self.connection = connection
        self.budget = budget
        self.calls = 0
        self.scopes: frozenset[str] | None = None
        self._secrets = secrets
        self._session = session
        self._web: GuardedWebClient | None = None

    async def call(self, method: str, **arguments: Any) -> JsonObject:
        """The answer of *method*; arguments that are None are left out. Short troubles are waited for.

        Raises:
            RefusedError: Slack refuses the call as it is.
            TransientError, BudgetExhaustedError, CredentialError: as they say.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        return await patiently(f"Slack's {method}", lambda: self._call(method, given))

    async def pages(self, method: str, **arguments: Any) -> AsyncIterator[JsonObject]:
        """All pages of *method*. An empty page with a cursor is one like any other; a cursor that has died begins the
        walk anew, so what a page has may come again.

        Raises:
            RefusedError, TransientError, BudgetExhaustedError, CredentialError: as for :meth:`call`.
        """
        cursor: str | None = None
        restarts = 0
        while True:
            try:
                page = await self.call(method, **arguments, cursor=cursor)
            except RefusedError as error:
                if error.code != "invalid_cursor" or cursor is None:
                    raise
                restarts += 1
                if restarts > CURSOR_RESTARTS:
                    raise TransientError(f"{method}: its cursors end before their time") from error
                cursor = None
                continue
            yield page
            following = next_cursor(page)
            if following is None:
                return
            if following == cursor:
                raise TransientError(f"{method}: a page's cursor leads to itself")
            cursor = following

    async def _call(self, method: str, arguments: JsonObject) -> JsonObject:
        await self.budget.take(method)
        try:
            return await self._ask(method, arguments)
        except CredentialError:
            # The token may have been replaced meanwhile.
            if not await self._has_new_token():
                raise
        return await self._ask(method, arguments)

    async def _ask(self, method: str, arguments: JsonObject) -> JsonObject:
        web = self._web or await self._client(fresh=False)
        self.calls += 1
        try:
            status, headers, body = await in_vendor_thread(web.ask, method, arguments)
        except NoJsonError as error:
            raise TransientError(f"{method}: Slack answers {error}") from None
        except RefusedDestinationError as error:
            raise CredentialError(f"{method}: {error}") from error
        except requests.RequestException as error:
            raise TransientError(f"{method}: Slack can't be reached ({type(error).__name__})") from error
        if "x-oauth-scopes" in headers:
            self.scopes = frozenset(scope.strip() for scope in headers["x-oauth-scopes"].split(",") if scope.strip())
        if status == 429 or body.get("error") in ("ratelimited", "rate_limited"):
            raise await self.budget.refused(method, retry_after(headers))
        if body.get("ok") is not True:
            raise error_of(method, status, body)
        return body

    async def _client(self, *, fresh: bool) -> "GuardedWebClient":
        from ingestion.slack.web_client import GuardedWebClient  # noqa: PLC0415 - the SDK comes with a first call

        connection = self.connection
        try:
            token = await self._secrets.get(connection.tenant_id, connection.auth.bot_token, fresh=fresh)
        except SecretError as error:
            raise CredentialError(str(error)) from error
        except SecretsUnavailableError as error:
            raise TransientError(str(error)) from error
        if self._web is None or self._web.token != token.reveal():
            self._web = GuardedWebClient(token.reveal(), self._session)
        return self._web

    async def _has_new_token(self) -> bool:
        before = self._web
        return await self._client(fresh=True) is not before

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()


class SlackClients:
    """The clients of this process, one a connection as it is now."""

    def __init__(self, secrets: SecretStore, states: StateStore, clock: Clock, *, simulator: str | None = None) -> None:
        self._secrets = secrets
        self._states = states
        self._clock = clock
        self._simulator = simulator
        self._clients: dict[tuple[str, str], SlackClient] = {}

    def of(self, connection: SlackConnection) -> SlackClient:
        """The connection's client; a new one where the connection was changed."""
        key = (connection.tenant_id, connection.connection_id)
        client = self._clients.get(key)
        if client is None or _settings(client.connection) != _settings(connection):
            self.drop(connection)
            budget = CallBudget(connection, self._states, self._clock)
            session = vendor_session(SLACK_HOSTS, simulator=self._simulator, timeout=TIMEOUT)
            client = self._clients[key] = SlackClient(connection, self._secrets, budget, session)
        return client

    def drop(self, connection: SlackConnection) -> None:
        """Forget the connection's client, so that the next one reads the token anew."""
        client = self._clients.pop((connection.tenant_id, connection.connection_id), None)
        if client is not None:
            client.close()

    def close(self) -> None:
        """Give back all connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def _settings(connection: SlackConnection) -> tuple[Any, ...]:
    """What a client goes by."""
    return (connection.auth, connection.instance, connection.calls_per_minute, connection.history_page)


def next_cursor(page: JsonObject) -> str | None:
    """Where the next page begins; None: this was the last."""
    metadata = page.get("response_metadata")
    cursor = metadata.get("next_cursor") if isinstance(metadata, dict) else None
    return cursor if isinstance(cursor, str) and cursor else None
