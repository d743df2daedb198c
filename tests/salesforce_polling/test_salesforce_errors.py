"""Every error of the vendor, through the real library, and what it does to a poll."""

import json
from datetime import timedelta
from typing import Any

import pytest
from polled_org import TENANT, PolledOrg

from connections.salesforce_connection import SalesforceAuth
from ingestion.errors import BudgetExhaustedError, CredentialError, SourceError, TransientError
from ingestion.salesforce.errors import (
    FieldError,
    LocatorLostError,
    ObjectError,
    RequestTooLongError,
    SessionExpiredError,
    of_login,
    of_response,
)
from local.salesforce.schema import Field
from local.simulator_faults import Fault
from messaging.times import utc_now


def body(code: str, message: str = "") -> list[dict[str, str]]:
    """A REST error."""
    return [{"errorCode": code, "message": message}]


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (400, body("MALFORMED_QUERY"), ObjectError),
        (400, body("INVALID_FIELD", "No such column 'X__c' on entity 'Account'."), FieldError),
        (400, body("INVALID_TYPE"), ObjectError),
        (400, body("INVALID_QUERY_FILTER_OPERATOR"), ObjectError),
        (400, body("QUERY_TIMEOUT"), TransientError),
        (400, body("OPERATION_TOO_LARGE"), TransientError),
        (400, body("UNABLE_TO_LOCK_ROW"), TransientError),
        (400, body("INVALID_QUERY_LOCATOR"), LocatorLostError),
        (400, body("QUERY_TOO_COMPLICATED"), RequestTooLongError),
        (400, body("INVALID_REPLICATION_DATE"), ObjectError),
        (400, body("EXCEEDED_ID_LIMIT"), ObjectError),
        (401, body("INVALID_SESSION_ID"), SessionExpiredError),
        (401, {"error": "unauthorized"}, SessionExpiredError),
        (401, "<html>", SessionExpiredError),
        (403, body("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), BudgetExhaustedError),
        (403, body("REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (…) Limit exceeded."), TransientError),
        (403, body("REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."), TransientError),
        (403, body("API_DISABLED_FOR_ORG"), CredentialError),
        (403, body("API_CURRENTLY_DISABLED"), CredentialError),
        (403, body("FORBIDDEN"), CredentialError),
        (403, body("INSUFFICIENT_ACCESS"), ObjectError),
        (403, "<html>", CredentialError),
        (404, body("NOT_FOUND"), ObjectError),
        (404, body("ENTITY_IS_DELETED"), ObjectError),
        (406, "", TransientError),
        (409, "", TransientError),
        (410, "", CredentialError),
        (412, "", TransientError),
        (414, "<html>", RequestTooLongError),
        (415, "", CredentialError),
        (420, "", TransientError),
        (429, "", TransientError),
        (431, "", RequestTooLongError),
        (500, body("UNKNOWN_EXCEPTION"), TransientError),
        (502, "<html>", TransientError),
        (503, body("SERVER_UNAVAILABLE"), TransientError),
        (503, "<html>", TransientError),
    ],
)
def test_each_answer_of_the_vendor_has_its_kind(status: int, content: Any, kind: type[SourceError]) -> None:
    error = of_response(status, content, {}, utc_now(), "Account")

    assert type(error) is kind
    assert str(status) in str(error)


def test_a_refused_query_is_told_by_its_reason_and_not_by_its_text() -> None:
    shown = f"\nSELECT Id,{','.join(f'Field{number}__c' for number in range(60))} FROM Contact\n   ^\n"
    reason = "sObject type 'Contact' is not supported."

    error = of_response(
        400, body("INVALID_TYPE", f"{shown}ERROR at Row:1:Column:700\n{reason}"), {}, utc_now(), "Contact"
    )

    assert str(error).startswith(f"Contact: Salesforce answered 400 INVALID_TYPE: {reason}; ")


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0", 0), ("Sun, 22 Nov 2026 10:00:30 GMT", 30), ("soon", None), ("", None)]
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: int | None) -> None:
    from datetime import UTC, datetime

    error = of_response(429, "", {"Retry-After": header}, datetime(2026, 11, 22, 10, tzinfo=UTC))

    assert isinstance(error, TransientError)
    assert error.after == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        ("invalid_grant", "user hasn't approved this consumer", "pre-authorize"),
        ("invalid_grant", "audience is invalid", "test for a sandbox"),
        ("invalid_grant", "invalid assertion", "certificate"),
        ("invalid_grant", "expired authorization code", "clock"),
        ("invalid_grant", "authentication failure", "security token"),
        ("invalid_grant", "no client credentials user enabled", "Run As"),
        ("invalid_grant", "user is locked", "unlock"),
        ("invalid_grant", "inactive user", "activate"),
        ("invalid_grant", "", "check the user"),
        ("invalid_client_id", "client identifier invalid", "consumer key"),
        ("invalid_client", "invalid client credentials", "consumer secret"),
        ("unsupported_grant_type", "grant type not supported", "enable this OAuth flow"),
        ("invalid_app_access", "user is not admin approved", "not allowed"),
        ("INVALID_LOGIN", "Invalid username, password, security token; or user locked out.", "security token"),
        ("LOGIN_MUST_USE_SECURITY_TOKEN", "", "security token"),
        ("API_DISABLED_FOR_ORG", "", "API access"),
        ("something_new", "never seen", "login settings"),
    ],
)
def test_each_refused_login_has_a_remedy(code: str, message: str, remedy: str) -> None:
    error = of_login(code, message)

    assert isinstance(error, CredentialError)
    assert remedy in str(error)


