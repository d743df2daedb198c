"""Recorded and documented answers of Salesforce's APIs, given by the simulator in place of its own."""

import json

import pytest
from pushed_org import SAMPLES, PushedOrg

from ingestion.errors import CredentialError, SourceError, TransientError
from ingestion.salesforce.client import SalesforceClient
from ingestion.salesforce.errors import ObjectError, SessionExpiredError, of_login, of_response
from ingestion.salesforce.fields import choose
from local.simulator_faults import Fault
from messaging import codec


def sample(name: str) -> str:
    return (SAMPLES / name).read_text("utf-8")


async def client_of(org: PushedOrg) -> SalesforceClient:
    """A client whose next calls the test answers."""
    client = org.clients.of(await org.connection())
    await client.org_id()
    return client


async def test_a_page_of_a_query_that_goes_on_and_one_that_does_not(org: PushedOrg) -> None:
    client = await client_of(org)
    for name, more in (
        ("query_paginated_first_page_response", True),
        ("query_paginated_last_page_response", False),
        ("query_success_response", False),
    ):
        org.api.faults.add(Fault(status=200, body=sample(f"rest/{name}.json"), path="/queryAll"))
        page = await client.query("SELECT Id FROM Account", object_type="Account")
        assert (page.more, len(page.records)) == (more, 1), name


@pytest.mark.parametrize("name", ["get_deleted_success_response", "get_updated_success_response"])
async def test_answers_of_resources_that_polls_do_without_are_json_like_any(org: PushedOrg, name: str) -> None:
    client = await client_of(org)
    org.api.faults.add(Fault(status=200, body=sample(f"rest/{name}.json"), path="/sobjects/"))
    answer = await client.call("GET", "sobjects/Account/updated", object_type="Account")
    assert "latestDateCovered" in answer.json()


async def test_the_list_of_versions(org: PushedOrg) -> None:
    client = await client_of(org)
    org.api.faults.add(Fault(status=200, body=sample("rest/services_data_success_response.json"), path="/data/"))
    assert [one["version"] for one in (await client.call("GET", "")).json()] == ["20.0", "100"]


async def test_a_token_answer_logs_in(org: PushedOrg) -> None:
    recorded = json.loads(sample("rest/auth_success_response.json"))
    org.api.faults.add(Fault(status=200, body=json.dumps(recorded), path="/services/oauth2/token"))
    client = org.clients.of(await org.connection())
    if recorded["access_token"].startswith("00D"):
        assert (await client.org_id())[:15] == recorded["access_token"][:15]
    assert recorded["instance_url"].removeprefix("https://") in client.base_url


async def test_a_soap_login_answer_logs_in(org: PushedOrg) -> None:
    auth = org.auth(
        flow="username-password",
        domain="login",
        username="u",
        password="secret:acme/sf-password",
        security_token="secret:acme/sf-token",
    )
    await org.connect("Account", auth=auth, instance="")
    body = sample("auth/derived_soap_login_success.xml")
    org.api.faults.add(Fault(status=200, body=body, path="/services/Soap/u/", content_type="text/xml"))
    client = org.clients.of(await org.connection())
    assert await client.org_id() == "00D5g000000OPENEA4"
    assert client.base_url == "https://acme.my.salesforce.com"


def test_an_expired_session_is_told_apart(org: PushedOrg) -> None:
    error = of_response(401, codec.decode(sample("rest/expired_session_response.json")), {}, org.clock())
    assert isinstance(error, SessionExpiredError)


EXPECTED: dict[str, type[SourceError]] = {
    "expired or bad token": SessionExpiredError,
    "concurrent long requests": TransientError,
    "bad SOQL": ObjectError,
    "object not visible": ObjectError,
    "record gone": ObjectError,
    "getDeleted window": ObjectError,
    "maintenance": TransientError,
    "oauth: not pre-authorised": CredentialError,
    "oauth: wrong key": CredentialError,
    "oauth: bad password": CredentialError,
    "oauth: flow off": CredentialError,
}


def test_each_error_of_the_catalogue_is_dealt_with(org: PushedOrg) -> None:
    catalogue = codec.decode(sample("rest/derived_error_catalogue.json"))
    assert {one["case"] for one in catalogue} == EXPECTED.keys()
    for one in catalogue:
        body = one["body"]
        error = (
            of_login(body["error"], body["error_description"])
            if isinstance(body, dict)
            else of_response(one["status"], body, {}, org.clock(), "Account")
        )
        assert isinstance(error, EXPECTED[one["case"]]), one["case"]
        assert len(str(error)) > 30


def test_the_descriptions_of_the_ui_api_are_no_describe() -> None:
    with pytest.raises(ObjectError, match="lists no fields"):
        choose(codec.decode(sample("describe/opportunityObjectDescribeInfo.json")), (), described_at="")


@pytest.mark.parametrize("name", ["ebikes_Accounts", "ebikes_sample-data-plan"])
async def test_trees_of_the_salesforce_cli_name_no_record_yet_and_are_kept(org: PushedOrg, name: str) -> None:
    answer = await org.post(sample(f"tree/{name}.json").encode())
    assert (answer.status, answer.body) == (202, '{"taken":0,"kept":true}')


def test_every_sample_that_salesforce_sends_or_answers_is_used_by_a_test() -> None:
    """By the name of its file, in one of the modules beside this one."""
    texts = "".join(path.read_text("utf-8") for path in sorted(SAMPLES.parents[1].glob("salesforce/test_*.py")))
    unused = [
        path.name
        for folder in ("auth", "bulk", "callout", "cdc", "data", "describe", "outbound", "rest", "tree")
        for path in sorted((SAMPLES / folder).iterdir())
        if path.stem not in texts
    ]
    assert unused == []
