"""What stays on this machine of a rollout, and that it never stops one."""

import json

from fabfile.drivers import copies
from fabfile.rollout.events import Notice
from tests.unit.drivers.fakes import plan


def kept(root):
    return sorted(path.name for path in copies.folder(root).iterdir())


def test_the_plan_lies_beside_the_log(tmp_path):
    copies.keep(tmp_path, plan(id="20260101-000000-abcd"), lambda _: None)
    text = (copies.folder(tmp_path) / "20260101-000000-abcd.plan.json").read_text()
    assert json.loads(text)["version"] == "2.0"


def test_what_cannot_be_written_is_a_notice_and_stops_nothing(tmp_path):
    (tmp_path / ".evenkeel").write_text("in the way")
    said = []
    copies.keep(tmp_path, plan(), said.append)
    assert [type(event) for event in said] == [Notice]
    assert "no copy of the plan is kept here" in said[0].text


def test_old_copies_go_and_files_of_others_stay(tmp_path):
    folder = copies.folder(tmp_path)
    folder.mkdir(parents=True)
    for day in range(1, 6):
        for end in ("jsonl", "plan.json"):
            (folder / f"202601{day:02}-000000-abcd.{end}").touch()
    for name in ("notes.txt", "demo.jsonl", "20260101-000000-abcd.html"):
        (folder / name).touch()
    copies.prune(tmp_path, 2)
    assert kept(tmp_path) == sorted([
        "notes.txt", "demo.jsonl", "20260101-000000-abcd.html",
        "20260104-000000-abcd.jsonl", "20260104-000000-abcd.plan.json",
        "20260105-000000-abcd.jsonl", "20260105-000000-abcd.plan.json",
    ])  # fmt: skip
