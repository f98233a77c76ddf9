"""docs/monitoring works as it stands: an alert on a metric that nobody makes would never fire."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fabfile.checks.fleet import machine
from fabfile.checks.fleet.judge import NAMES, judge
from fabfile.reports.metrics import VERDICTS, Outcome, exposition
from tests.unit import exposition as text_format
from tests.unit.checks.fleet.standing import NOW, certificate, edge, fleet
from tests.unit.reports.test_report import log, told
from tests.unit.rollout import fleets
from tests.unit.test_docs import flags_of, tasks

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/monitoring"
METRIC = re.compile(r"\b(?:haproxy|evenkeel|up)(?:[_:][a-z0-9_:]+)?\b")
CALL = re.compile(r"bin/(inv) -r /opt/evenkeel ([a-z]\S*.*)")
STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
CHECKS = ("nagios.cfg", "sensu.yaml")


def rules() -> list[dict]:
    groups = YAML(typ="safe").load(FOLDER / "alerts.yml")["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[str]:
    return [rule["alert"] for rule in rules() if "alert" in rule]


def board() -> dict:
    return json.loads((FOLDER / "grafana-dashboard.json").read_text())


def panels() -> list[dict]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    found += [note["expr"] for note in board()["annotations"]["list"]]
    return found + [var["query"]["query"] for var in board()["templating"]["list"][1:]]


@pytest.fixture(scope="module")
def made() -> frozenset[str]:
    """Names of all samples that our code, HAProxy and Prometheus itself make."""
    status = machine.prometheus(judge(fleet(lb1=edge(certificates=(certificate(40.5),)))), NOW)
    rollout = exposition(told(log(fleets.plan(2, 2))), Outcome("app", success=True))
    exporter = ROOT / "tests/unit/balancers/replies/exporter_names.txt"
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return frozenset(
        {"up"}
        | text_format.names(status)
        | text_format.names(rollout)
        | set(exporter.read_text().split())
        | recorded
    )


def metrics_of(query: str) -> set[str]:
    return set(METRIC.findall(STRINGS.sub('""', query)))


def test_every_rule_asks_for_metrics_that_somebody_makes(made) -> None:
    for rule in rules():
        asked = metrics_of(rule["expr"])
        assert asked, rule
        assert asked <= made, rule


def test_every_panel_of_the_dashboard_asks_for_metrics_that_somebody_makes(made) -> None:
    for query in queries():
        asked = metrics_of(query)
        assert asked, query
        assert asked <= made, query


def test_a_metric_that_nobody_makes_would_be_seen(made) -> None:
    assert metrics_of('rate(haproxy_nope{proxy="haproxy_x"}[1m]) / up') == {"haproxy_nope", "up"}
    assert "haproxy_nope" not in made


def test_verdicts_that_alerts_name_exist() -> None:
    named = re.findall(r'verdict=~?"([^"]+)"', (FOLDER / "alerts.yml").read_text())
    assert named
    assert {one for each in named for one in each.split("|")} <= set(NAMES) | set(VERDICTS)


def test_the_dashboard_can_be_imported() -> None:
    found = board()
    identities = [panel["id"] for panel in found["panels"]]
    assert len(set(identities)) == len(identities)
    taken: set[tuple[int, int]] = set()
    for panel in found["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    for panel in panels():
        assert panel["targets"], panel["title"]
        assert panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        assert {t["datasource"]["uid"] for t in panel["targets"]} == {"${datasource}"}
    variables = {var["name"] for var in found["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", "".join(queries())))
    assert used <= variables


def test_every_alert_is_tried_and_explained_and_says_what_to_do() -> None:
    tried = (FOLDER / "alerts_test.yml").read_text()
    page = (FOLDER / "README.md").read_text()
    for name in alerts():
        assert f"alertname: {name}\n" in tried, f"{name} never fires in alerts_test.yml"
        assert f"`{name}`" in page
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"].keys() == {"summary", "description"}, rule["alert"]
            assert rule["labels"]["severity"] in ("critical", "warning")


def test_every_figure_of_a_rollout_is_on_the_page() -> None:
    page = (FOLDER / "README.md").read_text()
    text = exposition(told(log(fleets.plan(2, 2))), Outcome("app", success=True))
    families = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert [name for name in families if f"`{name}`" not in page] == []


def test_prometheus_loads_the_rules_and_keeps_our_labels() -> None:
    config = YAML(typ="safe").load(FOLDER / "prometheus.yml")
    assert all((FOLDER / name).is_file() for name in config["rule_files"])
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["pushgateway"]["honor_labels"] is True
    named = set(re.findall(r'job="([^"]+)"', (FOLDER / "alerts.yml").read_text()))
    assert named <= jobs.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_checks_for_monitors_call_tasks_and_flags_that_exist(name: str) -> None:
    found = CALL.findall((FOLDER / name).read_text())
    assert {rest.split()[0] for _, rest in found} == {"status", "healthcheck"}
    for program, rest in found:
        assert rest.split()[0] in tasks(program)
        flags = set(re.findall(r"(?<!\S)--[a-z-]+", rest))
        assert flags <= flags_of(program, rest.split()[0])
        assert "--nagios" in flags
