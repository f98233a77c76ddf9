"""The shell that keeps locks, fences and records, run for real in each sh there may be."""

import fcntl
import json
import os
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.remote import life, state
from fabfile.remote import records as written
from fabfile.remote.base import Command
from fabfile.remote.local import LocalTransport

FACTS = {"by": "anna@laptop:1", "reason": "it's 5 o'clock $(reboot)"}


@pytest.fixture(params=["dash", "bash"])
def sh(request):
    def run(script, stdin=b"", umask="022"):
        return subprocess.run(
            [request.param, "-c", f"umask {umask}\n{script}"],
            input=stdin,
            capture_output=True,
            check=False,
        )

    run.name = request.param
    return run


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setattr(state, "ROOT", str(folder))
    monkeypatch.setattr(state, "FLOCK_WAIT", 1)
    return folder


def took(sh, keys, owner="r1"):
    done = sh(state.acquire(keys, owner, FACTS))
    assert done.returncode == 0, done.stderr
    return {
        key: f"{owner} {epoch}"
        for key, epoch in state.parse_acquired(done.stdout.decode())[0].items()
    }


def locks_in(root):
    return sorted(path.name for path in (root / "locks").glob("*.lock"))


# locks


def test_all_locks_are_taken_at_once(sh, root):
    assert took(sh, ["b", "a"]) == {"a": "r1 1", "b": "r1 1"}
    assert locks_in(root) == ["a.lock", "b.lock"]


def test_whoever_meets_one_foreign_lock_takes_none(sh, root):
    took(sh, ["b"])
    done = sh(state.acquire(["a", "b", "c"], "r2", FACTS))
    assert done.returncode == state.EXIT_HELD
    assert locks_in(root) == ["b.lock"]


def test_a_conflict_says_who_why_and_since_when(sh):
    took(sh, ["b"])
    done = sh(state.acquire(["a", "b"], "r2", {}))
    _, held = state.parse_acquired(done.stdout.decode())
    assert held is not None
    assert (held.key, held.owner, held.facts) == ("b", "r1", FACTS)
    assert 0 <= held.age < 5
    assert held.since.endswith("Z")


def test_two_that_race_never_both_win(sh):
    script = state.acquire(["a", "b", "c"], "OWNER", {})
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda n: sh(script.replace("OWNER", f"r{n}")).returncode, range(8)))
    assert sorted(codes) == [0, *[state.EXIT_HELD] * 7]


def test_the_same_keys_in_another_order_cannot_deadlock(sh, monkeypatch):
    monkeypatch.setattr(state, "FLOCK_WAIT", 10)
    scripts = [state.acquire(keys, "r", {}) for keys in (["a", "b"], ["b", "a"])] * 4
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda script: sh(script).returncode, scripts))
    assert codes.count(0) == 1
    assert time.monotonic() - began < 5


def test_an_epoch_never_goes_down(sh):
    seen = []
    for owner in ("r1", "r2", "r3"):
        keys = took(sh, ["a"], owner)
        seen.append(int(keys["a"].split()[1]))
        assert sh(state.release(keys)).returncode == 0
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("damage", ["", "abc\n", "08\n", "-3\n", "4"])
def test_a_damaged_count_never_makes_an_old_token_valid_again(sh, root, damage):
    took(sh, ["a"])
    (root / "locks/a.lock").unlink()
    (root / "locks/a.epoch").write_text(damage)
    assert int(took(sh, ["a"])["a"].split()[1]) > 1_000_000


def test_a_colleague_of_the_group_can_take_the_lock_next(sh, root):
    keys = took(sh, ["a"])
    sh(state.release(keys))
    for path in (root / "locks").iterdir():
        assert path.stat().st_mode & stat.S_IWGRP, path
    assert (root / "locks").stat().st_mode & stat.S_IWGRP


def test_a_full_disk_leaves_no_lock_behind_and_none_that_is_empty(sh, root):
    (root / "locks").mkdir()
    (root / "locks/b.lock.new").symlink_to("/dev/full")
    done = sh(state.acquire(["a", "b"], "r1", {}))
    assert done.returncode == 71
    assert locks_in(root) == []


