"""Workspaces from company directories: a real export, what one may lack, and what a hostile one may not do."""

import json
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ingestion.slack.export import SlackExport
from ingestion.slack.export_archive import ExportError, ExportLimits
from local.company import CompanyError
from local.slack.export import load_workspace
from local.slack.server import SlackSimulator

SAMPLE = Path(__file__).parents[2] / "samples" / "slack" / "export" / "slack_export_traveling-sailor.zip"
SAILOR = "C0JL6CGQ2"


def write(directory: Path, files: dict[str, Any]) -> Path:
    """An unpacked export in ``DIR/slack``."""
    for name, value in files.items():
        path = directory / "slack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return directory


def zipped(directory: Path, files: dict[str, Any]) -> Path:
    """A packed one, ``DIR/slack/export.zip``."""
    (directory / "slack").mkdir(exist_ok=True)
    with zipfile.ZipFile(directory / "slack" / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name, value if isinstance(value, str) else json.dumps(value))
    return directory


@pytest.mark.parametrize("unpacked", [False, True])
def test_a_real_export_is_served_as_it_is(tmp_path: Path, unpacked: bool) -> None:
    (tmp_path / "slack").mkdir()
    if unpacked:
        shutil.unpack_archive(SAMPLE, tmp_path / "slack")
    else:
        shutil.copy(SAMPLE, tmp_path / "slack")
    workspace = load_workspace(tmp_path)
    with SlackSimulator(workspace) as simulator:
        client = simulator.client()
        assert client.auth_test()["team_id"] == "T0BMHLSRH"
        channels = {channel["id"]: channel for channel in client.conversations_list()["channels"]}
        messages = client.conversations_history(channel=SAILOR, limit=999)["messages"]
        assert len(client.users_list()["members"]) == 4 + 2
    assert {channel["name"] for channel in channels.values()} == {"enrique", "traveling-sailor"}
    assert (channels[SAILOR]["created"], channels[SAILOR]["topic"]["last_set"]) == (1452988822, 0)
    assert len(messages) == 56
    assert sum(1 for message in messages if message.get("files")) >= 3
    assert [message["ts"] for message in messages] == sorted((message["ts"] for message in messages), reverse=True)


def test_two_reads_are_equal_and_what_is_missing_is_made(tmp_path: Path) -> None:
    company = write(
        tmp_path,
        {
            "channels.json": [{"name": "open"}, {"name": "empty", "members": []}],
            "groups.json": [{"name": "closed", "members": ["ann"]}],
            "users.json": [{"name": "ann", "email": "ann@a.example"}],
            "open/2026-05-06.json": [
                {"user": "ann", "text": "first"},
                {"user": "ann", "text": "second"},
                {"user": "ann", "text": "same", "ts": "1778025600.000001"},
                {"user": "ann", "text": "same", "ts": "1778025600.000001"},
                {"user": "ann", "text": "other", "ts": "1778025600.000001"},
                {"user": "ann", "text": "late", "ts": "1778025700.000000", "thread_ts": "1700000000.000000"},
            ],
            "dms.json": [{"id": "D1"}],
        },
    )
    one, two = load_workspace(company), load_workspace(company)
    assert one.channels == two.channels
    assert one.users == two.users
    public, private = one.channel_named("open"), one.channel_named("closed")
    (ann,) = [user for user in one.users.values() if user["name"] == "ann"]
    assert ann["profile"]["email"] == "ann@a.example"
    assert ann["id"] in public.members
    assert list(private.members) == [ann["id"], one.bot_user_id]
    assert private.is_private
    texts = [public.message(ts)["text"] for ts in public.history()]
    assert texts == ["second", "first", "other", "same", "This message was deleted."]
    assert public.message("1700000000.000000")["subtype"] == "tombstone"
    assert {public.message(ts)["user"] for ts in public.history()} == {ann["id"], "USLACKBOT"}


