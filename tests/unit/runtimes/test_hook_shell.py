"""The shell that runs a hook, for real in each sh there may be."""

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.remote import state
from fabfile.runtimes import hooks as h
from tests.unit.runtimes.services import SHOP

NASTY = 'it\'s $(touch gone) `touch gone`; "2.0"\n&& %s \\'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "ROOT", str(tmp_path / "state"))
    monkeypatch.setattr(state, "FLOCK_WAIT", 1)
    (tmp_path / "state/locks").mkdir(parents=True)
    made = tmp_path / "srv" / "sh op"
    made.mkdir(parents=True)
    return made


@pytest.fixture
def hook(sh, folder):
    def run(command, env=None, seconds=20.0, **once):
        service = replace(SHOP, project_dir=str(folder))
        return sh(h.hook_script(service, command, env or {}, seconds, **once))

    return run


def ended(done):
    assert done.returncode == 0, done.stderr
    end = h.read_end(done.stdout.decode())
    assert end is not None, done.stdout
    return end


def test_a_hook_runs_in_the_projects_folder_and_all_it_writes_is_told(hook, folder):
    end = ended(hook("pwd; echo to stderr >&2; printf 'no end of line'"))
    assert end == h.End(0, False, (str(folder), "to stderr", "no end of line"))


def test_what_it_is_told_reaches_it_to_the_letter_and_is_never_run(hook, folder):
    end = ended(hook('printf %s "$EVENKEEL_VERSION" >told', {"EVENKEEL_VERSION": NASTY}))
    assert end.code == 0
    assert (folder / "told").read_text() == NASTY
    assert [path.name for path in folder.iterdir()] == ["told"]


def test_a_hook_of_several_lines_with_quotes_is_run_as_it_was_written(hook):
    end = ended(hook('for word in a \'b  c\' "$0"; do\n  echo "<$word>"\ndone # it\'s'))
    assert end.lines == ("<a>", "<b  c>", "<sh>")


@pytest.mark.parametrize("code", [1, 71, 74, 75, 76, 124, 137, 255])
def test_its_exit_code_is_never_taken_for_one_of_ours(hook, code):
    assert ended(hook(f"exit {code}")) == h.End(code, False, ())


def test_a_hook_that_is_killed_has_failed_and_did_not_overrun(hook):
    assert ended(hook("kill -9 $$")) == h.End(137, False, ())


def alive(folder, name):
    pid = int((folder / name).read_text())
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_at_its_deadline_all_that_it_started_is_killed_even_what_does_not_listen(hook, folder):
    deaf = "trap '' TERM; echo $$ >deaf; while :; do sleep 1; done"
    end = ended(hook(f'sh -c "{deaf}" & echo begun; sleep 60', seconds=1.0))
    assert (end.late, end.lines) == (True, ("begun",))
    assert not alive(folder, "deaf")


def test_what_it_leaves_in_the_background_ends_with_it_and_holds_nobody_up(hook, folder):
    began = time.monotonic()
    end = ended(hook("sh -c 'echo $$ >left; sleep 100' & while [ ! -s left ]; do :; done; echo on"))
    assert end == h.End(0, False, ("on",))
    assert time.monotonic() - began < 50
    assert not alive(folder, "left")


def test_a_daemon_that_got_away_holds_nobody_up_either(hook, folder):
    command = "setsid sh -c 'echo $$ >away; exec sleep 100' & while [ ! -s away ]; do :; done"
    end = ended(hook(command))
    try:
        assert end.code == 0
        assert "still holds on to it" in end.lines[0]
    finally:
        os.kill(int((folder / "away").read_text()), signal.SIGKILL)


def test_of_very_much_output_the_end_is_told(hook):
    end = ended(hook("seq 100000; echo the last"))
    assert (end.lines[0], end.lines[-1]) == (h.LEFT_OUT, "the last")
    assert len(end.lines) == h.MOST_LINES + 1


def test_a_line_that_never_ends_is_cut_short(hook):
    end = ended(hook("head -c 3000 /dev/zero | tr '\\0' x"))
    assert len(end.lines[0]) < h.LONGEST + 5


def test_in_a_folder_that_is_not_there_nothing_is_run(sh, folder):
    service = replace(SHOP, project_dir=f"{folder}/nowhere")
    done = sh(h.hook_script(service, f"touch '{folder}/ran'", {}, 5.0))
    assert done.returncode == 71
    assert not (folder / "ran").exists()


