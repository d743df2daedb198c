"""``shardline connect``: it asks, tries, says what is missing, and registers what works."""

import json
from pathlib import Path

import pytest
from commands_of_rig import CommandsOfRig, complaint
from drive_source_rig import USER
from shardline_command import Answer
from slack_source_rig import SlackSourceRig
from source_rig import TENANT, SourceRig

from cli.main import main
from connections.connection import Connection
from connections.salesforce_connection import SalesforceConnection
from connections.secrets import environment_variable
from connections.slack_connection import SlackConnection

ONLY_SLACK = pytest.mark.parametrize("rig", ["slack"], indirect=True)
ONLY_SALESFORCE = pytest.mark.parametrize("rig", ["salesforce"], indirect=True)


def options(rig: SourceRig) -> list[str]:
    """What ``connect`` needs of the rig's source; the secrets are planted."""
    made = rig.new_connection(TENANT)
    rest = {
        "salesforce": lambda: [
            *("--flow", "client-credentials", "--domain", "acme.my", "--consumer-secret", "sf-consumer"),
            *("--consumer-key", str(made.auth.consumer_key), "--objects", "Account"),  # type: ignore[attr-defined]
        ],
        "slack": lambda: ["--bot-token-secret", "slack-bot", "--signing-secret", "slack-signing"],
        "gdrive": lambda: ["--service-account-secret", rig.login_secret, "--subject", USER, "--customer", "C03az79cb"],
    }[rig.system]()
    return ["connect", rig.system, "--tenant", TENANT, *rest]


async def tells(rig: SourceRig, text: str) -> bool:
    """Whether a live shard of the source has *text*."""
    return any(text in str(shard.structured_data) for shard in await rig.live())


async def registered(rig: SourceRig) -> list[Connection]:
    return await rig.services.connections.of_tenant(TENANT)


