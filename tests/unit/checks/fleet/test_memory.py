"""What cron hears from one run to the next, and what a bad file does to it: nothing."""

import fcntl
import json
import threading

import pytest

from fabfile.checks.fleet import memory
from fabfile.checks.fleet.memory import Seen

WELL, ILL = Seen(), Seen(2, ("CRITICAL x",))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (WELL, WELL, ""),
        (WELL, ILL, "CRITICAL: it"),
        (ILL, ILL, "CRITICAL: it"),
        (ILL, WELL, "RECOVERED: CRITICAL: it"),
    ],
)
def test_quiet_is_silent_while_all_is_well(before, now, said):
    assert memory.quiet_line(before, now, "CRITICAL: it") == said


def test_the_webhook_is_told_of_changes_alone_and_again_if_it_did_not_hear():
    assert not memory.to_tell(WELL)
    assert memory.to_tell(ILL)
    heard = memory.told(ILL)
    assert not memory.to_tell(heard)
    assert memory.to_tell(Seen(0, (), heard.told)), "that it is over is news, too"


def remember(path, seen, complaints):
    with memory.remembered(path, complaints.append) as known:
        before = known[0]
        known.append(seen)
    return before


def test_what_was_found_is_remembered(tmp_path):
    path, said = tmp_path / "new/folder/state.json", []
    assert remember(path, memory.told(ILL), said) == WELL
    assert remember(path, WELL, said) == memory.told(ILL)
    assert said == []
    assert sorted(each.name for each in path.parent.iterdir()) == ["state.json", "state.json.lock"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 2}', '{"format": 1}', "\0", '"x"',
     '{"format": 1, "exit_code": "x", "troubles": [], "told": []}',
     '{"format": 1, "exit_code": 1, "troubles": 5, "told": []}'],
)  # fmt: skip
def test_a_broken_file_is_told_in_one_line_and_begun_anew(tmp_path, text):
    path, said = tmp_path / "state.json", []
    path.write_text(text)
    assert remember(path, ILL, said) == WELL
    (line,) = said
    assert line.startswith(str(path))
    assert "\n" not in line
    assert remember(path, WELL, said) == ILL
    assert len(said) == 1


def test_a_file_that_is_no_text_is_begun_anew(tmp_path):
    path, said = tmp_path / "state.json", []
    path.write_bytes(b"\xff\xfe")
    assert remember(path, ILL, said) == WELL
    assert len(said) == 1


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    assert remember(tmp_path / "file/state.json", ILL, said) == WELL
    assert remember(tmp_path, ILL, said) == WELL, "a folder"
    assert len(said) >= 2
    assert all("\n" not in line for line in said)


def test_runs_that_overlap_take_turns(tmp_path):
    path, order = tmp_path / "state.json", []
    inside = threading.Event()

    def second():
        inside.wait()
        order.append(("second", remember(path, WELL, [])))

    other = threading.Thread(target=second)
    other.start()
    with memory.remembered(path, order.append) as known:
        inside.set()
        other.join(0.2)
        order.append("first")
        known.append(ILL)
    other.join()
    assert order == ["first", ("second", ILL)]


def test_a_run_that_never_ends_does_not_hold_the_others_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PATIENCE", 0.1)
    path, said = tmp_path / "state.json", []
    with (tmp_path / "state.json.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remember(path, ILL, said) == WELL
    assert len(said) == 1
    assert not path.exists()


def test_what_is_written_is_for_people_to_read_as_well(tmp_path):
    path = tmp_path / "state.json"
    remember(path, ILL, [])
    assert json.loads(path.read_text())["troubles"] == ["CRITICAL x"]
