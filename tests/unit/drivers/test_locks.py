"""The locks of one rollout over several hosts, on hosts of paper and in a real sh."""

import threading

import pytest

from fabfile.drivers import heart as heart_module
from fabfile.drivers import locks as locks_module
from fabfile.drivers.locks import Claim, Locks, check_fence
from fabfile.errors import Fenced, Locked, OutcomeUnknown, RemoteError
from fabfile.remote import state
from fabfile.remote.base import Result
from fabfile.remote.local import LocalTransport
from fabfile.remote.pool import Remotes
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import Fleet

CLAIMS = [Claim("web1", "project"), Claim("web2", "project"), Claim("lb1", "backend")]
HELD = (
    'held project 7\nr0 3\n{"by": "anna@laptop:1", "reason": "deploy 1.9"}\n2026-01-31T14:25:30Z\n'
)


@pytest.fixture
def fleet(tmp_path):
    found = Fleet(fakes.inventory(tmp_path))
    for host in ("web1", "web2"):
        found[host].on("taken=", "got project 4\n")
    found["lb1"].on("taken=", "got backend 9\n")
    found.on(r"\[ .*head -n 1|read -r line")
    return found


def made(fleet, claims=CLAIMS, **kwargs):
    return Locks(fleet.remotes, "r1", claims, {"by": "bob", "reason": "deploy 2"}, **kwargs)


def given_back(host):
    return [script for script in host.scripts if "rm -f" in script and "taken=" not in script]


def test_all_are_taken_and_all_are_given_back(fleet):
    with made(fleet) as locks:
        assert "'r1 9'" in locks.fence("lb1", ["backend"], "true")
        assert not any(given_back(host) for host in fleet.hosts.values())
    for name in ("web1", "web2", "lb1"):
        assert len(given_back(fleet[name])) == 1
    assert "'r1 4'" in given_back(fleet["web1"])[0]


def test_a_conflict_tells_who_since_when_and_why_and_keeps_nothing(fleet):
    fleet["web2"].on("taken=", HELD, exit_code=state.EXIT_HELD)
    with pytest.raises(Locked) as caught:
        made(fleet).acquire()
    assert str(caught.value) == (
        "web2: locked by anna@laptop:1 since 2026-01-31T14:25:30Z"
        " (deploy 1.9; r0; last sign of life 7 s ago)"
    )
    for name in ("web1", "lb1"):
        assert given_back(fleet[name]), f"{name} was taken before"


def test_whoever_waits_for_a_lock_is_told_once_for_whose(fleet, monkeypatch):
    monkeypatch.setattr(locks_module, "AGAIN", 0.0)
    fleet["lb1"].on("taken=", HELD.replace("project", "backend"), exit_code=73, times=3)
    told = []
    with made(fleet, wait=30.0, notice=lambda host, text: told.append((host, text))):
        pass
    assert len(told) == 1
    assert told[0][1].startswith("waits for somebody else's lock: lb1: locked by anna@laptop")


def test_a_dead_holder_is_told_as_such(fleet):
    fleet["web1"].on("taken=", HELD.replace(" 7\n", " 700\n"), exit_code=state.EXIT_HELD)
    with pytest.raises(Locked, match="no sign of life for 700 s"):
        made(fleet).acquire()


def test_a_lock_file_that_was_cut_short_is_still_a_lock(fleet):
    fleet["web1"].on("taken=", "held project 7\nr0", exit_code=state.EXIT_HELD)
    with pytest.raises(Locked, match=r"web1: locked, but by whom is unknown.*'r0'.*--force"):
        made(fleet).acquire()


def test_whoever_loses_at_the_first_host_asks_no_other(fleet):
    fleet["lb1"].on("taken=", HELD, exit_code=state.EXIT_HELD)
    with pytest.raises(Locked):
        made(fleet).acquire()
    assert not any("taken=" in s for name in ("web1", "web2") for s in fleet[name].scripts)


def test_a_host_that_vanishes_leaves_no_lock_on_the_others(fleet):
    fleet["web2"].down = True
    with pytest.raises(RemoteError, match="web2: the lock could not be taken") as caught:
        made(fleet).acquire()
    assert "connection refused" in caught.value.detail
    for name in ("web1", "lb1"):
        assert given_back(fleet[name])


def test_a_lock_that_is_under_way_when_it_is_stopped_is_given_back_after_it_was_taken(
    fleet, monkeypatch
):
    start, waits = fleet.remotes.start, []

    class UnderWay:
        def wait(self):
            waits.append(len(given_back(fleet["web1"])))
            if len(waits) == 1:
                raise KeyboardInterrupt
            return Result("web1", "lock", 0, "", "", 0.0)

    monkeypatch.setattr(
        fleet.remotes,
        "start",
        lambda host, command: UnderWay() if "taken=" in command.script else start(host, command),
    )
    with pytest.raises(KeyboardInterrupt):
        made(fleet).acquire()
    assert waits == [0, 0]
    assert given_back(fleet["web1"])


def test_a_lock_whose_answer_got_lost_is_given_back_all_the_same(fleet):
    fleet["web2"].on("taken=", "got project 4\n", lose="after")
    with pytest.raises(RemoteError, match="web2: the lock could not be taken"):
        made(fleet).acquire()
    assert "r1 " in given_back(fleet["web2"])[0]


