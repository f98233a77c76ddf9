"""docs/monitoring, with the real Prometheus, promtool and Pushgateway of Debian, on the lab."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from contextlib import contextmanager

import pytest
from haproxy_rig import free_port
from lab_tools import quiet
from rollouts import FAST_CHECKS, NO_RETRIES, ROOT, ask, fab, one_line, running, variant
from test_rollout import QUICK

from fabfile.lab.images import Images
from tests.unit import exposition
from tests.unit.reports.hook import Hook
from tests.unit.test_monitoring import board, panels, queries, rules

PAGES = ROOT / "docs/monitoring"
PATIENCE = 60.0
"""Seconds until Prometheus must have seen something."""


@pytest.fixture(scope="module")
def image(docker, tmp_path_factory):
    return Images(docker, tmp_path_factory.mktemp("image"), quiet).ensure("prometheus")


@pytest.fixture(scope="module")
def promtool(docker, image):
    """Run promtool in docs/monitoring; a refusal is an error."""

    def run(*args, stdin=""):
        there = ("--interactive", "--volume", f"{PAGES}:/pages:ro", "--workdir", "/pages")
        return docker("run", "--rm", *there, image, "promtool", *args, stdin=stdin)

    return run


@pytest.fixture(scope="module")
def inventory(lab, edge_inventory):
    """The balancers as this checkout configures them; the application as it was."""
    change = {
        "health": QUICK,
        "rollout": {"instances_at_once": 3},
        "balancers": {"options": {**FAST_CHECKS, **NO_RETRIES}, "cookie": "SRV"},
    }
    path = variant(edge_inventory, "monitored", change)
    done = fab(path, "provision", "--version", "0.0.1")
    assert done.code == 0, done.text
    return path


@contextmanager
def serving(docker, image, port, *command, volume=None):
    """A server of the image on 127.0.0.1, until the end."""
    name = f"evenkeel-test-{uuid.uuid4().hex[:12]}"
    mount = ("--volume", f"{volume}:/there:ro") if volume else ()
    docker("run", "--detach", "--rm", "--network", "host", "--name", name, *mount, image, *command)
    try:
        awaited(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
        yield f"http://127.0.0.1:{port}"
    finally:
        docker.works("rm", "--force", name)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def awaited(ask_for):
    """The first answer that is something."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if found := ask_for():
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing came within {PATIENCE} s")


def test_promtool_accepts_the_rules_and_the_configuration_and_each_alert_fires(promtool):
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_the_exporter_of_each_balancer_has_every_metric_we_know_by_name(lab, inventory):
    known = (ROOT / "tests/unit/balancers/replies/exporter_names.txt").read_text().split()
    for node in lab.nodes:
        if node.role == "edge":
            said = get(f"http://127.0.0.1:{node.metrics_port}/metrics")
            seen = {line.split("{")[0].split(" ")[0] for line in said.splitlines()}
            assert set(known) <= seen
            assert 'haproxy_server_weight{proxy="challenge",server="web1_app_1"}' in said


