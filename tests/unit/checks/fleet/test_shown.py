"""A report as people, Nagios, Prometheus and programs get it."""

import json
import re
from dataclasses import replace

from fabfile.checks.fleet import machine, table
from fabfile.checks.fleet.facts import Disk
from fabfile.checks.fleet.judge import NAMES, judge
from tests.unit.checks.fleet.standing import (
    NOW,
    certificate,
    container,
    edge,
    fleet,
    lock,
    reading,
    unfinished,
    web,
)

OUT = {"lb1": reading("lb1", web1_app_1={"admin": "maint", "weight": 0, "up": False, "scur": 7})}
SAMPLE = re.compile(
    r'^[a-z_]+(?:\{[a-z]+="(?:[^"\\]|\\.)*"(?:,[a-z]+="(?:[^"\\]|\\.)*")*\})? -?[0-9.]+$'
)


def test_the_table_shows_each_instance_and_ends_with_the_verdict():
    shown = table.lines(judge(fleet()))
    assert shown[0].split() == list(table.HEAD)
    assert shown[1].split() == ["web1", "app_1", "1.0", "running", "up", "100", "2"]
    assert len(shown) == 6
    assert shown[-1].startswith("OK: ")


def test_a_balancer_that_differs_is_told_apart():
    shown = table.lines(judge(fleet(readings=OUT)))
    assert shown[1].split()[4:] == ["lb1:maint", "lb2:up", "lb1:0", "lb2:100", "8"]


def test_each_verdict_is_shown_with_what_mends_it():
    shown = table.lines(judge(fleet(web1=web(container(1, status="exited"), container(2)))))
    at = next(n for n, line in enumerate(shown) if "instance-down" in line)
    assert shown[at].startswith("CRITICAL  instance-down  web1/app_1: ")
    assert shown[at + 1].strip().startswith("-> fab -H web1 run -- ")


def test_what_is_no_trouble_is_a_note():
    frozen = edge(locks=(lock("freeze-1", 9, by="anna", reason="sale"),))
    (note,) = [line for line in table.lines(judge(fleet(lb1=frozen))) if line.startswith("note")]
    assert "frozen by anna since 2026-11-20T10:00:00Z: sale" in note


def test_nagios_gets_one_line_with_figures():
    report = judge(fleet(lb1=edge(certificates=(certificate(40.5),)), readings=OUT))
    text, bar, figures = table.nagios(report).partition(" | ")
    assert text.startswith("CRITICAL: web1/app_1: in maintenance")
    assert "\n" not in text + figures
    assert bar
    parts = figures.split()
    assert parts[:3] == ["instances=4", "healthy=3;4:;1:", "capacity=75%;100:;1:"]
    assert {"critical=1;;0", "warning=1;0;", "disk=40%;90;95"} < set(parts)
    assert "certificate_days=40;21:;3:" in parts
    assert parts[-1] == "time=0.500s"
    for part in parts:
        assert re.fullmatch(r"[a-z_]+=[\d.]+(s|%)?(;[\d:.]*){0,4}", part), part


def test_nothing_a_host_says_begins_the_figures_or_a_second_line():
    report = judge(fleet(unreachable={"web2": "a | b\nc"}))
    text, _, figures = table.nagios(report).partition(" | ")
    assert "a / b c" in text
    assert "|" not in figures
    assert "\n" not in table.nagios(report)


def test_prometheus_gets_samples_without_timestamps():
    odd = edge(disks=(Disk('/mnt/"odd"\\', 12, 9_000_000),))
    text = machine.prometheus(judge(fleet(lb1=odd, readings=OUT)), NOW)
    assert text.endswith("\n")
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in samples if not SAMPLE.match(line)] == []
    assert len(samples) == len({line.rpartition(" ")[0] for line in samples}), "each once"
    assert f"evenkeel_status_last_success_timestamp_seconds {NOW:.0f}" in samples
    assert "evenkeel_status 2" in samples
    for name in NAMES:
        count = int(name in ("stuck-weight", "balancers-disagree"))
        assert f'evenkeel_verdicts{{verdict="{name}"}} {count}' in samples
    one = 'service="shop",host="web1",instance="app_1",balancer="lb1",server="web1_app_1"'
    assert f"evenkeel_server_weight{{{one}}} 0" in samples
    assert f"evenkeel_server_sessions{{{one}}} 7" in samples
    assert 'evenkeel_disk_used_ratio{host="lb1",mount="/mnt/\\"odd\\"\\\\"} 0.12' in samples


def test_every_metric_is_described_before_its_samples_and_once():
    seen = set()
    for line in machine.prometheus(judge(fleet()), NOW).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in seen
            assert kind == "gauge"
            seen.add(name)
        elif not line.startswith("#"):
            assert re.split(r"[{ ]", line)[0] in seen


def test_json_says_it_all_in_one_object():
    raw = json.loads(machine.as_json(judge(fleet(readings=OUT))))
    assert (raw["verdict"], raw["exit_code"]) == ("CRITICAL", 2)
    assert raw["verdicts"][0].keys() >= {"name", "severity", "subject", "text", "mend", "service"}
    first = raw["instances"][0]
    assert (first["host"], first["version"], first["healthy"]) == ("web1", "1.0", False)
    assert first["servers"][0]["state"] == "maint"
    assert raw["balancers"][0] == {"service": "shop", "balancer": "lb1", "capacity_percent": 75}


def test_what_is_unfinished_is_said_to_programs_as_well():
    left = replace(
        unfinished("instance.shop.app_1"), ahead=("web1/app_2",), touched=("web1/app_1",)
    )
    host = web(rollouts=(left,), locks=(lock("r-1", 40),))
    raw = json.loads(machine.as_json(judge(fleet(web1=host))))
    (known,) = raw["hosts"]["web1"]["rollouts"]
    assert (known["undo"], known["ahead"]) == (["instance.shop.app_1"], ["web1/app_2"])
