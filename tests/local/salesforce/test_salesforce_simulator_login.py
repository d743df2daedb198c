"""simple-salesforce, unmodified, through every login flow of the simulator and its refusals."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceExpiredSession,
    SalesforceRefusedRequest,
)

from local.salesforce.adapter import SimulatorAdapter
from local.salesforce.server import SalesforceSimulator

LogIn = Callable[..., Salesforce]


def key_pair() -> tuple[str, str]:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


PRIVATE_KEY, PUBLIC_KEY = key_pair()


def by_jwt(simulator: SalesforceSimulator, **changes: str) -> Salesforce:
    simulator.credentials.public_key = PUBLIC_KEY
    given: dict[str, Any] = {
        "username": simulator.credentials.username,
        "consumer_key": simulator.credentials.consumer_key,
        "privatekey": PRIVATE_KEY,
        **changes,
    }
    return Salesforce(session=simulator.session(), **given)


def by_client_credentials(simulator: SalesforceSimulator, **changes: str) -> Salesforce:
    given: dict[str, Any] = {
        "consumer_key": simulator.credentials.consumer_key,
        "consumer_secret": simulator.credentials.consumer_secret,
        "domain": "acme.my",
        **changes,
    }
    return Salesforce(session=simulator.session(), **given)


def by_password(simulator: SalesforceSimulator, **changes: str) -> Salesforce:
    given: dict[str, Any] = {
        "username": simulator.credentials.username,
        "password": simulator.credentials.password,
        "security_token": simulator.credentials.security_token,
        **changes,
    }
    return Salesforce(session=simulator.session(), **given)


def by_oauth_password(simulator: SalesforceSimulator, **changes: str) -> Salesforce:
    given: dict[str, Any] = {
        "username": simulator.credentials.username,
        "password": simulator.credentials.password + simulator.credentials.security_token,
        "consumer_key": simulator.credentials.consumer_key,
        "consumer_secret": simulator.credentials.consumer_secret,
        **changes,
    }
    return Salesforce(session=simulator.session(), **given)


@pytest.mark.parametrize("log_in", [by_jwt, by_client_credentials, by_password, by_oauth_password])
def test_each_flow_gives_a_session_that_works(simulator: SalesforceSimulator, log_in: LogIn) -> None:
    salesforce = log_in(simulator)
    assert salesforce.sf_instance == "acme.my.salesforce.com"
    assert salesforce.session_id.startswith(simulator.org.org_id[:15] + "!")
    assert salesforce.query("SELECT COUNT() FROM Account")["totalSize"] == 0
    assert simulator.api.login.logins == 1


def test_the_token_answer_has_the_documented_fields(simulator: SalesforceSimulator) -> None:
    credentials = simulator.credentials
    answer = requests.post(
        simulator.base_url + "/services/oauth2/token",
        {"grant_type": "client_credentials"},
        auth=(credentials.consumer_key, credentials.consumer_secret),
        timeout=10,
    ).json()
    assert answer.keys() == {
        "access_token",
        "instance_url",
        "id",
        "token_type",
        "issued_at",
        "signature",
        "scope",
    }
    assert answer["instance_url"] == "https://acme.my.salesforce.com"
    assert answer["id"].split("/")[-2] == simulator.org.org_id
    assert answer["token_type"] == "Bearer"
    assert answer["issued_at"].isdigit()


def refused(log_in: LogIn, simulator: SalesforceSimulator, **changes: str) -> tuple[object, object]:
    with pytest.raises(SalesforceAuthenticationFailed) as caught:
        log_in(simulator, **changes)
    return caught.value.code, caught.value.auth_message


def test_jwt_refusals(simulator: SalesforceSimulator) -> None:
    other_key, _ = key_pair()
    assert refused(by_jwt, simulator, privatekey=other_key) == ("invalid_grant", "invalid assertion")
    assert refused(by_jwt, simulator, domain="acme.elsewhere", instance_url="acme.my") == (
        "invalid_grant",
        "audience is invalid",
    )
    assert refused(by_jwt, simulator, consumer_key="nobody") == ("invalid_client_id", "client identifier invalid")
    with pytest.warns(UserWarning, match="authorize"):
        assert refused(by_jwt, simulator, username="other@acme.example") == (
            "invalid_grant",
            "user hasn't approved this consumer",
        )
    simulator.org.clock.advance(timedelta(minutes=4))
    assert refused(by_jwt, simulator) == ("invalid_grant", "expired authorization code")


def test_a_jwt_without_a_registered_key_is_no_assertion(simulator: SalesforceSimulator) -> None:
    with pytest.raises(SalesforceAuthenticationFailed, match="invalid assertion"):
        Salesforce(
            session=simulator.session(),
            username=simulator.credentials.username,
            consumer_key=simulator.credentials.consumer_key,
            privatekey=PRIVATE_KEY,
        )


def test_a_jwt_for_the_test_domain_and_the_own_domain_passes(simulator: SalesforceSimulator) -> None:
    assert by_jwt(simulator, domain="test").auth_type == "jwt-bearer"
    assert by_jwt(simulator, domain="acme.my").auth_type == "jwt-bearer"


def test_client_credentials_refusals(simulator: SalesforceSimulator) -> None:
    assert refused(by_client_credentials, simulator, consumer_key="nobody")[0] == "invalid_client_id"
    assert refused(by_client_credentials, simulator, consumer_secret="wrong") == (
        "invalid_client",
        "invalid client credentials",
    )
    simulator.credentials.run_as_user = False
    assert refused(by_client_credentials, simulator) == ("invalid_grant", "no client credentials user enabled")


def test_users_that_may_not_log_in(simulator: SalesforceSimulator) -> None:
    simulator.credentials.user_state = "locked"
    assert refused(by_client_credentials, simulator) == ("invalid_grant", "user is locked")
    simulator.credentials.user_state = "inactive"
    assert refused(by_client_credentials, simulator) == ("invalid_grant", "inactive user")


def test_password_refusals(simulator: SalesforceSimulator) -> None:
    assert refused(by_oauth_password, simulator, password="wrong") == ("invalid_grant", "authentication failure")
    assert refused(by_password, simulator, password="wrong")[0] == "INVALID_LOGIN"
    assert refused(by_password, simulator, security_token="")[0] == "LOGIN_MUST_USE_SECURITY_TOKEN"
    simulator.api.login.soap_enabled = False
    assert refused(by_password, simulator)[0] == "API_DISABLED_FOR_ORG"


def test_a_trusted_network_needs_no_security_token(simulator: SalesforceSimulator) -> None:
    salesforce = Salesforce(
        session=simulator.session(),
        username=simulator.credentials.username,
        password=simulator.credentials.password,
        organizationId=simulator.org.org_id,
    )
    assert salesforce.query("SELECT Id FROM Organization")["records"][0]["Id"] == simulator.org.org_id


def test_an_unknown_grant_is_unsupported_and_a_description_may_be_absent(simulator: SalesforceSimulator) -> None:
    url = simulator.base_url + "/services/oauth2/token"
    answer = requests.post(url, {"grant_type": "device"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    simulator.api.faults.add("login-refused")
    assert refused(by_client_credentials, simulator) == ("invalid_grant", "")


def test_a_session_that_ends_is_renewed_by_the_library_at_once(
    simulator: SalesforceSimulator, salesforce: Salesforce
) -> None:
    simulator.api.login.expire_sessions()
    assert salesforce.query("SELECT Id FROM Account")["totalSize"] == 0
    simulator.org.clock.advance(timedelta(hours=2))
    assert salesforce.query("SELECT Id FROM Account")["totalSize"] == 0
    assert simulator.api.login.logins == 3
    assert [call.status for call in simulator.api.calls_of("Account")] == [200, 200]


def test_a_session_that_stays_bad_costs_four_calls_and_five_logins(
    simulator: SalesforceSimulator, salesforce: Salesforce
) -> None:
    simulator.api.faults.add("session-expired", times=None)
    with pytest.raises(SalesforceExpiredSession):
        salesforce.query("SELECT Id FROM Account")
    assert sum(call.status == 401 for call in simulator.api.calls) == 4
    assert simulator.api.login.logins == 5


def test_a_401_that_is_no_list_breaks_the_library_as_the_vendor_does(
    simulator: SalesforceSimulator, salesforce: Salesforce
) -> None:
    simulator.api.faults.add("unauthorized-object")
    with pytest.raises(KeyError):
        salesforce.query("SELECT Id FROM Account")
    simulator.api.faults.add("unauthorized-html")
    with pytest.raises(requests.JSONDecodeError):
        salesforce.query("SELECT Id FROM Account")


def test_an_org_without_api_access_refuses(simulator: SalesforceSimulator, salesforce: Salesforce) -> None:
    simulator.api.faults.add("api-disabled")
    with pytest.raises(SalesforceRefusedRequest) as caught:
        salesforce.query("SELECT Id FROM Account")
    assert "API_DISABLED_FOR_ORG" in str(caught.value)


def test_no_credential_shows_in_a_representation(simulator: SalesforceSimulator) -> None:
    credentials = simulator.credentials
    for secret in (credentials.consumer_secret, credentials.password, credentials.security_token):
        assert secret not in repr(credentials)


def test_the_adapter_reaches_the_simulator_and_nothing_else(simulator: SalesforceSimulator) -> None:
    session = simulator.session()
    assert session.get("https://anything.my.salesforce.com/services/data/", timeout=10).json()
    for url in ("https://example.com/", "https://salesforce.com.example.com/"):
        with pytest.raises(requests.exceptions.InvalidURL):
            session.get(url, timeout=10)
    with pytest.raises(requests.exceptions.InvalidSchema):
        session.get(simulator.base_url, timeout=10)
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        SimulatorAdapter("http://192.0.2.1:80")
