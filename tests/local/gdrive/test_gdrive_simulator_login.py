"""Login through google-auth: assertions, delegation, users who are gone, tokens that end."""

from datetime import timedelta
from typing import Any

import pytest
import requests
from drive_client import access_token, drive_service
from google.auth.exceptions import RefreshError
from googleapiclient.errors import HttpError

from local.gdrive.auth import DRIVE_SCOPES, Credentials
from local.gdrive.drive import Drive
from local.gdrive.server import DriveSimulator

ANN = "ann@acme.example"


def whoami(service: Any) -> str:
    return str(service.about().get(fields="user(emailAddress)").execute()["user"]["emailAddress"])


def test_a_delegated_service_account_is_the_user_it_names(simulator: DriveSimulator, service: Any) -> None:
    assert whoami(service(ANN)) == ANN
    assert whoami(service(None)) == simulator.credentials.client_email
    answer = requests.post(simulator.base_url + "/token", data={"grant_type": "password"}, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def refusal(simulator: DriveSimulator, user: str | None = ANN, **changes: str) -> tuple[str, Any]:
    info = {**simulator.credentials.service_account_info, **changes}
    with pytest.raises(RefreshError) as caught:
        whoami(drive_service(simulator.base_url, info, user))
    said, body = caught.value.args[:2]
    return str(said), body


def test_users_who_are_unknown_suspended_or_of_another_domain_get_no_token(
    simulator: DriveSimulator, drive: Drive
) -> None:
    assert refusal(simulator, "nobody@acme.example")[1]["error_description"] == "Invalid email or User ID"
    assert refusal(simulator, "ann@elsewhere.example")[1]["error"] == "unauthorized_client"
    drive.suspend(ANN)
    assert refusal(simulator)[1]["error"] == "invalid_grant"
    drive.restore(ANN)
    simulator.api.login.revoke_delegation()
    assert refusal(simulator)[1]["error"] == "unauthorized_client"


def test_assertions_that_are_signed_or_timed_wrong_get_no_token(simulator: DriveSimulator) -> None:
    other = Credentials(admin="", private_key=None).service_account_info | {"client_email": "x@y.example"}
    assert "account not found" in refusal(simulator, client_email=other["client_email"])[0]
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert "Invalid JWT Signature." in refusal(simulator, private_key=key.decode())[0]
    for skew in (timedelta(hours=-1), timedelta(hours=2)):
        simulator.api.login.skew = skew
        assert "reasonable timeframe" in refusal(simulator)[0]


def test_a_token_is_bound_to_what_was_asked_for(simulator: DriveSimulator, service: Any, drive: Drive) -> None:
    file_id = drive.create_file("a.txt", "text", owner=ANN)
    metadata = service(ANN, DRIVE_SCOPES[2])
    assert metadata.files().get(fileId=file_id).execute()["name"] == "a.txt"
    with pytest.raises(HttpError) as caught:
        metadata.files().get_media(fileId=file_id).execute()
    assert caught.value.error_details[0]["reason"] == "insufficientPermissions"
    with pytest.raises(RefreshError):
        whoami(service(ANN, "https://www.googleapis.com/auth/calendar"))


def test_ended_tokens_are_got_anew_by_the_library(simulator: DriveSimulator, service: Any, drive: Drive) -> None:
    assert whoami(service(ANN)) == ANN
    simulator.api.login.expire_tokens()
    assert whoami(service(ANN)) == ANN
    drive.clock.advance(timedelta(hours=2))
    assert whoami(service(ANN)) == ANN
    assert simulator.api.login.logins == 3
    simulator.api.faults.add("auth-error", times=None)
    with pytest.raises(HttpError) as caught:
        whoami(service(ANN))
    assert (caught.value.status_code, caught.value.error_details[0]["reason"]) == (401, "authError")


def test_a_token_of_a_suspended_user_means_nothing(simulator: DriveSimulator, drive: Drive) -> None:
    token = access_token(simulator.base_url, simulator.credentials.service_account_info, ANN)
    drive.suspend(ANN)
    headers = {"Authorization": f"Bearer {token}"}
    about = simulator.base_url + "/drive/v3/about?fields=user"
    answer = requests.get(about, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    without = requests.get(about, timeout=10)
    assert (without.status_code, without.json()["error"]["errors"][0]["reason"]) == (403, "forbidden")


def test_the_directory_tells_the_administrator_the_customer_id(simulator: DriveSimulator, drive: Drive) -> None:
    scope = "https://www.googleapis.com/auth/admin.directory.customer.readonly"
    for user, status in ((drive.admin, 200), (ANN, 403)):
        token = access_token(simulator.base_url, simulator.credentials.service_account_info, user, [scope])
        answer = requests.get(
            simulator.base_url + "/admin/directory/v1/customers/my_customer",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        assert answer.status_code == status
        if status == 200:
            assert answer.json()["id"] == drive.customer_id