def test_both_kinds_of_lock_on_one_host_are_one_question(fleet):
    fleet["web1"].on("taken=", "got backend 1\ngot project 1\n")
    claims = [Claim("web1", "project"), Claim("web1", "backend"), Claim("web1", "project")]
    with made(fleet, claims) as locks:
        assert len(fleet["web1"].commands) == 1
        assert "keys='backend project'" in fleet["web1"].scripts[0]
        script = locks.fence("web1", ["project", "backend"], "true")
        assert script.index("backend.flock") < script.index("project.flock")


def test_a_lock_that_was_taken_over_is_told(fleet, monkeypatch):
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.01)
    fleet["lb1"].on("touch -c", exit_code=state.EXIT_FENCED)
    fleet["web2"].on("touch -c", lose="before")
    lost, told = [], threading.Event()

    def hear(host):
        lost.append(host)
        told.set()

    with made(fleet, lost=hear):
        assert told.wait(5)
    assert set(lost) == {"lb1"}


def test_signs_of_life_are_one_conversation_and_a_lost_lock_is_told_from_it(fleet, monkeypatch):
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.01)
    said = iter(["ours\n", "ours\n", "lost\n"])
    for host in fleet.hosts.values():
        host.on_lines("touch -c", lambda _: "ours\n")
    fleet["web1"].on_lines("touch -c", lambda _: next(said))
    told = threading.Event()
    with made(fleet, lost=lambda host: told.set() if host == "web1" else None):
        assert told.wait(5)
    (talk,) = fleet["web1"].conversations
    assert talk.asked == ["", "", ""]
    assert talk.broken, "it hangs up"
    assert not any("touch -c" in script for script in fleet["web1"].scripts)


def test_a_sign_of_life_that_breaks_off_is_given_once_more_as_a_command(fleet, monkeypatch):
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.01)
    again = threading.Event()

    def breaks(_):
        raise OutcomeUnknown("web1", "the connection broke")

    def beat(_):
        again.set()
        return ""

    fleet["web1"].on_lines("touch -c", breaks)
    fleet["web1"].on("touch -c", beat)
    with made(fleet):
        assert again.wait(5)


def test_a_host_that_hangs_does_not_make_the_locks_of_others_stale(fleet, monkeypatch):
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.01)
    monkeypatch.setattr(locks_module, "HEART_STOPS", 0.01)
    hangs, beats, enough = threading.Event(), [], threading.Event()

    def hang(_):
        hangs.wait(10)
        return ""

    def beat(_):
        beats.append(1)
        if len(beats) == 3:
            enough.set()
        return ""

    fleet["web1"].on("touch -c", hang)
    fleet["web2"].on("touch -c", beat)
    with made(fleet):
        assert enough.wait(5), "web2 hears nothing while web1 hangs"
        hangs.set()
    assert all(c.urgent for c in fleet["web2"].commands if "touch -c" in c.script)


def test_a_lock_lives_while_those_of_other_hosts_are_still_waited_for(fleet, monkeypatch):
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.01)
    start, alive = fleet.remotes.start, threading.Event()

    def beat(_):
        alive.set()
        return ""

    class Slow:
        def wait(self):
            assert alive.wait(5), "no sign of life on web2, which comes after this one"
            return Result("web1", "lock", 0, "got project 4\n", "", 0.0)

    def started(host, command):
        slow = host == "web1" and "taken=" in command.script
        return Slow() if slow else start(host, command)

    fleet["web2"].on("touch -c", beat)
    monkeypatch.setattr(fleet.remotes, "start", started)
    with made(fleet) as locks:
        assert locks.holds("web1", "project")


def test_who_retires_gives_nothing_back_and_no_sign_of_life(fleet, monkeypatch):
    monkeypatch.setattr(heart_module, "HEARTBEAT", 0.01)
    locks = made(fleet)
    locks.acquire()
    locks.retire()
    assert all(heart.join(5) for heart in locks._hearts)
    assert not any(given_back(host) for host in fleet.hosts.values())


def test_giving_back_does_not_mind_a_host_that_is_gone(fleet):
    locks = made(fleet)
    locks.acquire()
    fleet["web1"].down = True
    locks.release()
    assert given_back(fleet["web2"])


@pytest.mark.parametrize(("code", "error"), [(75, Fenced), (74, RemoteError)])
def test_a_fence_that_held_is_an_error_of_its_own(code, error):
    with pytest.raises(error):
        check_fence(Result("web1", "x", code, "", "", 0.0))
    check_fence(Result("web1", "x", 0, "", "", 0.0))


def test_two_rollouts_that_meet_on_a_real_host(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "ROOT", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    remotes = Remotes(fakes.inventory(tmp_path), make=lambda host: LocalTransport(host.name))
    claims = [Claim("web1", "project"), Claim("web1", "backend")]
    mine = Locks(remotes, "r1", claims, {"by": "anna", "reason": "it's urgent"})
    theirs = Locks(remotes, "r2", claims, {"by": "bob"})
    with mine:
        with pytest.raises(Locked, match=r"locked by anna since .*\(it's urgent; r1;"):
            theirs.acquire()
        effect = mine.fence("web1", ["project", "backend"], "echo done")
    with theirs:
        from fabfile.remote.base import Command

        late = remotes.get("web1").run(Command(effect))
        assert (late.exit_code, late.stdout) == (state.EXIT_FENCED, "")