@pytest.mark.parametrize(
    "kind",
    [
        "unavailable-html",
        "unavailable",
        "server-error",
        "too-many-requests",
        "session-expired",
        "unauthorized-object",
        "unauthorized-html",
        "row-lock",
        "query-timeout",
    ],
)
async def test_what_passes_is_asked_again_within_the_poll(org: PolledOrg, kind: str) -> None:
    org.org.create("Contact", {"LastName": "P"})
    org.api.faults.add(kind, path="/query")

    report = await org.poll()

    assert (report.events, report.errors) == (1, {})


async def test_an_html_page_with_status_200_is_asked_again(org: PolledOrg) -> None:
    org.org.create("Contact", {"LastName": "P"})
    org.api.faults.add(Fault(status=200, body="<html>maintenance</html>", content_type="text/html", path="/query"))

    assert (await org.poll()).events == 1


async def test_what_lasts_is_for_later(org: PolledOrg) -> None:
    org.api.faults.add("unavailable-html", times=None)

    with pytest.raises(TransientError, match="503"):
        await org.poll()


async def test_a_session_that_ends_in_the_middle_of_a_walk_costs_one_login(org: PolledOrg) -> None:
    await org.connect(page_size=10)
    for index in range(25):
        org.org.create("Contact", {"LastName": f"P{index}"})
    await org.poll(deadline=org.clock())
    logins = org.api.login.logins
    send = org.bus.send

    async def expiring(*arguments: Any, **options: Any) -> None:
        org.api.login.expire_sessions()
        await send(*arguments, **options)

    org.bus.send = expiring  # type: ignore[method-assign]  # sessions end between two pages
    await org.poll()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert org.api.login.logins - logins == 2


async def test_a_session_that_is_never_good_costs_two_logins_and_names_the_cause(org: PolledOrg) -> None:
    org.api.faults.add("session-expired", times=None)

    with pytest.raises(CredentialError, match="right after a login"):
        await org.poll()

    assert org.api.login.logins == 2


async def test_a_query_that_times_out_is_asked_in_smaller_pages_which_grow_again(org: PolledOrg) -> None:
    for index in range(30):
        org.org.create("Contact", {"LastName": f"P{index}"})
    org.api.faults.add("query-timeout", path="/query", times=2)

    await org.poll()
    assert "LIMIT 500" in org.queries()[-1]
    await org.poll()

    assert "LIMIT 1000" in org.queries()[-1]
    assert org.seen.records("Contact").keys() == org.truth().keys()


async def test_a_field_that_vanishes_in_the_middle_of_a_walk_is_left_out_and_said(org: PolledOrg) -> None:
    org.org.add_field("Contact", Field("Region__c", "string"))
    await org.connect(page_size=10)
    for index in range(25):
        org.org.create("Contact", {"LastName": f"P{index}", "Region__c": "EMEA"})
    send = org.bus.send

    async def hiding(*arguments: Any, **options: Any) -> None:
        org.org.hide("Contact", ["Region__c"])
        await send(*arguments, **options)

    org.bus.send = hiding  # type: ignore[method-assign]  # it goes between two pages
    report = await org.poll()

    records = org.seen.records("Contact")
    assert records.keys() == org.truth().keys()
    assert sorted({"Region__c" in record for record in records.values()}) == [False, True]
    assert not report.errors


async def test_a_field_that_queries_refuse_though_the_describe_shows_it_is_left_out(org: PolledOrg) -> None:
    org.org.create("Contact", {"LastName": "P"})
    refusal = body("INVALID_FIELD", "ERROR at Row:1 No such column 'Title' on entity 'Contact'.")
    org.api.faults.add(Fault(status=400, body=json.dumps(refusal), path="/query", times=1))

    await org.poll()

    memory = await org.memory()
    assert memory.metadata.fields is not None
    assert "Title" not in memory.metadata.fields.names
    assert "Title" in str(memory.metadata.warning)


