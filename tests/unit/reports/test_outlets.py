"""Whoever is told of a rollout hears what happened, and can do it no harm."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from fabfile.errors import Locked
from fabfile.inventory.model import Metrics, Secret, Service, Webhook
from fabfile.reports import announce, outbox, outlets, webhook
from fabfile.reports.console import Tee
from fabfile.reports.outlets import watching
from fabfile.rollout.events import Notice, RolloutFinished, RolloutStarted
from tests.unit.exposition import names, value
from tests.unit.reports.hook import Hook

BEGIN = RolloutStarted("r1", "app", "2", ("web1", "web2"), 3, 4)
DONE = RolloutFinished("r1", "done", "2", 3, 1, 0, 0, ())
BACK = RolloutFinished(
    "r1", "rolled-back", "2", 0, 0, 2, 1, (), "web1/app_1 <b> did not get healthy"
)
SUCCESS = "evenkeel_rollout_last_success_timestamp_seconds"
PATH = "/metrics/job/evenkeel_rollout/service/app"


def plain(url):
    return Secret("notify[0]", value=url)


def service(*hooks, **metrics):
    return replace(Service("app", "web", ("web1",), "img", None, "/srv/app"),
                   notify=tuple(hooks), metrics=Metrics(**metrics))  # fmt: skip


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


@pytest.fixture
def other():
    made = Hook()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(webhook, "PAUSE", 0.01)


class Heard:
    """What a person reads meanwhile, and when it came."""

    def __init__(self):
        self.lines = []
        self.came = threading.Event()

    def __call__(self, event):
        if isinstance(event, Notice):
            self.lines.append(event.text)
            self.came.set()


def run(service, *events, code=0, error=None, told=False):
    """A rollout of these events; what its person read. ``told``: ``error`` comes after its end."""
    heard = Heard()
    try:
        with watching(service, "r0", heard) as watcher:
            out = Tee(watcher)
            for event in events:
                out(event)
            if told or not error:
                watcher.ended(code)
            if error:
                raise error
    except (Locked, KeyError) as raised:
        assert raised is error
    assert not any("/secret" in line or "127.0.0.1" in line for line in heard.lines), heard.lines
    return heard.lines


def test_a_generic_webhook_hears_beginning_and_end(hook):
    assert run(service(Webhook(plain(hook.url))), BEGIN, DONE) == []
    first, last = hook.messages
    assert first["event"] == "started"
    assert first["text"] == "app: deploy r1 to 2 begins: 3 of 4 instances on web1, web2"
    assert (last["event"], last["verdict"], last["exit_code"]) == ("finished", "done", 0)
    assert {first["mode"], last["mode"]} == {"deploy"}
    assert (last["upgraded"], last["current"], last["broken"]) == (3, 1, [])
    assert last["text"] == "app: deploy r1 to 2 done: 3 upgraded, 1 already there, after 0 s"
    assert hook.heard[0][0] == "/T0/secret?x=1"


def test_slack_gets_text_and_blocks_with_nothing_that_it_would_read_as_markup(hook):
    run(service(Webhook(plain(hook.url), "slack", ("failed",))), BEGIN, BACK, code=7)
    (message,) = hook.messages
    assert message["text"].startswith(
        "app: deploy r1 to 2 FAILED (exit code 7), rolled-back: 2 put back, 1 untouched"
    )
    assert "web1/app_1 &lt;b&gt; did not" in message["text"]
    (block,) = message["blocks"]
    assert block["text"]["type"] == "mrkdwn"
    assert block["text"]["text"].startswith("*app*: deploy r1")


def test_slack_refuses_no_message_for_its_length():
    message = announce.ended("app", replace(BACK, reason="& " * 5000), "deploy", 1.0, 7)
    body = json.loads(message.body("slack"))
    assert len(body["text"]) <= 3000
    assert len(body["blocks"][0]["text"]["text"]) <= 3000


def test_who_wants_to_hear_of_failures_hears_of_nothing_else(hook):
    only = service(Webhook(plain(hook.url), on=("failed",)))
    run(only, BEGIN, DONE)
    assert hook.messages == []
    run(only, BEGIN, BACK, code=7)
    assert [m["event"] for m in hook.messages] == ["failed"]


def test_an_abort_that_went_back_is_no_failure(hook):
    run(service(Webhook(plain(hook.url))), BEGIN, BACK, code=0)
    assert [m["event"] for m in hook.messages] == ["started", "finished"]


def test_a_deploy_of_what_runs_already_bothers_nobody_and_is_a_success(hook, tmp_path):
    nothing = RolloutFinished("r1", "done", "2", 0, 4, 0, 0, ())
    run(service(Webhook(plain(hook.url)), textfile=tmp_path), nothing)
    assert hook.messages == []
    assert (
        value((tmp_path / "evenkeel_rollout_app.prom").read_text(), "evenkeel_rollout_success") == 1
    )


def test_a_rollout_that_could_not_begin_is_told_and_leaves_the_figures_of_the_last_one(
    hook, tmp_path
):
    wanted = service(Webhook(plain(hook.url)), textfile=tmp_path)
    run(wanted, error=Locked("app is locked\nby anna"))
    (message,) = hook.messages
    assert (message["event"], message["verdict"]) == ("failed", "refused")
    assert message["text"] == "app: deploy r0 FAILED: it did not begin: app is locked by anna"
    assert list(tmp_path.iterdir()) == []


def test_a_rollout_that_was_broken_off_is_unfinished(hook, tmp_path):
    wanted = service(Webhook(plain(hook.url)), textfile=tmp_path)
    run(wanted, BEGIN, error=KeyError("secret"))
    last = hook.messages[-1]
    assert (last["verdict"], last["rollout"]) == ("unfinished", "r1")
    assert "secret" not in json.dumps(last)
    text = (tmp_path / "evenkeel_rollout_app.prom").read_text()
    assert value(text, "evenkeel_rollout_verdict", verdict="unfinished") == 1
    assert value(text, "evenkeel_rollout_success") == 0


def test_what_breaks_after_the_verdict_takes_neither_figures_nor_messages_away(hook, tmp_path):
    run(service(Webhook(plain(hook.url)), textfile=tmp_path), BEGIN, DONE, error=KeyError("x"))
    assert [m["event"] for m in hook.messages] == ["started", "failed"]
    assert (hook.messages[1]["verdict"], hook.messages[1]["exit_code"]) == ("done", 1)
    text = (tmp_path / "evenkeel_rollout_app.prom").read_text()
    assert value(text, "evenkeel_rollout_instances", fate="upgraded") == 3


def test_the_last_words_are_said_once(hook):
    late = KeyError("a report that can't be drawn")
    run(service(Webhook(plain(hook.url))), BEGIN, DONE, error=late, told=True)
    assert [m["event"] for m in hook.messages] == ["started", "finished"]


def test_a_ctrl_c_before_the_first_batch_is_told_as_that(hook):
    with (
        pytest.raises(KeyboardInterrupt),
        watching(service(Webhook(plain(hook.url))), "r0", Heard(), "rollback"),
    ):
        raise KeyboardInterrupt
    (message,) = hook.messages
    assert message["text"] == "app: rollback r0 FAILED: it did not begin: interrupted"


def test_what_breaks_a_webhook_is_one_line_and_the_others_still_hear(hook, other):
    hook.answers = [500]
    said = run(service(Webhook(plain(hook.url)), Webhook(plain(other.url))), BEGIN, DONE)
    assert said == [
        "notify[0]: not told that it began: it answered 500",
        "notify[0]: not told how it ended: it answered 500",
    ]
    assert len(hook.messages) == 2 * outbox.TRIES
    assert [m["event"] for m in other.messages] == ["started", "finished"]


def test_a_reset_connection_is_tried_again(hook):
    hook.answers = ["reset", 503, 200]
    assert run(service(Webhook(plain(hook.url), on=("finished",))), BEGIN, DONE) == []
    assert len(hook.messages) == 3


@pytest.mark.parametrize("answer", [302, 404])
def test_a_redirect_and_a_refusal_are_final(hook, answer):
    hook.answers = [answer]
    said = run(service(Webhook(plain(hook.url), on=("finished",))), BEGIN, DONE)
    assert said == [f"notify[0]: not told how it ended: it answered {answer}"]
    assert len(hook.messages) == 1


def test_nobody_waits_for_a_webhook_that_hangs(hook, monkeypatch):
    monkeypatch.setattr(outlets, "PATIENCE", 0.3)
    hook.answers = ["hang"]
    # That events are taken at all while it hangs is the point: it never answers.
    said = run(service(Webhook(plain(hook.url))), BEGIN, DONE)
    assert said == [
        "notify[0]: not told that it began: there was no time left for it",
        "notify[0]: not told how it ended: there was no time left for it",
    ]


def test_a_hanging_try_ends_within_its_budget(hook, monkeypatch):
    monkeypatch.setattr(webhook, "DEADLINE", 0.2)
    hook.answers = ["hang"]
    why = webhook.deliver(hook.url, webhook.Parcel(b"{}"), tries=9, within=1.0)
    assert why == "no answer within 0.2 s"
    assert len(hook.heard) == 1, "another try would have had no time"


def test_a_secret_that_is_not_there_is_named_by_its_source(hook, tmp_path):
    lost = Webhook(Secret("notify[0]", env="NO_SUCH_URL"), on=("finished",))
    bad = tmp_path / "hook"
    bad.write_text("hooks.example/secret\n")
    wrong = Webhook(Secret("notify[1]", file=bad), on=("finished",))
    good = tmp_path / "good"
    good.write_text(f"{hook.url}\n# ours\n")
    said = run(service(lost, wrong, Webhook(Secret("notify[2]", file=good))), BEGIN, DONE)
    assert sorted(said) == [
        "notify[0]: not told how it ended: the environment variable NO_SUCH_URL is not set",
        "notify[1]: not told how it ended: not an http:// or https:// URL",
    ]
    assert len(hook.messages) == 2


def test_a_url_in_hosts_yaml_is_in_no_description_of_it():
    assert "//h" not in repr(service(Webhook(plain("http://h/x")), pushgateway=plain("http://h/")))


def test_a_pushgateway_gets_all_at_a_success_and_keeps_the_last_one_at_a_failure(hook):
    wanted = service(pushgateway=plain(hook.url.replace("/T0/secret?x=1", "/")))
    run(wanted, BEGIN, DONE)
    run(wanted, BEGIN, BACK, code=7)
    assert hook.methods == ["PUT", "POST"]
    (path, whole), (_, failed) = hook.heard
    assert path == PATH
    assert SUCCESS in names(whole)
    assert SUCCESS not in names(failed)
    assert names(whole) - names(failed) == {SUCCESS}


def test_a_pushgateway_behind_a_path_and_a_password(hook):
    url = hook.url.replace("http://", "http://joe:p%40ss@").replace("/T0/secret?x=1", "/push/")
    assert run(service(pushgateway=plain(url)), BEGIN, DONE) == []
    assert hook.heard[0][0] == f"/push{PATH}"
    assert hook.headers[0]["Authorization"] == "Basic am9lOnBAc3M="


def test_the_textfile_keeps_the_last_success_over_a_failure_and_stays_readable(tmp_path):
    wanted = service(textfile=tmp_path)
    run(wanted, BEGIN, DONE)
    file = tmp_path / "evenkeel_rollout_app.prom"
    before = value(file.read_text(), SUCCESS)
    run(wanted, BEGIN, BACK, code=7)
    assert value(file.read_text(), SUCCESS) == before
    assert value(file.read_text(), "evenkeel_rollout_success") == 0
    assert file.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    said = run(service(textfile=tmp_path / "none"), BEGIN, DONE)
    assert said == [f"metrics.textfile: {tmp_path}/none: not written: No such file or directory"]


def test_a_file_that_is_broken_is_written_anew(tmp_path):
    file = tmp_path / "evenkeel_rollout_app.prom"
    file.write_bytes(b"\xff\xfe")
    assert run(service(textfile=tmp_path), BEGIN, BACK, code=7) == []
    assert value(file.read_text(), "evenkeel_rollout_success") == 0


def test_a_mistake_of_ours_is_a_line_and_not_the_end_of_a_rollout(tmp_path, monkeypatch):
    monkeypatch.setattr(outlets.metrics, "exposition", lambda *_: 1 / 0)
    said = run(service(textfile=tmp_path), BEGIN, DONE)
    assert said == ["metrics and webhooks: ZeroDivisionError: division by zero"]


def test_a_ctrl_c_at_the_end_does_not_wait_and_does_not_change_how_it_ended(hook, monkeypatch):
    waited = []

    def wait(box, seconds):
        waited.append(seconds)
        if len(waited) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(outbox.Outbox, "wait", wait)
    run(service(Webhook(plain(hook.url))), BEGIN, DONE)
    assert waited[0] > 0
    assert waited[1] == 0