def test_a_folder_that_is_missing_is_named(sh, root):
    root.rmdir()
    done = sh(state.acquire(["a"], "r1", {}))
    assert done.returncode == 71
    assert b"missing or not writable" in done.stderr


def test_a_command_that_is_ended_in_the_middle_gives_back_what_it_took(sh, root, monkeypatch):
    monkeypatch.setattr(state, "FLOCK_WAIT", 30)
    (root / "locks").mkdir()
    with (root / "locks/b.flock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        script = state.acquire(["a", "b"], "r1", {})
        done = subprocess.run(["timeout", "1", sh.name, "-c", script], check=False)
    assert done.returncode == 124
    assert locks_in(root) == []


def test_only_the_holder_gives_a_lock_back(sh, root):
    keys = took(sh, ["a"], "r1")
    for foreign in ("r2 1", "r1 2", "r1", ""):
        assert sh(state.release({"a": foreign})).returncode == 0
        assert locks_in(root) == ["a.lock"]
    sh(state.release(keys))
    assert locks_in(root) == []


def test_what_nobody_knows_to_hold_can_be_abandoned_by_its_owner_alone(sh, root):
    took(sh, ["a"], "r1")
    took(sh, ["b"], "r11")
    assert sh(state.abandon(["a", "b", "c"], "r1")).returncode == 0
    assert locks_in(root) == ["b.lock"]


def test_a_sign_of_life_makes_the_lock_young_again(sh, root):
    keys = took(sh, ["a"])
    os.utime(root / "locks/a.lock", (0, 0))
    assert sh(life.heartbeat(keys)).returncode == 0
    assert time.time() - (root / "locks/a.lock").stat().st_mtime < 10


def test_signs_of_life_in_one_conversation_keep_locks_young_until_one_is_lost(sh, root):
    keys = took(sh, ["a", "it's"])
    files = [root / "locks" / f"{name}.lock" for name in keys]
    command = Command(life.heartbeats(keys))
    lines = LocalTransport("here").converse(command, marker=life.MARKER)
    try:
        for _ in range(2):
            for file in files:
                os.utime(file, (0, 0))
            assert lines.ask("", timeout=5) == "ours\n"
            assert all(time.time() - file.stat().st_mtime < 10 for file in files)
        files[0].write_text("r2 2\n")
        os.utime(files[0], (0, 0))
        assert lines.ask("", timeout=5) == "lost\n"
        files[0].unlink()
        assert lines.ask("", timeout=5) == "lost\n"
        assert not files[0].exists()
    finally:
        lines.close()


def test_a_sign_of_life_for_a_lock_that_was_taken_over_says_so(sh, root):
    keys = took(sh, ["a"])
    (root / "locks/a.lock").write_text("r2 2\n")
    os.utime(root / "locks/a.lock", (0, 0))
    assert sh(life.heartbeat(keys)).returncode == state.EXIT_FENCED
    assert (root / "locks/a.lock").stat().st_mtime == 0
    (root / "locks/a.lock").unlink()
    assert sh(life.heartbeat(keys)).returncode == state.EXIT_FENCED
    assert locks_in(root) == []


@pytest.mark.parametrize(
    ("text", "owner", "since"),
    [
        ("r1 7\n", "r1", "?"),
        ("r1", "r1", "?"),
        ("r1 7\n{not json\nyesterday\n", "r1", "yesterday"),
        ('r1 7\n["a", "list"]\nyesterday\n', "r1", "yesterday"),
        ("somebody wrote this by hand\n", "somebody wrote this by", "?"),
        ("\n\n\n", "?", ""),
    ],
)
def test_a_lock_that_was_cut_short_or_edited_still_locks_and_names_its_owner(
    sh, root, text, owner, since
):
    (root / "locks").mkdir()
    (root / "locks/a.lock").write_text(text)
    done = sh(state.acquire(["a"], "r2", {}))
    assert done.returncode == state.EXIT_HELD
    _, held = state.parse_acquired(done.stdout.decode())
    assert held is not None
    assert (held.owner, held.since) == (owner, since)


@given(st.lists(st.text(), max_size=5), st.integers())
def test_no_lock_file_can_break_the_reader(lines, age):
    assert state.parse_lock("a", age, lines).key == "a"


@pytest.mark.parametrize("first", ["", "r0 3", "r", "r11 1", "* 1", "r1"])
def test_only_a_silent_holder_that_was_named_is_taken_over(sh, root, first):
    (root / "locks").mkdir()
    lock = root / "locks/a.lock"
    lock.write_text(f"{first}\n\n\n")
    old = time.time() - 100
    os.utime(lock, (old, old))
    assert sh(state.acquire(["a"], "r2", {})).returncode == state.EXIT_HELD
    done = sh(state.acquire(["a"], "r2", {}, over=["r0", "r1"]))
    assert done.returncode == (0 if first in ("r0 3", "r1") else state.EXIT_HELD)


def test_a_holder_that_still_gives_signs_of_life_is_not_taken_over(sh):
    took(sh, ["a"], "r1")
    assert sh(state.acquire(["a"], "r2", {}, over=["r1"])).returncode == state.EXIT_HELD


def test_whoever_was_taken_over_is_fenced_off(sh, root):
    keys = took(sh, ["a"], "r1")
    os.utime(root / "locks/a.lock", (0, 0))
    assert sh(state.acquire(["a"], "r1", {}, over=["r1"])).returncode == 0
    assert sh(state.fenced(keys, f"touch {root}/x")).returncode == state.EXIT_FENCED
    assert sh(life.heartbeat(keys)).returncode == state.EXIT_FENCED
    assert not (root / "x").exists()


def test_an_owner_or_reason_cannot_smuggle_shell_in(sh, root):
    done = sh(state.acquire(["a"], "r1", {"reason": f"'; touch {root}/x; '"}))
    assert done.returncode == 0
    assert not (root / "x").exists()


# fences


def test_a_holder_may_act(sh, root):
    keys = took(sh, ["a", "b"])
    assert sh(state.fenced(keys, f"touch {root}/x; exit 3")).returncode == 3
    assert (root / "x").exists()


@pytest.mark.parametrize("line", ["r1 0", "r1 2", "r2 1", "r1"])
def test_whoever_was_replaced_changes_nothing(sh, root, line):
    took(sh, ["a"])
    done = sh(state.fenced({"a": line}, f"touch {root}/x"))
    assert done.returncode == state.EXIT_FENCED
    assert not (root / "x").exists()


def test_one_lock_lost_of_several_fences_all(sh, root):
    keys = took(sh, ["a", "b"])
    (root / "locks/b.lock").unlink()
    assert sh(state.fenced(keys, f"touch {root}/x")).returncode == state.EXIT_FENCED
    assert not (root / "x").exists()


def test_an_effect_waits_only_so_long_for_another_one(sh, root):
    keys = took(sh, ["a"])
    script = state.fenced(keys, f"touch {root}/on; sleep 30")
    first = subprocess.Popen([sh.name, "-c", script], start_new_session=True)
    try:
        while not (root / "on").exists():
            time.sleep(0.02)
        began = time.monotonic()
        assert sh(state.fenced(keys, f"touch {root}/x")).returncode == state.EXIT_BUSY
        assert 0.8 < time.monotonic() - began < 4
        assert not (root / "x").exists()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def test_a_target_stays_taken_while_anything_that_an_effect_started_lives(sh, root):
    keys = took(sh, ["a"])
    orphan = sh(state.fenced(keys, "sleep 2 >/dev/null 2>&1 & echo $!"))
    assert orphan.returncode == 0
    assert sh(state.fenced(keys, "true")).returncode == state.EXIT_BUSY
    time.sleep(1.2)
    assert sh(state.fenced(keys, "true")).returncode == 0


def test_a_new_holder_waits_for_what_the_last_one_left_running(sh):
    keys = took(sh, ["a"])
    sh(state.fenced(keys, "sleep 5 >/dev/null 2>&1 &"))
    sh(state.release(keys))
    done = sh(state.acquire(["a"], "r2", {}))
    assert done.returncode == state.EXIT_BUSY
    assert b"still works on a" in done.stderr


@pytest.mark.parametrize("count", [4, 7, 8, 20])
def test_any_number_of_locks_fences_one_effect(sh, root, count):
    keys = took(sh, [f"k{n}" for n in range(count)])
    done = sh(state.fenced(keys, f"cat >{root}/x; exit 3"), stdin=b"fed")
    assert (done.returncode, (root / "x").read_bytes()) == (3, b"fed")
    (root / "x").unlink()
    (root / f"locks/k{count - 1}.lock").unlink()
    assert sh(state.fenced(keys, f"touch {root}/x")).returncode == state.EXIT_FENCED
    assert not (root / "x").exists()


# records


def test_a_rollout_is_unfinished_from_its_plan_to_its_end(sh):
    assert sh(state.unfinished()).stdout == b""
    assert sh(state.begin("r1"), state.packed('{"format": 1}')).returncode == 0
    sh(state.begin("r2"), state.packed("{}"))
    assert sh(state.unfinished()).stdout.split() == [b"r1", b"r2"]
    assert sh(state.finish("r1", {"verdict": "done"})).returncode == 0
    assert sh(state.unfinished()).stdout.split() == [b"r2"]


def test_the_plan_of_a_large_fleet_fits(sh, root):
    plan = json.dumps({"targets": ["x" * 1000] * 3000})
    assert sh(state.begin("r1"), state.packed(plan)).returncode == 0
    assert (root / "rollouts/r1/plan-0001.json").read_text() == plan


def test_a_plan_that_never_arrived_is_no_plan(sh):
    assert sh(state.begin("r1"), stdin=b"").returncode != 0
    whole = state.packed(json.dumps({"targets": list(range(1000))}))
    for much in (5, len(whole) // 2, len(whole) - 1):
        assert sh(state.begin("r1"), stdin=whole[:much]).returncode != 0
    assert sh(state.unfinished()).stdout == b""


def test_undo_records_move_to_done(sh, root):
    sh(state.begin("r1"), state.packed("{}"))
    records = {"server.app.web1_app_1": {"weight": 100, "why": "it's $HOME"}, "instance.app": {}}
    assert sh(written.write("r1", records)).returncode == 0
    undo, done = root / "rollouts/r1/undo", root / "rollouts/r1/done"
    name = "server.app.web1_app_1.json"
    assert json.loads((undo / name).read_text()) == records["server.app.web1_app_1"]
    assert sh(written.close("r1", ["server.app.web1_app_1"])).returncode == 0
    assert [p.name for p in undo.iterdir()] == ["instance.app.json"]
    assert [p.name for p in done.iterdir()] == [name]
    assert sh(written.close("r1", list(records))).returncode == 0
    assert sh(written.close("r1", list(records))).returncode == 0, "it may be said twice"
    assert not list(undo.iterdir())


def test_what_is_written_ahead_counts_from_when_it_is_opened(sh, root):
    sh(state.begin("r1"), state.packed("{}"))
    server, instance = "server.app.web1_app-1", "instance.app"
    assert (
        sh(written.write("r1", {server: {"weight": 1}, instance: {}}, ahead=True)).returncode == 0
    )
    (known,) = state.parse_journal(sh(state.journal()).stdout.decode())
    assert (list(known.undo), list(known.ahead)) == ([instance], [server])
    assert sh(written.opening("r1", [server], "exit 95", 95)).returncode == 95
    (known,) = state.parse_journal(sh(state.journal()).stdout.decode())
    assert (list(known.undo), list(known.ahead)) == ([instance], [server]), "nothing was touched"
    for code in (0, 96, 95):
        done = sh(written.opening("r1", [server], f"echo sent; exit {code}", 95))
        assert (done.returncode, done.stdout) == (code, b"sent\n")
        (known,) = state.parse_journal(sh(state.journal()).stdout.decode())
        assert (sorted(known.undo), known.ahead) == ([instance, server], {})
    assert json.loads(known.undo[server]) == {"weight": 1}


def test_nothing_follows_a_record_that_could_not_be_opened(sh, root):
    sh(state.begin("r1"), state.packed("{}"))
    sh(written.write("r1", {"server.app.a": {}}, ahead=True))
    (root / "rollouts/r1/undo").rmdir()
    for name in ("server.app.a", "server.app.nobody-wrote-this"):
        done = sh(written.opening("r1", [name], "echo sent", 95))
        assert (done.returncode, done.stdout) == (71, b"")


@pytest.mark.parametrize("end", [written.close, lambda *a: written.write(a[0], {a[1][0]: {}})])
def test_what_was_written_ahead_never_comes_back(sh, root, end):
    sh(state.begin("r1"), state.packed("{}"))
    sh(written.write("r1", {"server.app.a": {"weight": 1}}, ahead=True))
    assert sh(end("r1", ["server.app.a"])).returncode == 0
    assert not list((root / "rollouts/r1/ahead").iterdir())


def test_what_was_never_touched_is_forgotten(sh, root):
    sh(state.begin("r1"), state.packed("{}"))
    sh(written.write("r1", {"instance.app": {}, "instance.b": {}}))
    assert sh(written.forget("r1", [])).returncode == 0
    assert sh(written.forget("r1", ["instance.app", "instance.gone"])).returncode == 0
    (known,) = state.parse_journal(sh(state.journal()).stdout.decode())
    assert (list(known.undo), known.done) == (["instance.b"], {})


def test_a_record_that_cannot_be_written_is_no_success(sh, root):
    sh(state.begin("r1"), state.packed("{}"))
    (root / "rollouts/r1/undo/a.json.new").symlink_to("/dev/full")
    assert sh(written.write("r1", {"a": {}, "b": {}})).returncode != 0
    assert not (root / "rollouts/r1/undo/a.json").exists()


def test_what_cannot_be_written_leaves_the_old_file(sh, root):
    (root / "plan").write_text("old")
    (root / "plan.new").symlink_to("/dev/full")
    assert sh(state.durable(f"{root}/plan", "new")).returncode != 0
    assert (root / "plan").read_text() == "old"


def test_records_are_the_groups_to_change(sh, root):
    sh(state.begin("r1"), state.packed("{}"))
    sh(written.write("r1", {"a": {}}))
    for path in (root / "rollouts/r1").rglob("*"):
        assert path.stat().st_mode & stat.S_IWGRP, path


# the folder


def test_a_host_gets_its_salt_once(sh, root):
    first = sh(state.ready()).stdout.decode().split()
    assert first[0] == "ready"
    assert len(first[1]) == 64
    assert sh(state.ready()).stdout.decode().split() == first


def test_nobody_outside_the_group_reads_the_salt(sh, root):
    sh(state.ready())
    assert stat.S_IMODE((root / "salt").stat().st_mode) & 0o007 == 0
    assert (root / "salt").stat().st_mode & stat.S_IRGRP


def test_two_first_visitors_agree_on_the_salt(sh, root):
    with ThreadPoolExecutor(8) as pool:
        said = {done.stdout for done in pool.map(lambda _: sh(state.ready()), range(8))}
    assert said == {b"ready " + (root / "salt").read_bytes() + b"\n"}
    assert [p.name for p in root.glob("salt*")] == ["salt"]


def test_an_empty_salt_is_made_anew(sh, root):
    (root / "salt").touch()
    assert len(sh(state.ready()).stdout.split()[1]) == 64


def test_a_missing_folder_is_said_and_not_made(sh, root):
    root.rmdir()
    assert sh(state.ready()).stdout == b"missing\n"
    assert not root.exists()


@given(st.lists(st.text(), min_size=1))
def test_a_lock_is_always_a_plain_file_name(parts):
    assert not set(state.key(*parts)) & set("/ '\"$\\\n*?;&|")