def test_a_deploy_tells_prometheus_and_slack_and_waits_for_nobody(
    lab, inventory, docker, image, promtool, tmp_path
):
    hook, hanging, port = Hook(), Hook(), free_port()
    hanging.answers = ["hang"]
    (tmp_path / "slack").write_text(hook.url + "\n")
    change = {
        "metrics": {"textfile": str(tmp_path), "pushgateway": f"http://127.0.0.1:{port}"},
        "notify": [
            {"file": str(tmp_path / "slack"), "kind": "slack"},
            {"env": "HANGING_HOOK", "on": ["started", "finished"]},
            "http://127.0.0.1:1/T1/secret",
        ],
    }
    told = variant(inventory, "told", change)
    one = {"health": {"timeout": "10s"}, "rollout": {"instances_at_once": 1}}
    failing = variant(told, "failing", one)
    listen = ("prometheus-pushgateway", f"--web.listen-address=127.0.0.1:{port}")
    env, version = {"HANGING_HOOK": hanging.url}, another_version(lab)
    try:
        with serving(docker, image, port, *listen) as pushed:
            done = fab(told, "-H", "web1", "deploy", "--version", version, "--json", env=env)
            assert done.code == 0, done.text
            figures = get(f"{pushed}/metrics")
            again = fab(failing, "-H", "web1", "deploy", "--version", "0.0.3", env=env)
            assert again.code == 7, again.text
            later = get(f"{pushed}/metrics")
    finally:
        hook.close()
        hanging.close()
    text = (tmp_path / "evenkeel_rollout_challenge.prom").read_text()
    promtool("check", "metrics", stdin=text)
    check_figures(done, figures)
    check_failure(text, figures, later)
    check_messages(done, version, hook, hanging)
    for said in (done.text, again.text, *logs(told)):
        assert "/secret" not in said, "a webhook's URL was told"


def another_version(lab):
    """One that does not run on web1."""
    there = {version for _, version in running(lab, "web1").values()}
    return next(version for version in ("0.0.1", "0.0.2") if version not in there)


def check_figures(done, figures):
    (ended,) = done.of("RolloutFinished")
    name = "evenkeel_rollout_instances"
    assert (
        f'{name}{{fate="upgraded",instance="",job="evenkeel_rollout",service="challenge"}} 3'
        in figures
    )
    assert f'rollout="{ended["rollout"]}"' in figures
    assert "push_failure_time_seconds" in figures


def check_failure(text, figures, later):
    assert exposition.value(text, "evenkeel_rollout_success") == 0
    assert exposition.value(text, "evenkeel_rollout_verdict", verdict="rolled-back") == 1
    assert exposition.value(text, "evenkeel_rollout_requests_cut") == 0
    last = "evenkeel_rollout_last_success_timestamp_seconds{"
    (kept,) = [line for line in later.splitlines() if line.startswith(last)]
    assert kept in figures, "a failure keeps the last success"
    assert exposition.value(text, last[:-1]) == pytest.approx(float(kept.split()[-1]), abs=1)


def check_messages(done, version, hook, hanging):
    assert [m["text"].split()[3:6] for m in hook.messages] == [
        ["to", version, "begins:"],
        ["to", version, "done:"],
        ["to", "0.0.3", "begins:"],
        ["to", "0.0.3", "FAILED"],
    ]
    assert all(m["blocks"] for m in hook.messages)
    assert len(hanging.messages) >= 2
    (ended,) = done.of("RolloutFinished")
    notices = [event for event in done.of("Notice") if event["text"].startswith("notify")]
    assert {event["text"].split(":")[0] for event in notices} == {"notify[1]", "notify[2]"}
    assert notices[-1]["at"] - ended["at"] < 30, "somebody waited for a webhook"


def logs(inventory):
    folder = inventory.parent / ".evenkeel/rollouts"
    return [path.read_text() for path in folder.glob("*.jsonl")]


def test_what_can_not_be_told_changes_nothing_but_a_line(lab, inventory, tmp_path):
    change = {
        "metrics": {"textfile": str(tmp_path / "none"), "pushgateway": {"env": "NOT_SET"}},
        "notify": [{"file": str(tmp_path / "none")}],
    }
    lost = variant(inventory, "lost", change)
    there = {version for _, version in running(lab, "web1").values()} - {""}
    done = fab(lost, "-H", "web1", "deploy", "--version", there.pop())
    assert done.code == 0, done.text
    assert "metrics.pushgateway: not told the figures: the environment variable NOT" in done.out
    assert f"metrics.textfile: {tmp_path}/none: not written: No such file" in done.out
    none = fab(lost, "-H", "web1", "deploy", "--version", "9.9.9")
    assert none.code == 5
    assert f"notify[0]: not told how it ended: {tmp_path}/none can't be read" in none.out
    bad = variant(inventory, "bad", {"notify": ["htp://127.0.0.1/T1/secret"]})
    wrong = fab(bad, "-H", "web1", "deploy", "--version", "0.0.1")
    assert wrong.code == 2
    assert "notify[0]: not an http:// or https:// URL" in one_line(wrong.err)
    assert "/secret" not in wrong.text


