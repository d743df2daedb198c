"""What Google refuses, in words that say what to do; and connections tested."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from drive_rig import ADMIN, ANN, BOB, DriveRig, given

from connections.gdrive_connection import GoogleAuth
from connections.secrets import Secret
from ingestion.errors import BudgetExhaustedError, CredentialError, SourceError, TransientError
from ingestion.gdrive.errors import (
    LostTokenError,
    NotFoundError,
    RequestRefusedError,
    SubjectError,
    of_login,
    of_response,
)
from ingestion.gdrive.google_library import GoogleLibrary
from messaging import codec
from messaging.times import utc_now

SAMPLES = Path(__file__).parents[1] / "samples" / "gdrive"
CATALOGUE = {
    "invalid_page_token": LostTokenError,
    "missing_page_token": LostTokenError,
    "bad_fields_mask": RequestRefusedError,
    "bad_token": CredentialError,
    "user_rate": TransientError,
    "project_rate": TransientError,
    "too_many": TransientError,
    "not_found": NotFoundError,
    "backend": TransientError,
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_answer_of_the_catalogue_is_the_error_it_is(name: str) -> None:
    catalogue = codec.decode((SAMPLES / "errors" / "derived_error_catalogue.json").read_bytes())
    assert catalogue.keys() == CATALOGUE.keys()
    answer = catalogue[name]
    error = of_response(answer["status"], codec.encode(answer["body"]), {}, utc_now())
    assert type(error) is CATALOGUE[name]
    assert answer["body"]["error"]["message"][:200] in str(error)


def test_the_pause_is_the_one_that_was_asked_for() -> None:
    body = b'{"error":{"code":429,"message":"m","errors":[{"reason":"rateLimitExceeded"}]}}'
    error = of_response(429, body, {"retry-after": "7"}, utc_now())
    assert isinstance(error, TransientError)
    assert error.after == timedelta(seconds=7)
    for hostile in ("-1", "1e9", "²", "soon", "", "9" * 5000):
        assert isinstance(of_response(429, body, {"retry-after": hostile}, utc_now()), TransientError)


def test_a_limit_of_the_day_is_waited_for_long() -> None:
    body = b'{"error":{"code":403,"message":"m","errors":[{"reason":"dailyLimitExceeded"}]}}'
    error = of_response(403, body, {}, utc_now())
    assert isinstance(error, BudgetExhaustedError)
    assert error.until is not None and error.until > utc_now() + timedelta(minutes=30)


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b"", b"[]", b'{"error": "x"}', b'{"error": {"errors": 1}}', b"\xff"]
)
def test_a_body_that_is_no_answer_is_waited_for(body: bytes) -> None:
    assert isinstance(of_response(502, body, {}, utc_now()), TransientError)


@pytest.mark.parametrize(
    ("told", "kind", "word"),
    [
        ({"error": "unauthorized_client", "error_description": "…"}, SubjectError, "Domain-wide delegation"),
        ({"error": "invalid_grant", "error_description": "Invalid email or User ID"}, SubjectError, "suspended"),
        ({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, SubjectError, "key"),
        ({"error": "invalid_grant", "error_description": "in a reasonable timeframe"}, SubjectError, "clock"),
        ({"error": "admin_policy_enforced"}, SubjectError, "policy"),
        ("<html>", TransientError, ""),
        (None, TransientError, ""),
    ],
)
def test_a_login_that_is_refused_says_what_to_do(told: object, kind: type[SourceError], word: str) -> None:
    error = of_login(told, retryable=False, subject=ANN, scope="the-scope")
    assert type(error) is kind
    assert word in str(error)
    assert ANN in str(error)


def test_the_sample_key_is_a_key_and_its_tokens_come_from_google_alone() -> None:
    key = (SAMPLES / "auth" / "service_account_TEST_KEY.json").read_text()
    library = GoogleLibrary(Secret(key), ANN, None, utc_now)
    assert library._http._credentials._token_uri == "https://oauth2.googleapis.com/token"
    library.close()


@pytest.mark.parametrize("key", ["", "{}", "[]", "not json", '{"type": "service_account", "private_key": "x"}'])
def test_a_secret_that_is_no_key_is_told_of_without_a_word_of_it(key: str) -> None:
    with pytest.raises(CredentialError, match="whole JSON file") as refused:
        GoogleLibrary(Secret(key), ANN, None, utc_now)
    assert refused.value.__cause__ is None


async def test_the_connection_is_tested_user_by_user(rig: DriveRig) -> None:
    auth = GoogleAuth(service_account=rig.made.auth.service_account, subjects=(ADMIN, ANN, BOB))
    rig.made = msgspec.structs.replace(rig.made, auth=auth, folders=("1NoSuchFolderAnywhere",))
    rig.drive.create_drive("Deals")
    note = rig.drive.create_file("note.txt", "Text.", owner=ADMIN)
    rig.drive.share(note, given("user", ANN))
    rig.drive.suspend(BOB)
    checked = await rig.source.check(rig.made)
    assert checked.instance == rig.drive.customer_id
    told = {finding.what: finding for finding in checked.findings}
    assert told[f"login of {ADMIN}"].state == "ok"
    assert told[f"shared drives of {ADMIN}"].detail == "1"
    assert told[f"sample of {ADMIN}"].state == "ok"
    assert told[f"sample of {ANN}"].state == "warning"
    assert told[f"login of {BOB}"].state == "error"
    assert "suspended" in told[f"login of {BOB}"].remedy
    assert told["folder 1NoSuchFolderAnywhere"].state == "error"
    assert not checked.is_usable


async def test_missing_delegation_says_where_to_allow_it(rig: DriveRig) -> None:
    rig.simulator.api.login.revoke_delegation()
    checked = await rig.source.check(rig.made)
    [finding] = [finding for finding in checked.findings if finding.what == f"login of {ADMIN}"]
    assert "https://www.googleapis.com/auth/drive.readonly" in finding.remedy
    assert not checked.is_usable


async def test_without_a_customer_id_the_domain_stands_for_it(rig: DriveRig) -> None:
    rig.made = msgspec.structs.replace(rig.made, instance="")
    checked = await rig.source.check(rig.made)
    assert checked.instance == "domain:acme.example"
    assert checked.is_usable
    alone = GoogleAuth(service_account=rig.made.auth.service_account)
    assert not (await rig.source.check(msgspec.structs.replace(rig.made, auth=alone))).is_usable


async def test_a_key_that_was_rotated_is_taken_up_without_a_restart(rig: DriveRig) -> None:
    await rig.begin()
    good = rig.secrets["SHARDLINE_SECRET_ACME__DRIVE_KEY"]
    info = json.loads(good)
    rig.simulator.api.login.client_email = "new@shardline-sandbox.iam.gserviceaccount.com"
    rig.simulator.api.login.expire_tokens()
    info["client_email"] = rig.simulator.api.login.client_email
    rig.secrets["SHARDLINE_SECRET_ACME__DRIVE_KEY"] = json.dumps(info)
    note = rig.drive.create_file("note.txt", "Text.")
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt"
    assert (await rig.connection()).status == "active"


@pytest.mark.parametrize(
    "fault", ["backend-error", "bad-gateway-html", "forbidden-html", "no-json", "auth-error", "token-unavailable"]
)
async def test_what_passes_is_waited_for_and_nothing_is_lost(rig: DriveRig, fault: str) -> None:
    await rig.begin()
    note = rig.drive.create_file("note.txt", "Text.")
    if fault == "token-unavailable":
        rig.simulator.api.login.expire_tokens()
    rig.simulator.api.faults.add(fault, times=1)
    await rig.catch_up()
    await rig.settle(timedelta(minutes=3))
    await rig.catch_up()
    assert await rig.path(note) == "/note.txt"
    assert (await rig.connection()).status == "active"


async def test_a_budget_is_shared_by_all_workers_and_ends_with_its_minute(rig: DriveRig) -> None:
    from ingestion.gdrive.client import DriveClients

    rig.made = msgspec.structs.replace(rig.made, calls_per_minute=40)
    await rig.services.connections.save(rig.made)
    workers = [DriveClients(rig.services.source_ports, simulator=rig.simulator.base_url) for _ in range(2)]
    made = 0
    with pytest.raises(BudgetExhaustedError) as exhausted:
        for number in range(60):
            await workers[number % 2].of(rig.made, ADMIN).about()
            made += 1
    assert 38 <= made <= 40
    assert exhausted.value.until is not None
    rig.wait((exhausted.value.until - rig.now).total_seconds())
    await workers[0].of(rig.made, ADMIN).about()
    for clients in workers:
        clients.close()


def test_the_recorded_answers_are_read_as_they_are() -> None:
    """Files lists and exports as they were recorded: what a listing gives without a mask is not enough, and says so."""
    calls: list[dict[str, Any]] = codec.decode(
        (SAMPLES / "rest" / "gspread_ClientTest.test_list_spreadsheet_files.json").read_bytes()
    )
    listing = next(call for call in calls if call["request"]["method"] == "GET")["body"]
    assert listing["files"][0]["id"] == calls[0]["body"]["id"]
    assert "version" not in listing["files"][0], "so every call here names its fields"
    exported: list[dict[str, Any]] = codec.decode(
        (SAMPLES / "rest" / "gspread_SpreadsheetTest.test_export_spreadsheet.json").read_bytes()
    )
    assert any("export?mimeType=" in call["request"]["uri"] for call in exported)
