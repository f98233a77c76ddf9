"""Flags become wishes, mistakes exit code 2, verdicts the exit codes a script relies on."""

import os
import signal
from types import SimpleNamespace

import pytest

from fabfile.drivers import deploy as d
from fabfile.drivers import signals as s
from fabfile.drivers.signals import STOPPING
from fabfile.errors import BadInput
from fabfile.jobs import asked, past, status, watch
from fabfile.reports import receivers
from fabfile.rollout.events import Notice, RolloutFinished
from tests.unit.drivers import fakes
from tests.unit.drivers.fakes import plan

YAML = """\
version: 1
hosts:
  web1: {address: 10.0.0.1}
  web2: {address: 10.0.0.2}
groups: {web: {hosts: [web1, web2]}}
services:
  shop: {group: web, image: lab/shop, project_dir: /srv/shop, port: 3000, publish: 3001}
"""


@pytest.fixture
def inventory(tmp_path):
    (tmp_path / "hosts.yaml").write_text(YAML)
    return asked.inventory_of(str(tmp_path / "hosts.yaml"))


def test_the_inventory_that_is_shipped_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENKEEL_INVENTORY", raising=False)
    assert asked.inventory_of("").services
    for module in (status, watch):
        assert module.inventory_of is asked.inventory_of


def test_flags_change_this_runs_policy_and_leave_the_rest(inventory):
    wish = asked.wish(
        inventory, ["web2"], version="2.0", serial="1,50%", drain_timeout="5m", on_timeout="wait"
    )
    assert wish.hosts == ("web2",)
    assert wish.chosen
    assert [str(count) for count in wish.service.rollout.serial] == ["1", "50%"]
    assert (wish.service.drain.timeout, wish.service.drain.on_timeout) == (300.0, "wait")
    untouched = inventory.services["shop"]
    assert wish.service.rollout.on_failure == untouched.rollout.on_failure
    assert wish.service.drain.sticky_grace == untouched.drain.sticky_grace


def test_without_hosts_the_whole_group_is_meant(inventory):
    wish = asked.wish(inventory, [], version="2.0")
    assert (wish.hosts, wish.chosen) == (("web1", "web2"), False)
    assert wish.service == inventory.services["shop"]


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ({"version": ""}, "--version is needed"),
        ({"version": "a b"}, "a b"),
        ({"version": "$(reboot)"}, "reboot"),
        ({"version": "it's"}, "it's"),
        ({"serial": "abc"}, "abc"),
        ({"serial": "[]"}, r"\[\]"),
        ({"drain_timeout": "soon"}, "--drain-timeout"),
        ({"on_timeout": "cutt"}, "--on-timeout: 'cutt' is none of cut, abort, wait"),
        ({"on_failure": "x"}, "--on-failure: 'x' is none of rollback, hold, continue"),
        ({"service": "shopp"}, "shopp"),
    ],
)
def test_a_mistake_in_a_flag_names_it(inventory, flags, what):
    with pytest.raises(BadInput, match=what) as caught:
        asked.wish(inventory, [], **{"version": "2.0", **flags})
    assert caught.value.exit_code == 2


def test_an_unknown_host_is_refused(inventory):
    with pytest.raises(BadInput, match="web9"):
        asked.wish(inventory, ["web9"], version="2.0")


def test_every_rollout_leaves_a_log_beside_the_inventory(inventory, tmp_path, capsys):
    receivers.receivers(inventory, json=False, log="r1")(Notice("hello"))
    assert "hello" in (tmp_path / ".evenkeel/rollouts/r1.jsonl").read_text()
    assert capsys.readouterr().out.endswith("hello\n")


def test_a_folder_that_takes_no_log_does_not_stop_a_rollout(inventory, tmp_path, capsys):
    (tmp_path / ".evenkeel").write_text("in the way")
    receivers.receivers(inventory, json=False, log="r1")(Notice("hello"))
    out = capsys.readouterr().out
    assert "no log is kept of this" in out
    assert out.endswith("hello\n")


# verdicts


class FakeDriver:
    hook_failed = False
    ends = "done"
    meanwhile = staticmethod(lambda driver: None)

    def __init__(self, *_):
        self.heard = []
        self.hurried = False
        self.replaced = False

    def run(self):
        FakeDriver.meanwhile(self)
        return RolloutFinished("r1", FakeDriver.ends, "2.0", 1, 0, 0, 0, ())

    def interrupt(self, why):
        self.heard.append(why)

    def hurry(self):
        self.hurried = True


