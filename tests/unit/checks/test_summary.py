"""The verdict, and what the final answers have to be."""

from __future__ import annotations

import json

import pytest

from fabfile.checks.events import Seen
from fabfile.checks.record import summary_line
from fabfile.checks.sample import Sample, identity
from fabfile.checks.summary import CRITICAL, OK, UNKNOWN, WARNING, Figures, Summary, judge
from fabfile.checks.tally import LaneTraits, Tally


def summary(requests: int, failures: int = 0, **more: object) -> Summary:
    seen = bool(more.pop("expected_seen", True))
    figures = Figures("all", requests, failures, {"reset": failures}, **more)  # type: ignore[arg-type]
    return Summary(figures, {"fast": figures}, "0.0.2", seen)


@pytest.mark.parametrize(
    ("run", "max_failures", "code"),
    [
        (summary(1000), None, OK),
        (summary(1000, slow=1), None, WARNING),
        (summary(1000, 1), None, WARNING),
        (summary(1000, 9), None, WARNING),
        (summary(1000, 10), None, CRITICAL),
        (summary(1000, 10), 10, WARNING),
        (summary(1000, 11), 10, CRITICAL),
        (summary(1000, 1), 0, CRITICAL),
        (summary(3, 3), 10, CRITICAL),
        (summary(1000, expected_seen=False), None, CRITICAL),
        (summary(0), None, UNKNOWN),
        (summary(1000, late=50), None, OK),
        (summary(1000, late=51), None, UNKNOWN),
        (summary(900, 500, unsent=100), None, UNKNOWN),
    ],
)
def test_the_exit_code_is_what_a_monitor_expects(run, max_failures, code):
    assert judge(run, max_failures=max_failures).exit_code == code


def tally() -> tuple[Tally, list[object]]:
    told: list[object] = []
    return Tally([LaneTraits("fast", 1.0, gaps=True)], told.append), told


def answer(moment: float, server: str | None, version: str | None, started: float | None = None):
    return Sample(
        "fast", "u", moment if started is None else started, moment, None, "", version, server
    )


def test_one_server_left_behind_is_seen_among_many():
    counted, _ = tally()
    for n in range(50):
        counted.add(answer(9 + n / 50, f"s{n % 5}", "0.0.1" if n % 5 == 3 else "0.0.2"))

    assert not counted.check_version("0.0.2", 10.0)
    assert counted.freeze(10).overall.kinds == {"wrong version": 1}
    assert "s3 answers with 0.0.1" in counted.freeze(10).overall.examples[0].detail


def test_a_server_upgraded_in_the_last_second_counts_as_upgraded():
    counted, _ = tally()
    for n in range(10):
        counted.add(answer(9 + n / 10, "s1", "0.0.1" if n < 5 else "0.0.2"))

    assert counted.check_version("0.0.2", 10.0)


def test_servers_without_a_name_must_all_answer_with_the_new_version():
    counted, _ = tally()
    for n in range(10):
        counted.add(answer(9 + n / 10, None, "0.0.1" if n == 2 else "0.0.2"))

    assert not counted.check_version("0.0.2", 10.0)


@pytest.mark.parametrize("version", [None, "0.0.20"])
def test_no_version_and_a_longer_one_are_not_the_expected_one(version):
    counted, _ = tally()
    counted.add(answer(9.5, "s1", version))

    assert not counted.check_version("0.0.2", 10.0)


def test_silence_is_not_the_expected_version():
    assert not tally()[0].check_version("0.0.2", 10.0)


def test_a_late_answer_of_the_old_version_is_no_change_back():
    counted, told = tally()
    counted.add(answer(1.0, "s1", "0.0.1"))
    counted.add(answer(2.0, "s1", "0.0.2"))
    counted.add(answer(5.0, "s1", "0.0.1", started=0.5))
    counted.add(answer(6.0, "s1", "0.0.2"))
    counted.add(answer(7.0, "s1", "0.0.1"))

    assert [(e.t, e.version) for e in told if isinstance(e, Seen)] == [
        (1.0, "0.0.1"),
        (2.0, "0.0.2"),
        (7.0, "0.0.1"),
    ]


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-version": "1", "x-instance": "web1/app_1"}, b'{"version": "9"}', ("1", "web1/app_1")),
        ({"x-version": "1"}, b'{"instance": "app_1", "host": "web1"}', ("1", "web1/app_1")),
        ({}, b'{"version": 2, "host": "web1"}', ("2", "web1")),
        ({}, b'{"version"', (None, None)),
        ({}, b"<html>", (None, None)),
        ({}, b"[1]", (None, None)),
    ],
)
def test_who_answered_is_read_from_headers_first_and_never_breaks(headers, body, expected):
    assert identity(headers, body) == expected


def test_the_summary_is_json_with_the_exit_code_in_it():
    run = summary(1000, 10)
    line = json.loads(summary_line(run, judge(run)))

    assert (line["exit_code"], line["verdict"]) == (CRITICAL, "CRITICAL")
    assert line["overall"]["failure_rate"] == 0.01
    assert line["lanes"]["fast"]["kinds"] == {"reset": 10}