def test_what_a_hook_writes_has_the_modes_that_its_user_wants(hook, folder):
    ended(hook("umask >mode; umask 077; echo s3cret >kept"))
    assert (folder / "mode").read_text().strip("0\n") == format(_umask(), "o")
    assert (folder / "kept").stat().st_mode & 0o777 == 0o600


def _umask():
    now = os.umask(0)
    os.umask(now)
    return now


# once


@pytest.fixture
def record(tmp_path, folder):
    return str(tmp_path / "state/rollouts/r1/hooks/before_rollout")


def known(record):
    return h.read_record(Path(f"{record}.json").read_text())


@pytest.mark.parametrize("code", [0, 3])
def test_how_it_ended_is_written_down_by_the_host_itself(hook, record, code):
    end = ended(hook(f"exit {code}", once=record))
    assert end.code == known(record).code == code
    assert known(record).begun.endswith("Z")
    assert Path(f"{record}.json").stat().st_mode & 0o777 == 0o664, "for colleagues, too"


def test_while_it_runs_its_record_says_that_it_has_begun(hook, record, folder):
    ended(hook(f"cp '{record}.json' seen", once=record))
    seen = h.read_record((folder / "seen").read_text())
    assert (seen.code, seen.begun) == (None, known(record).begun)


def test_a_migration_never_runs_twice_in_one_rollout_unless_somebody_says_so(hook, record, folder):
    ended(hook("echo x >>runs", once=record))
    done = hook("echo x >>runs", once=record)
    assert done.returncode == h.EXIT_BEGUN
    assert (folder / "runs").read_text() == "x\n"
    ended(hook("echo x >>runs", once=record, again=True))
    assert (folder / "runs").read_text() == "x\nx\n"


def test_the_next_rollout_does_not_migrate_beside_a_migration_still_at_work(hook, record, folder):
    service = replace(SHOP, project_dir=str(folder))
    script = h.hook_script(service, "echo >begun; sleep 100", {}, 50.0, once=record)
    first = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    try:
        while not (folder / "begun").exists():
            time.sleep(0.01)
        other = record.replace("r1", "r2")
        done = hook("touch ran", once=other)
        assert done.returncode == state.EXIT_BUSY
        assert b"still at work" in done.stderr
        assert not (folder / "ran").exists()
        assert not Path(f"{other}.json").exists(), "it never began"
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(_session(folder, first))], check=False)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


def _session(folder, first):
    """The hook's own session: that of the only child of the script that has one."""
    listed = subprocess.run(
        ["ps", "-o", "sid=", "--ppid", str(first.pid)], capture_output=True, text=True, check=True
    )
    return next(sid for sid in listed.stdout.split() if int(sid) != first.pid)


def test_a_hook_goes_on_when_nobody_listens_any_more_and_its_end_is_known(folder, record):
    service = replace(SHOP, project_dir=str(folder))
    script = h.hook_script(
        service, "until [ -e go ]; do echo x; sleep 0.01; done", {}, 50.0, once=record
    )
    run = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    while not Path(f"{record}.json").exists():
        time.sleep(0.01)
    run.stdout.close()
    (folder / "go").touch()
    run.wait(timeout=30)
    assert known(record).code == 0


def test_what_a_person_takes_for_done_is_done_for_the_next_one_too(sh, record):
    done = sh(h.taken_as_done("r1", "before_rollout", "anna's@laptop:1"))
    assert done.returncode == 0, done.stderr
    assert known(record).code == 0


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (None, None),
        ("", h.Record("", None)),
        ("[]", h.Record("", None)),
        ('{"begun": "2026-', h.Record("", None)),
        ('{"begun": "T1"}', h.Record("T1", None)),
        ('{"begun": "T1", "code": "0"}', h.Record("T1", None)),
        ('{"begun": "T1", "ended": "T2", "code": 0}', h.Record("T1", 0)),
    ],
)
def test_a_record_that_is_cut_short_is_no_success(text, read):
    assert h.read_record(text) == read


@given(st.text())
def test_whatever_comes_back_is_read_or_refused(text):
    end = h.read_end(text)
    assert end is None or text.startswith("ended ")


def test_records_lie_in_the_journal_that_recovery_reads(sh, folder, record, tmp_path):
    plan = tmp_path / "state/rollouts/r1/plan-0001.json"
    plan.parent.mkdir(parents=True)
    plan.write_text('{"id": "r1"}\n')
    sh(h.taken_as_done("r1", "before_rollout", "anna"))
    (found,) = state.parse_journal(sh(state.journal()).stdout.decode())
    assert json.loads(found.hooks["before_rollout"])["said by"] == "anna"
    assert (found.undo, found.done) == ({}, {})