async def test_each_retry_is_one_line_that_names_call_try_wait_and_cause(
    org: PolledOrg, caplog: pytest.LogCaptureFixture
) -> None:
    org.org.create("Contact", {"LastName": "P"})
    org.api.faults.add("unavailable-html", path="/describe", times=1)
    org.api.faults.add("unavailable-html", path="/query", times=2)

    await org.poll()

    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("WARNING", f"connection sf: {call} of Contact: try {number} of 4 failed, the next is in 0.0 s: {cause}")
        for call, number in (("describe", 1), ("query", 1), ("query", 2))
        for cause in ("Salesforce answered 503",)
    ]


async def test_an_unknown_object_is_skipped_and_said_and_the_others_go_on(org: PolledOrg) -> None:
    await org.connect("Nope__c", "Contact")
    org.org.create("Contact", {"LastName": "P"})

    report = await org.poll()

    assert (report.events, report.finished) == (1, True)
    assert "grant read access, or take it out" in report.errors["Nope__c"]
    assert "grant read access" in str((await org.memory("Nope__c")).error_message)


async def test_an_object_that_may_not_be_read_is_skipped_and_said(org: PolledOrg) -> None:
    org.api.faults.add("insufficient-access", path="/query", times=None)

    assert "grant read access" in (await org.poll()).errors["Contact"]


async def test_a_uri_that_is_too_long_after_all_is_asked_in_shorter_ones(org: PolledOrg) -> None:
    for index in range(60):
        org.org.add_field("Contact", Field(f"A_custom_field_{index}__c", "string"))
    org.org.create("Contact", {"LastName": "P"})
    org.api.faults.add(Fault(status=414, body="<html>", content_type="text/html", path="/query", times=4))

    await org.poll()

    assert org.seen.records("Contact").keys() == org.truth().keys()
    assert len(org.queries()) > 1


@pytest.mark.parametrize("flow", ["client-credentials", "username-password"])
async def test_each_flow_logs_in(org: PolledOrg, flow: str) -> None:
    await org.connect(auth=_auth(org, flow))
    org.org.create("Contact", {"LastName": "P"})

    assert (await org.poll()).events == 1


async def test_the_jwt_flow_logs_in_and_an_unreadable_key_is_named_without_quoting_it(org: PolledOrg) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    org.simulator.credentials.public_key = (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    variable = "SHARDLINE_SECRET_ACME__SF_KEY"
    org.environment[variable] = private.replace("\n", "\\n")
    await org.connect(auth=_auth(org, "jwt-bearer"))
    org.org.create("Contact", {"LastName": "P"})
    assert (await org.poll()).events == 1

    org.clients.drop(await org.connection())
    org.environment[variable] = "not-a-key-planted"
    with pytest.raises(CredentialError, match="PEM") as refused:
        await org.poll()
    assert "planted" not in str(refused.value)


async def test_a_missing_secret_names_its_variable(org: PolledOrg) -> None:
    org.environment.clear()

    with pytest.raises(CredentialError, match="SHARDLINE_SECRET_ACME__SF_CONSUMER"):
        await org.poll()


@pytest.mark.parametrize("answer", ["[]", "{}", '"x"', "<html>", '{"access_token": "00Dx"}'])
async def test_a_login_host_that_talks_nonsense_is_asked_again(org: PolledOrg, answer: str) -> None:
    org.org.create("Contact", {"LastName": "P"})
    org.api.faults.add(Fault(status=200, body=answer, path="/oauth2/token"))

    assert (await org.poll()).events == 1


async def test_a_login_that_leads_to_another_org_is_refused(org: PolledOrg) -> None:
    await org.connect(instance="00D000000000062EAA")

    with pytest.raises(CredentialError, match="make a new connection"):
        await org.poll()


def _auth(org: PolledOrg, flow: str) -> SalesforceAuth:
    credentials = org.simulator.credentials
    settings: dict[str, dict[str, Any]] = {
        "client-credentials": {
            "domain": "acme.my",
            "consumer_key": credentials.consumer_key,
            "consumer_secret": f"secret:{TENANT}/sf-consumer",
        },
        "username-password": {
            "username": credentials.username,
            "password": f"secret:{TENANT}/sf-password",
            "security_token": f"secret:{TENANT}/sf-token",
        },
        "jwt-bearer": {
            "username": credentials.username,
            "consumer_key": credentials.consumer_key,
            "private_key": f"secret:{TENANT}/sf-key",
        },
    }
    return SalesforceAuth(flow=flow, **settings[flow])  # type: ignore[arg-type]  # one of the literal's words