@pytest.mark.slow
def test_prometheus_sees_a_drained_server_and_errors_beside_it(
    lab, inventory, docker, image, tmp_path
):
    port, nodes = free_port(), {node.name: node for node in lab.nodes}
    targets = [f"127.0.0.1:{nodes[name].metrics_port}" for name in ("lb1", "lb2")]
    (tmp_path / "alerts.yml").write_text((PAGES / "alerts.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["alerts.yml"],
                "scrape_configs": [
                    {"job_name": "haproxy", "static_configs": [{"targets": targets}]}
                ],
            }
        )
    )
    tmp_path.chmod(0o755)
    command = ("prometheus", "--config.file=/there/prometheus.yml", "--storage.tsdb.path=/tmp/data")
    listen = f"--web.listen-address=127.0.0.1:{port}"
    servers = [f"challenge/web{host}_app_{n}" for host in (1, 2, 3) for n in (1, 2, 3)]
    with serving(docker, image, port, *command, listen, volume=tmp_path) as url:
        asked = Asked(url)
        awaited(lambda: asked('up{job="haproxy"} == 1') == dict.fromkeys(targets, 1.0))
        awaited(lambda: len(asked("evenkeel:server_out == 0", "instance", "server")) == 18)
        try:
            ask(lab, "lb1", "set server challenge/web1_app_1 weight 0")
            ask(lab, "lb2", ";".join(f"set server {each} state maint" for each in servers))
            out = {(targets[0], "web1_app_1")}
            out |= {(targets[1], each.partition("/")[2]) for each in servers}
            awaited(lambda: set(asked("evenkeel:server_out == 1", "instance", "server")) == out)
            # Ever more of them, until two scrapes lie around some.
            awaited(
                lambda: refused(nodes["lb2"], lab) and asked("evenkeel:backend_error_ratio > 0.9")
            )
            assert set(asked("evenkeel:backend_error_ratio > 0.9")) == {targets[1]}
            awaited(lambda: asked('ALERTS{alertname="EvenkeelErrorsDuringRollout"}'))
            assert set(asked('ALERTS{alertname="EvenkeelBackendDown"}')) == {targets[1]}
        finally:
            ask(lab, "lb1", "set server challenge/web1_app_1 weight 100")
            ask(lab, "lb2", ";".join(f"set server {each} state ready" for each in servers))
        awaited(lambda: not asked("evenkeel:server_out == 1"))
        for query in queries():
            if not query.startswith("label_values"):
                asked(
                    query.replace("$__rate_interval", "1m")
                    .replace("$service", ".*")
                    .replace("$backend", ".*")
                )
        drawn = [p["targets"][0]["expr"] for p in panels() if "haproxy_" in p["targets"][0]["expr"]]
        assert drawn
        for query in drawn:
            said = asked(query.replace("$__rate_interval", "1m").replace("$backend", "challenge"))
            assert said or 'code="5xx"' in query, query
        assert board()["title"] == "Evenkeel"


def refused(node, lab):
    """A request that nobody could answer."""
    try:
        urllib.request.urlopen(lab.url(node), timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 503
    return False


class Asked:
    """What Prometheus says to a query: value by label."""

    def __init__(self, url):
        self._url = url

    def __call__(self, query, *labels):
        labels = labels or ("instance",)
        said = get(f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        assert said, f"refused: {query}"
        found = json.loads(said)["data"]["result"]
        names = [tuple(each["metric"].get(label, "") for label in labels) for each in found]
        keys = [name if len(labels) > 1 else name[0] for name in names]
        return {key: float(each["value"][1]) for key, each in zip(keys, found, strict=True)}
