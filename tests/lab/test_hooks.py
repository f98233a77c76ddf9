"""Hooks on real hosts: in their order, once where they are to run once, and a way out when not."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from lab_tools import login
from rollouts import FAST_CHECKS, NO_RETRIES, fab, lost, one_line, traffic, variant
from test_rollout import Fleet, versions

LOG = "/srv/challenge/hooks.log"
TELL = (
    'echo "$(date +%s.%N) $EVENKEEL_HOOK $EVENKEEL_HOST/$EVENKEEL_INSTANCE $EVENKEEL_MODE'
    ' $EVENKEEL_EARLIER_VERSION $EVENKEEL_VERSION {seen}" >>hooks.log'
)
ANSWERS = '$(curl -s "http://127.0.0.1:$EVENKEEL_PORT/" | grep -o "0[.]0[.][0-9]" | head -n 1)'


@pytest.fixture(scope="module")
def base(edge_inventory):
    change = {
        "health": {"min_healthy": "100ms", "interval": "100ms"},
        "drain": {"sticky_grace": "1s", "timeout": "6s"},
        "rollout": {"serial": ["35%"]},
        "balancers": {"options": {**FAST_CHECKS, **NO_RETRIES}, "cookie": "SRV"},
    }
    return variant(edge_inventory, "hooks", change)


@pytest.fixture(scope="module")
def module_fleet(lab, base):
    return Fleet(lab, "edge", base)


@pytest.fixture
def fleet(module_fleet):
    """At 0.0.1, without a trace of an earlier hook."""
    module_fleet.at("0.0.1")
    for name in ("web1", "web2", "web3"):
        on(module_fleet, name, "rm -f /srv/challenge/hooks.log /srv/challenge/go")
    return module_fleet


def on(fleet, host, script):
    done = login(fleet.lab, fleet.node(host), script)
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_hooks(fleet, **hooks):
    return variant(fleet.inventory, "with-hooks", {"hooks": hooks})


def deploy(inventory, version="0.0.2", *args):
    return fab(inventory, "deploy", "--version", version, "--json", *args)


def told(fleet):
    """What the hooks of all hosts wrote, in the order of time."""
    lines = [
        line
        for host in ("web1", "web2", "web3")
        for line in on(fleet, host, f"cat {LOG} 2>/dev/null || true").splitlines()
    ]
    return [line.split()[1:] for line in sorted(lines, key=lambda line: float(line.split()[0]))]


def nothing_happened(fleet, before, weights):
    assert fleet.containers() == before
    assert fleet.states() == weights
    assert "nothing is locked" in fleet.fab("lock.status").out
    assert "nothing to do" in fleet.fab("abort").out, "the rollout is closed"


def test_all_four_run_in_their_order_and_those_of_the_rollout_once(fleet):
    migration = (
        'docker run --rm --env-file "releases/$EVENKEEL_RELEASE/env" --entrypoint sh'
        ' "$EVENKEEL_IMAGE" -c \'[ -n "$API_KEY" ] && echo migrated\''
    )
    inventory = with_hooks(
        fleet,
        before_rollout=f"{migration}\n{TELL.format(seen='-')}",
        before_drain=TELL.format(seen=ANSWERS),
        after_healthy=TELL.format(seen=ANSWERS),
        after_rollout=TELL.format(seen="-"),
    )
    planned = fab(inventory, "plan", "--version", "0.0.2")
    assert planned.code == 0, planned.text
    assert "before all of it, once on web1: hook before_rollout" in planned.out
    weights = fleet.states()
    with traffic(fleet.urls, rate=60, slow=2, cookies=True) as probe:
        time.sleep(1)
        done = deploy(inventory)
        time.sleep(1)
        seen = probe.stop()
    assert done.code == 0, done.text
    assert lost(seen) == {}
    assert versions(fleet.containers()) == {"0.0.2"}
    assert fleet.states() == weights
    lines = told(fleet)
    assert lines[0] == ["before_rollout", "web1/", "deploy", "0.0.1", "0.0.2", "-"]
    assert lines[-1] == ["after_rollout", "web1/", "deploy", "0.0.1", "0.0.2", "-"]
    assert Counter(hook for hook, *_ in lines) == {
        "before_rollout": 1, "before_drain": 9, "after_healthy": 9, "after_rollout": 1,
    }  # fmt: skip
    for hook, instance, mode, earlier, version, answered in lines[1:-1]:
        assert (mode, earlier, version) == ("deploy", "0.0.1", "0.0.2"), instance
        assert answered == ("0.0.1" if hook == "before_drain" else "0.0.2"), instance
    (said,) = [event for event in done.of("HookOutput") if event["text"] == "migrated"]
    assert (said["host"], said["hook"]) == ("web1", "before_rollout")
    steps = [event["step"] for event in done.of("StepStarted") if event["instance"] == "web2/app_2"]
    assert steps.index("before_drain") < steps.index("record") < steps.index("take-out")
    assert steps.index("await-healthy") < steps.index("after_healthy") < steps.index("admit")
    again = deploy(inventory)
    assert again.code == 0, again.text
    assert len(told(fleet)) == len(lines), "a deploy of what runs already runs no hook"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "timeout", "says"),
    [
        ("echo no room for it >&2; exit 3", "5m", "exit code 3: no room for it"),
        ("echo begun; sleep 60", "1s", "ended by its deadline of 1 s: begun"),
    ],
)
def test_a_migration_that_fails_leaves_everything_as_it_was(fleet, hook, timeout, says):
    before, weights = fleet.containers(), fleet.states()
    done = deploy(with_hooks(fleet, before_rollout=hook, timeout=timeout))
    assert done.code == 5, done.text
    text = one_line(done.err)
    assert text.startswith("nothing was drained: before_rollout "), text
    assert says in text
    assert done.of("StepStarted") == []
    assert done.of("HookOutput")
    nothing_happened(fleet, before, weights)


@pytest.mark.slow
def test_an_instance_that_fails_its_smoke_test_gets_its_old_release_back(fleet):
    before = fleet.containers()
    weights = fleet.states()
    inventory = with_hooks(fleet, after_healthy="echo it smells; exit 1")
    with traffic(fleet.urls, rate=60, slow=2, cookies=True) as probe:
        time.sleep(1)
        done = deploy(inventory)
        time.sleep(1)
        seen = probe.stop()
    assert done.code == 7, done.text
    assert lost(seen) == {}
    assert versions(fleet.containers()) == {"0.0.1"}
    assert fleet.containers()["web3"] == before["web3"], "the later batches were never begun"
    assert fleet.states() == weights
    assert "it smells" in done.of("RolloutFinished")[0]["reason"]


@pytest.mark.slow
def test_before_drain_that_overruns_its_deadline_stops_the_rollout_before_any_drain(fleet):
    before, weights = fleet.containers(), fleet.states()
    inventory = with_hooks(fleet, before_drain="sleep 47 & sleep 60", timeout="1s")
    done = deploy(inventory)
    assert done.code == 7, done.text
    assert "was ended by its deadline of 1 s" in done.of("RolloutFinished")[0]["reason"]
    assert "take-out" not in {event["step"] for event in done.of("StepStarted")}
    nothing_happened(fleet, before, weights)
    assert on(fleet, "web1", "pgrep -f '^sleep 47' || true") == "", "killed as a group"


@pytest.mark.slow
def test_no_hook_stops_a_way_back(fleet):
    fleet.at("0.0.2")
    hooks = dict.fromkeys(("before_rollout", "before_drain", "after_healthy"), "exit 1")
    done = fab(with_hooks(fleet, **hooks), "rollback", "--to", "0.0.1", "--json")
    assert done.code == 0, done.text
    assert versions(fleet.containers()) == {"0.0.1"}
    assert "before_drain failed, and stops no way back" in done.out


@pytest.mark.slow
def test_after_rollout_that_fails_undoes_nothing_and_is_told_by_the_exit_code(fleet):
    done = deploy(with_hooks(fleet, after_rollout="echo nobody listens; exit 4"))
    assert done.code == 1, done.text
    assert done.of("RolloutFinished")[0]["verdict"] == "done"
    assert "after_rollout ended with exit code 4: nobody listens" in done.out
    assert versions(fleet.containers()) == {"0.0.2"}
    assert "nothing to do" in fleet.fab("abort").out


WAITS = f"{TELL.format(seen='-')}; until [ -e go ]; do sleep 0.1; done"


def killed_in_before_rollout(fleet, inventory):
    """A deploy whose controller is killed while the migration runs."""
    env = {**os.environ, "EVENKEEL_INVENTORY": str(inventory)}
    argv = [str(Path(sys.executable).parent / "fab"), "deploy", "--version", "0.0.2", "--json"]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    on(fleet, "web1", f"for n in $(seq 300); do [ -e {LOG} ] && exit; sleep 0.1; done; exit 1")
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_a_migration_that_nobody_saw_end_is_not_repeated_and_abort_ends_it(fleet):
    before, weights = fleet.containers(), fleet.states()
    inventory = with_hooks(fleet, before_rollout=WAITS)
    killed_in_before_rollout(fleet, inventory)
    try:
        assert deploy(inventory).code == 4
        refused = fab(inventory, "resume", "--force")
        assert refused.code == 2, refused.text
        text = one_line(refused.err)
        assert re.search(r"before_rollout had begun at \S+Z and nobody knows how it ended", text)
        assert "--before-rollout again" in text
        wrong = fab(inventory, "resume", "--before-rollout", "perhaps")
        assert wrong.code == 2
        ended = fab(inventory, "abort")
        assert ended.code == 0, ended.text
        assert "nobody knows how it ended" in ended.out
    finally:
        on(fleet, "web1", "touch /srv/challenge/go")
    nothing_happened(fleet, before, weights)
    assert [hook for hook, *_ in told(fleet)] == ["before_rollout"]


@pytest.mark.slow
def test_a_migration_that_ended_without_its_controller_is_done_for_resume(fleet):
    inventory = with_hooks(fleet, before_rollout=WAITS, after_rollout=TELL.format(seen="-"))
    killed_in_before_rollout(fleet, inventory)
    ended = "cat /var/lib/evenkeel/rollouts/*/hooks/before_rollout.json"
    on(fleet, "web1", f"touch /srv/challenge/go; until {ended} | grep -q code; do :; done")
    done = fab(inventory, "resume", "--force", "--json")
    assert done.code == 0, done.text
    assert versions(fleet.containers()) == {"0.0.2"}
    assert [hook for hook, *_ in told(fleet)] == ["before_rollout", "after_rollout"]


@pytest.mark.slow
@pytest.mark.parametrize(("choice", "runs"), [("done", 1), ("again", 2)])
def test_a_migration_that_died_with_its_host_is_judged_by_a_person(fleet, choice, runs):
    inventory = with_hooks(fleet, before_rollout=WAITS, after_rollout=TELL.format(seen="-"))
    killed_in_before_rollout(fleet, inventory)
    on(fleet, "web1", "pkill -KILL -f '[u]ntil . -e go'; touch /srv/challenge/go")
    assert fab(inventory, "resume", "--force").code == 2
    done = fab(inventory, "resume", "--force", "--json", "--before-rollout", choice)
    assert done.code == 0, done.text
    assert versions(fleet.containers()) == {"0.0.2"}
    assert [hook for hook, *_ in told(fleet)] == ["before_rollout"] * runs + ["after_rollout"]