@pytest.fixture(autouse=True)
def signals_as_they_were():
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(monkeypatch, inventory):
    closed = []
    prepared = SimpleNamespace(locks=object(), plan=plan(), close=lambda: closed.append(1))
    monkeypatch.setattr(d, "Driver", FakeDriver)
    pruned = []
    monkeypatch.setattr(d, "prune", lambda *_: pruned.append(1))

    def deploy(ends, meanwhile=lambda driver: None, prepare=lambda: prepared):
        monkeypatch.setattr(FakeDriver, "ends", ends)
        monkeypatch.setattr(FakeDriver, "meanwhile", staticmethod(meanwhile))
        monkeypatch.setattr(d, "Preparation", lambda *_: SimpleNamespace(run=prepare))
        return d.deploy(inventory, None, "r1", lambda _: None)[1]

    def left(code):
        raise SystemExit(code)

    monkeypatch.setattr(d, "leave", left)
    monkeypatch.setattr(s, "leave", left)

    deploy.closed = closed
    deploy.pruned = pruned
    return deploy


@pytest.mark.parametrize(
    ("verdict", "times"), [("done", 1), ("held", 0), ("rolled-back", 0), ("interrupted", 0)]
)
def test_old_releases_go_after_a_rollout_that_went_well_and_after_no_other(run, verdict, times):
    run(verdict)
    assert len(run.pruned) == times


@pytest.mark.parametrize(
    ("verdict", "code"),
    [("done", 0), ("held", 3), ("needs-repair", 6), ("rolled-back", 7), ("interrupted", 130)],
)
def test_each_verdict_has_its_exit_code(run, verdict, code):
    assert run(verdict) == code
    assert run.closed == [1], "locks are given back"


def test_who_was_replaced_before_the_end_was_told_does_not_say_that_all_is_well(run):
    def taken_over(driver):
        driver.replaced = True

    assert run("done", taken_over) == 1
    assert run.pruned == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_heard_by_the_rollout_and_told_by_the_exit_code(run, number, code):
    heard = []

    def meanwhile(driver):
        os.kill(os.getpid(), number)
        heard.extend(driver.heard)

    assert run("interrupted", meanwhile) == code
    assert heard == [f"interrupted by {number.name}"]
    assert signal.getsignal(number) is s._at_once, "on its way out nothing asks for a traceback"


def test_a_signal_that_came_too_late_does_not_hide_what_is_left_broken(run):
    assert run("needs-repair", lambda _: os.kill(os.getpid(), signal.SIGTERM)) == 6


def test_a_sigterm_while_preparing_ends_it_in_order(run):
    gone = []

    def prepare():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:  # as Preparation.run does, to give locks back
            gone.append(error)
            raise
        return

    with pytest.raises(SystemExit) as caught:
        run("done", prepare=prepare)
    assert caught.value.code == 143
    assert gone


def test_a_second_signal_ends_it_with_6_and_gives_nothing_back_in_passing(run):
    def twice(driver):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert driver.heard == ["interrupted by SIGINT"]
        assert driver.hurried

    with pytest.raises(SystemExit) as ended:
        run("needs-repair", meanwhile=twice)
    assert ended.value.code == 6


def test_a_third_signal_waits_for_nothing(run):
    def thrice(driver):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit) as ended:
        run("needs-repair", meanwhile=thrice)
    assert ended.value.code == 6


def test_a_deploy_that_was_told_to_outlive_its_terminal_does(run):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    heard = []

    def hang_up(driver):
        signal.raise_signal(signal.SIGHUP)
        heard.extend(driver.heard)

    assert run("done", meanwhile=hang_up) == 0
    assert heard == []


def test_a_signal_after_the_first_does_not_break_into_the_tidying_up(run):
    def interrupted():
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run("done", prepare=interrupted)
    assert signal.getsignal(signal.SIGINT) is s._at_once


@pytest.mark.parametrize("names", [["lb9"], ["lb1", "lb2,lb9"]])
def test_a_balancer_that_is_none_is_named_with_those_that_are(names):
    with pytest.raises(BadInput, match=r"--without-balancer: lb9 is none of lb1, lb2"):
        asked.left_out(fakes.SHOP, names, allow_loss=False)


def test_balancers_are_left_out_by_name_or_list():
    found = asked.left_out(fakes.SHOP, ["lb1,lb2"], allow_loss=True)
    assert found.without == ("lb1", "lb2")
    assert found.balancers_of("web1") == ()
    with pytest.raises(BadInput, match="--allow-loss says nothing without"):
        asked.left_out(fakes.SHOP, [], allow_loss=True)


@pytest.mark.parametrize("name", ["deploy", "plan", "rollback", "resume", "abort", "repair"])
def test_flags_that_may_be_repeated_are_lists_of_whole_names(name):
    import fabfile

    task = fabfile.namespace[name]
    found = {n: a for a in task.get_arguments() for n in a.names}
    flags = {"without-balancer", *(["drop"] if name in ("resume", "abort", "repair") else [])}
    for flag in flags:
        argument = found[flag]
        argument.set_value("lb1")
        argument.set_value("lb2")
        assert argument.value == ["lb1", "lb2"]


# history


@pytest.mark.parametrize("limit", ["0", "-1", "abc", "", "1.5"])
def test_a_limit_that_is_no_number_is_a_mistake_and_asks_nobody(inventory, limit):
    with pytest.raises(BadInput, match="--limit"):
        past.history(inventory, "", limit=limit, rollout="", json=False)