def secrets_to_type(rig: SourceRig, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The values of Slack's secrets by name, which nobody has but whoever types them; what is typed hidden is read as
    all else."""
    options(rig)
    monkeypatch.setattr("getpass.getpass", lambda *_: input())
    return {name: rig.secrets.pop(environment_variable(TENANT, name)) for name in ("slack-bot", "slack-signing")}


def answers(secrets: dict[str, str]) -> str:
    """What is typed: the secrets' names and values, all channels, and that the bot joins none."""
    return "".join(f"{name}\n{value}\n" for name, value in secrets.items()) + "all\nn\n"


async def test_what_works_is_registered_and_read(rig: SourceRig, shardline: CommandsOfRig) -> None:
    await rig.create("here before")
    rig.wait(1)
    answer = await shardline(*options(rig), "--backfill", "--json")

    assert answer.code == 0, answer.error
    told = answer.json
    assert told["usable"] is True
    assert told["instance"] == told["connection"]["instance"] != ""
    assert {finding["state"] for finding in told["findings"]} <= {"ok", "warning"}
    [connection] = await registered(rig)
    assert (connection.connection_id, connection.status) == (rig.system, "active")
    await rig.settle()
    assert await tells(rig, "here before")
    row = (await shardline.status())[rig.system]
    assert (row["state"], row["error"]) == ("active", None)
    assert row["firstLoad"]["finishedAt"], row["firstLoad"]
    assert row["lastSyncAt"]


async def test_a_secret_that_is_not_set_is_named_with_where_to_put_it(rig: SourceRig, shardline: CommandsOfRig) -> None:
    words = options(rig)
    variable = environment_variable(TENANT, rig.login_secret)
    del rig.secrets[variable]
    said = complaint(await shardline(*words), 1)
    assert f"/secrets/{variable}, or into the environment variable {variable}" in said
    assert await registered(rig) == []


NO_SUCH_SECRET = {
    "salesforce": ["--webhook-secret", "nowhere"],
    "slack": ["--signing-secret", "nowhere"],
    "gdrive": ["--push-address", "https://acme.example/api/webhooks/gdrive", "--channel-secret", "nowhere"],
}
"""Secrets that no call needs, but whatever is pushed."""


async def test_a_secret_that_only_pushes_need_is_missed_before_they_are_refused(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    await rig.create("here before")
    line = complaint(await shardline(*options(rig), *NO_SUCH_SECRET[rig.system], "--check"), 1)

    assert f"secret:{TENANT}/nowhere is not set: put its value" in line
    assert line.count("is not set") == 1


def test_without_a_source_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["connect"])
    said = Answer(code, *capsys.readouterr())

    assert "salesforce, slack, gdrive" in complaint(said, 2)
    assert said.out == ""


@pytest.mark.parametrize("rig", ["gdrive"], indirect=True)
async def test_what_does_not_go_together_is_said_without_a_field_that_is_none(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    line = complaint(await shardline(*options(rig), "--push-address", "http://acme.example"), 2)

    assert line.startswith("shardline: pushAddress must begin with https://")


async def test_a_permission_that_is_missing_is_said_with_its_remedy(rig: SourceRig, shardline: CommandsOfRig) -> None:
    words = options(rig)
    rig.withhold()
    answer = await shardline(*words, "--json")
    said = complaint(answer, 1)
    assert answer.json["usable"] is False
    assert answer.json["connection"] is None
    errors = [finding for finding in answer.json["findings"] if finding["state"] == "error"]
    assert all(finding["remedy"] and finding["remedy"] in said for finding in errors)
    assert await registered(rig) == []


@ONLY_SLACK
async def test_a_source_that_is_away_is_told_with_what_to_do(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingestion.patience.FIRST_WAIT_SECONDS", 0.001)
    rig.answer_with_html()
    answer = await shardline(*options(rig), "--json")
    complaint(answer, 1)
    [finding] = answer.json["findings"]
    assert "auth.test: Slack answers" in finding["detail"]
    assert finding["remedy"].startswith("try again")


async def test_a_check_registers_nothing(rig: SourceRig, shardline: CommandsOfRig) -> None:
    answer = await shardline(*options(rig), "--check")
    assert answer.code == 0, answer.error
    assert "login" in answer.out
    assert await registered(rig) == []
    assert (await rig.services.bus.depths())["source-work"].active == 0


async def test_a_second_connect_changes_what_it_names_and_nothing_else(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    assert (await shardline(*options(rig), "--name", "Ours", "--poll-seconds", "77")).code == 0
    [before] = await registered(rig)
    rig.wait(5)
    answer = await shardline("connect", rig.system, "--tenant", TENANT, "--name", "Still ours")
    assert answer.code == 0, answer.error
    [after] = await registered(rig)
    assert after.name == "Still ours"
    assert after == type(before)(**{**{f: getattr(before, f) for f in before.__struct_fields__}, "name": "Still ours"})
    assert after.schedule.poll_seconds == 77


async def test_a_connection_is_never_moved_to_another_instance(rig: SourceRig, shardline: CommandsOfRig) -> None:
    made = rig.new_connection(TENANT)
    fields = {name: getattr(made, name) for name in made.__struct_fields__}
    other = {"salesforce": "00D000000000099AAA", "slack": "T0OTHER99", "gdrive": "C0other99"}[rig.system]
    await rig.services.connections.save(type(made)(**{**fields, "connection_id": rig.system, "instance": other}))

    answer = await shardline(*options(rig))
    # Drive's customer is given by an option; the others' instance is found by the login.
    said = complaint(answer, 2 if rig.system == "gdrive" else 1)
    assert other in said
    assert "another --id" in said or "make a new connection" in said
    [kept] = await registered(rig)
    assert kept.instance == other
    assert (await shardline(*options(rig), "--id", "second")).code == 0
    assert {one.connection_id for one in await registered(rig)} == {rig.system, "second"}


async def test_an_id_of_another_source_is_refused(rig: SourceRig, shardline: CommandsOfRig) -> None:
    assert (await shardline(*options(rig), "--id", "main")).code == 0
    other = "slack" if rig.system != "slack" else "gdrive"
    said = complaint(await shardline("connect", other, "--tenant", TENANT, "--id", "main"), 2)
    assert f"main is a connection of {rig.system}" in said


@ONLY_SLACK
async def test_without_a_terminal_what_is_missing_is_one_line(rig: SourceRig, shardline: CommandsOfRig) -> None:
    said = complaint(await shardline("connect", "slack"), 2)
    assert "--tenant" in said
    said = complaint(await shardline("connect", "slack", "--tenant", TENANT), 2)
    assert "--bot-token-secret, --signing-secret are missing" in said
    for tenant in ("ac me", "ac/me", " "):
        said = complaint(await shardline("connect", "slack", "--tenant", tenant, "--signing-secret", "s"), 2)
        assert "--tenant: no tenant can have this id" in said
    assert "--flow is missing" in complaint(await shardline("connect", "salesforce", "--tenant", TENANT), 2)
    said = complaint(await shardline("connect", "salesforce", "--tenant", TENANT, "--flow", "jwt-bearer"), 2)
    assert "--username, --consumer-key, --private-key-secret" in said
    said = complaint(await shardline("connect", "salesforce", "--tenant", TENANT, "--flow", "magic"), 2)
    assert "flow" in said
    said = complaint(await shardline("connect", "slack", "--tenant", TENANT, "--file", "no-such.json"), 1)
    assert "no-such.json" in said
    said = complaint(await shardline(*options(rig), "--channel", "deals"), 2)
    assert "the id of a channel, such as C0123456789" in said


@ONLY_SLACK
async def test_a_secret_in_place_of_its_name_is_neither_kept_nor_repeated(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    words = ["connect", "slack", "--tenant", TENANT, "--signing-secret", "signing", "--bot-token-secret"]
    for secret in ("xoxb-1234-planted", "two words", "x" * 120):
        said = complaint(await shardline(*words, secret), 2)
        assert "looks like the secret itself" in said
        assert secret not in said
    assert await registered(rig) == []


@ONLY_SLACK
async def test_at_a_terminal_it_asks_for_what_it_needs(rig: SourceRig, shardline: CommandsOfRig) -> None:
    assert isinstance(rig, SlackSourceRig)
    options(rig)
    typed = f"{TENANT}\nslack-bot\nslack-signing\n{rig.channel}\nn\n"
    answer = await shardline("connect", "slack", typed=typed)
    assert answer.code == 0, answer.error
    assert "Name of the secret with the bot token" in answer.error
    [connection] = await registered(rig)
    assert isinstance(connection, SlackConnection)
    assert (connection.channels, connection.join_public) == ((rig.channel,), False)
    assert connection.auth.bot_token == f"secret:{TENANT}/slack-bot"


@ONLY_SLACK
async def test_at_a_terminal_it_takes_the_values_of_secrets_that_are_not_there_yet(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = secrets_to_type(rig, monkeypatch)
    answer = await shardline("connect", "slack", "--tenant", TENANT, typed=answers(values))
    assert answer.code == 0, answer.error
    assert not any(value in answer.out + answer.error for value in values.values())
    for name, value in values.items():
        kept = shardline.folder / "secrets" / environment_variable(TENANT, name)
        assert (kept.read_text(), kept.stat().st_mode & 0o777) == (value, 0o600)


@ONLY_SLACK
async def test_secrets_that_let_nobody_in_are_asked_for_again(
    rig: SourceRig, shardline: CommandsOfRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = secrets_to_type(rig, monkeypatch)
    words = ("connect", "slack", "--tenant", TENANT)
    answer = await shardline(*words, typed=answers({"slack-bot": "xoxb-mistyped", "slack-signing": "planted"}))
    assert answer.code == 1
    assert "The secrets that were typed are not kept: the next call asks for them again" in answer.error
    answer = await shardline(*words, typed="slack-bot\nxoxb-mistyped\n")
    assert answer.code != 0, "it was left in the middle"
    assert list((shardline.folder / "secrets").iterdir()) == []

    answer = await shardline(*words, "--check", typed=answers(values))
    assert answer.code == 0, answer.error
    answer = await shardline(*words, typed="slack-bot\nslack-signing\nall\nn\n")
    assert answer.code == 0, "what lets in is kept by a test, too"

    kept = shardline.folder / "secrets" / environment_variable(TENANT, "slack-bot")
    kept.write_text("xoxb-revoked")
    line = complaint(await shardline(*words, "--check"), 1)
    assert f". Its secrets are in {kept} and " in line


@pytest.mark.parametrize("rig", ["gdrive"], indirect=True)
async def test_at_a_terminal_drive_is_asked_for_its_key_file_and_customer(
    rig: SourceRig, shardline: CommandsOfRig, tmp_path: Path
) -> None:
    options(rig)
    key = tmp_path / "key.json"
    key.write_text(rig.secrets.pop(environment_variable(TENANT, rig.login_secret)))
    words = ("connect", "gdrive", "--tenant", TENANT)
    answer = await shardline(*words, typed=f"gdrive-key\n{tmp_path / 'none.json'}\n")
    assert answer.code == 1
    assert "none.json can't be read: No such file" in answer.error
    answer = await shardline(*words, typed=f"gdrive-key\n{key}\n{USER}\nC03az79cb\n")
    assert answer.code == 0, answer.error
    [connection] = await registered(rig)
    assert connection.instance == "C03az79cb"


@ONLY_SLACK
async def test_what_is_wanted_anew_is_loaded_anew(rig: SourceRig, shardline: CommandsOfRig) -> None:
    assert isinstance(rig, SlackSourceRig)
    members = [rig.workspace.bot_user_id]
    other = rig.workspace.create_channel("support", user=rig.user, members=members).id
    rig.workspace.post(other, "in the other channel", user=rig.user)
    rig.wait(1)
    assert (await shardline(*options(rig), "--channel", rig.channel)).code == 0
    await rig.settle()
    assert not await tells(rig, "in the other channel")

    rig.wait(5)
    assert (await shardline("connect", "slack", "--tenant", TENANT, "--channel", "")).code == 0
    await rig.settle()
    assert await tells(rig, "in the other channel")


@ONLY_SALESFORCE
async def test_what_is_taken_out_of_a_connection_takes_its_error_with_it(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    await rig.create("here before")
    rig.wait(1)
    assert (await shardline(*options(rig), "--objects", "Account,Missing__c")).code == 0
    await rig.read()
    assert "Missing__c" in (await shardline.status())[rig.system]["error"]

    rig.wait(1)
    assert (await shardline("connect", rig.system, "--tenant", TENANT, "--objects", "Account")).code == 0
    await rig.read()

    assert (await shardline.status())[rig.system]["error"] is None


@ONLY_SALESFORCE
async def test_of_a_connection_that_has_ended_nothing_asks_for_a_remedy(
    rig: SourceRig, shardline: CommandsOfRig
) -> None:
    assert (await shardline(*options(rig), "--objects", "Account,Missing__c")).code == 0
    await rig.read()
    assert (await shardline("disconnect", rig.system)).code == 0

    row = (await shardline.status())[rig.system]
    assert (row["state"], row["error"]) == ("disconnected", None)


@ONLY_SLACK
async def test_a_broken_export_is_not_told_in_place_of_the_first_load(
    rig: SourceRig, shardline: CommandsOfRig, tmp_path: Path
) -> None:
    broken = tmp_path / "export.zip"
    broken.write_bytes(b"no zip at all")
    assert (await shardline(*options(rig), "--no-backfill")).code == 0
    complaint(await shardline("backfill", rig.system, "--from", broken), 1)
    assert (await shardline.status())[rig.system]["firstLoad"] is None

    assert (await shardline("backfill", rig.system)).code == 0
    loaded = (await shardline.status())[rig.system]["firstLoad"]
    assert loaded["finishedAt"]
    rig.wait(1)
    broken.rename(tmp_path / "again.zip")
    complaint(await shardline("backfill", rig.system, "--from", tmp_path / "again.zip"), 1)

    assert (await shardline.status())[rig.system]["firstLoad"] == loaded


@ONLY_SALESFORCE
async def test_a_file_may_describe_it(rig: SourceRig, shardline: CommandsOfRig, tmp_path: Path) -> None:
    made = rig.new_connection(TENANT)
    assert isinstance(made, SalesforceConnection)
    file = tmp_path / "connection.json"
    auth = {
        "flow": "client-credentials",
        "domain": "acme.my",
        "consumerKey": made.auth.consumer_key,
        "consumerSecret": f"secret:{TENANT}/sf-consumer",
    }
    described = {"connectionId": "main", "system": "salesforce", "name": "Ours", "auth": auth}
    objects = [{"name": "Account", "fields": ["Name"]}]
    file.write_text(json.dumps({**described, "objects": objects}))
    assert (await shardline("connect", "salesforce", "--tenant", TENANT, "--file", file)).code == 0
    [connection] = await registered(rig)
    assert isinstance(connection, SalesforceConnection)
    assert (connection.connection_id, connection.name) == ("main", "Ours")
    assert [polled.fields for polled in connection.objects] == [("Name",)]
    said = complaint(await shardline("connect", "slack", "--tenant", TENANT, "--file", file), 2)
    assert "another source" in said
    for unknown, meant in (({"objcts": objects}, "objects"), ({"auth": {**auth, "domian": "acme.my"}}, "auth.domain")):
        file.write_text(json.dumps({**described, **unknown}))
        for words in (("connect", "salesforce", "--file"), ("connections", "--add")):
            answer = await shardline(*words, file, "--tenant", TENANT)
            assert f"no such field: is {meant} meant?" in answer.error, "all would be read that is not wanted"
            assert answer.code != 0
    file.write_text(json.dumps({**described, "objects": [{"name": "Account", "feilds": ["Name"]}]}))
    answer = await shardline("connect", "salesforce", "--tenant", TENANT, "--file", file)
    assert "objects[0].feilds: there is no such field" in complaint(answer, 2)
    [connection] = await registered(rig)
    assert isinstance(connection, SalesforceConnection)
    assert [polled.fields for polled in connection.objects] == [("Name",)]
    file.write_text("[1]")
    assert "no JSON object" in complaint(await shardline("connect", "slack", "--tenant", TENANT, "--file", file), 1)