def test_the_team_id_is_what_company_json_says(tmp_path: Path) -> None:
    assert load_workspace(tmp_path).team_id.startswith("T0")
    assert [channel.name for channel in load_workspace(tmp_path).channels.values()] == ["general"]
    (tmp_path / "company.json").write_text('{"slack": {"teamId": "T06LRKMR4WQ"}}')
    assert load_workspace(tmp_path).team_id == "T06LRKMR4WQ"
    (tmp_path / "company.json").write_text('{"slack": {"teamId": "acme"}}')
    with pytest.raises(CompanyError, match=r"slack\.teamId 'acme' is no team id"):
        load_workspace(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"readme.txt": "hello"}, "no Slack export in it"),
        ({"channels.json": "[{"}, "channels.json: Input data was truncated"),
        ({"channels.json": {}}, "channels.json: not a JSON list"),
        ({"channels.json": [1]}, "channels.json, entry 1: not a JSON object"),
        ({"channels.json": [{}]}, "channels.json: a channel without name and id"),
        ({"channels.json": [{"name": "a"}], "a/2026-13-01.json": []}, "2026-13-01.json: month must be in 1..12"),
        (
            {"channels.json": [{"name": "a"}], "a/2026-01-01.json": [{"ts": "soon"}]},
            "a/2026-01-01.json, message 1: ts 'soon' is no message time",
        ),
        ({"channels.json": "[" * 5000}, "channels.json: RecursionError"),
    ],
)
@pytest.mark.parametrize("make", [write, zipped])
def test_what_can_not_be_read_is_one_line(tmp_path: Path, make: Any, files: dict[str, Any], said: str) -> None:
    if make is zipped and "readme.txt" in files:
        said = "no channels.json in it"
    with pytest.raises(CompanyError) as caught:
        load_workspace(make(tmp_path, files))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../outside.json", "/etc/outside.json", "a/../../outside.json"])
def test_a_name_that_leads_out_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CompanyError, match="leads out of the archive"):
        load_workspace(zipped(tmp_path, {"channels.json": [{"name": "a"}], name: "[]"}))


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2026-01-01.json").write_text('[{"text": "from outside", "ts": "1767225600.000000"}]')
    company = write(tmp_path / "company", {"channels.json": [{"name": "a"}, {"name": "b"}], "b/x.json": []})
    (company / "slack" / "a").symlink_to(outside)
    (company / "slack" / "b" / "2026-01-01.json").symlink_to(outside / "2026-01-01.json")
    assert sum(len(channel) for channel in load_workspace(company).channels.values()) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "slack").symlink_to(company / "slack")
    with pytest.raises(CompanyError, match="a link"):
        load_workspace(elsewhere)


def test_a_link_in_an_archive_is_left_out(tmp_path: Path) -> None:
    company = zipped(tmp_path, {"channels.json": [{"name": "a"}]})
    link = zipfile.ZipInfo("a/2026-01-01.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(company / "slack" / "export.zip", "a") as archive:
        archive.writestr(link, "/etc/passwd")
    assert len(load_workspace(company).channel_named("a")) == 0


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    company = write(tmp_path, {"channels.json": [{"name": "a"}], "a/x.json": []})
    os.mkfifo(company / "slack" / "a" / "2026-01-01.json")
    assert len(load_workspace(company).channel_named("a")) == 0


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    bomb = zipped(tmp_path, {"channels.json": [], "a/2026-01-01.json": " " * (20 << 20)}) / "slack"
    with pytest.raises(ExportError, match=r"unpacks to \d+ bytes, more than is taken"):
        SlackExport(bomb)
    for limits, said in ((ExportLimits(files=1), "more than 1 files"), (ExportLimits(file_bytes=9), "more than 9")):
        with pytest.raises(ExportError, match=said):
            SlackExport(SAMPLE, limits=limits)
    (bomb / "export.zip").write_bytes(SAMPLE.read_bytes()[:-200])
    with pytest.raises(ExportError, match=r"no \.zip that can be read"):
        SlackExport(bomb)


def test_an_archive_may_have_a_folder_around_it_and_names_beyond_ascii(tmp_path: Path) -> None:
    day = [{"text": "hallo", "ts": "1767225600.000000"}]
    files = {"my export/channels.json": [{"name": "größe"}], "my export/größe/2026-01-01.json": day}
    assert len(load_workspace(zipped(tmp_path, files)).channel_named("größe")) == 1


def test_an_export_is_read_a_day_at_a_time() -> None:
    with SlackExport(SAMPLE) as export:
        days = export.days(SAILOR)
        assert (len(days), days[0], days[-1]) == (8, "2016-01-16", "2016-03-29")
        assert sum(len(list(export.messages(SAILOR, [day]))) for day in days) == len(list(export.messages(SAILOR)))
