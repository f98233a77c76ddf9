"""A report for machines: JSON, and Prometheus' text format for the textfile collector."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

from fabfile.checks.fleet.judge import NAMES, Report, Row
from fabfile.exposition import gauge


def as_json(report: Report) -> str:
    """One object on one line."""
    return json.dumps(
        {
            "verdict": report.word,
            "exit_code": report.exit_code,
            "text": report.headline,
            "verdicts": [asdict(verdict) for verdict in report.verdicts],
            "notes": list(report.notes),
            "instances": [_row(row) for row in report.rows],
            "balancers": [
                {"service": service, "balancer": balancer, "capacity_percent": percent}
                for service, balancer, percent in report.capacity
            ],
            "hosts": {
                host: {
                    "disks": [asdict(disk) for disk in facts.disks],
                    "certificates": [asdict(each) for each in facts.certificates],
                    "locks": [
                        {"key": lock.held.key, "owner": lock.held.owner, "age": lock.held.age}
                        for lock in facts.locks
                    ],
                    "rollouts": [asdict(rollout) for rollout in facts.rollouts],
                }
                for host, facts in report.fleet.hosts.items()
            },
            "unreachable": dict(report.fleet.unreachable),
            "seconds": round(report.fleet.elapsed, 3),
        }
    )


def _row(row: Row) -> dict[str, object]:
    raw = asdict(row)
    servers = raw.pop("cells")
    return raw | {"servers": servers, "healthy": row.healthy}


def prometheus(report: Report, now: float) -> str:
    """The text of a ``.prom`` file; ``now`` is in seconds since 1970.

    Samples carry no timestamps, which the textfile collector refuses; ``last_success`` says when
    they were taken.
    """
    return "".join(f"{line}\n" for line in _lines(report, now))


def _lines(report: Report, now: float) -> Iterator[str]:
    yield from gauge("status", "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN", [({}, report.exit_code)])
    yield from gauge(
        "status_last_success_timestamp_seconds", "When this was written", [({}, f"{now:.0f}")]
    )
    yield from gauge(
        "status_duration_seconds", "How long it took", [({}, f"{report.fleet.elapsed:.3f}")]
    )
    counted = Counter(verdict.name for verdict in report.verdicts)
    found = [({"verdict": name}, counted[name]) for name in NAMES]
    yield from gauge("verdicts", "What is wrong, by kind", found)
    yield from _instances(report)
    yield from _servers(report)
    yield from _hosts(report)


def _instances(report: Report) -> Iterator[str]:
    labelled = [(_labels(row), row) for row in report.rows]
    yield from gauge(
        "instance_healthy",
        "It runs and every balancer sends it requests",
        [(labels, int(row.healthy)) for labels, row in labelled],
    )
    yield from gauge(
        "instance_info",
        "The version it runs",
        [
            (labels | {"version": row.version, "release": row.release}, 1)
            for labels, row in labelled
            if row.version
        ],
    )


def _servers(report: Report) -> Iterator[str]:
    cells = [
        (_labels(row) | {"balancer": cell.balancer, "server": cell.server}, cell)
        for row in report.rows
        for cell in row.cells
        if cell.state not in ("?", "missing")
    ]
    for name, help_text, value in (
        ("server_up", "It takes requests", lambda cell: int(cell.state == "up")),
        ("server_weight", "Effective weight", lambda cell: cell.weight),
        ("server_configured_weight", "Weight of the configuration", lambda cell: cell.configured),
        ("server_sessions", "Requests running and waiting", lambda cell: cell.sessions),
    ):
        yield from gauge(name, help_text, [(labels, value(cell)) for labels, cell in cells])
    yield from gauge(
        "capacity_ratio",
        "Share of the configured weight that takes requests",
        [
            ({"service": service, "balancer": balancer}, percent / 100)
            for service, balancer, percent in report.capacity
        ],
    )


def _hosts(report: Report) -> Iterator[str]:
    fleet = report.fleet
    reach = {**dict.fromkeys(fleet.hosts, 1), **dict.fromkeys(fleet.unreachable, 0)}
    yield from gauge(
        "host_reachable", "It could be asked", [({"host": host}, up) for host, up in reach.items()]
    )
    yield from gauge(
        "disk_used_ratio",
        "Of the disks that images and projects lie on",
        [
            ({"host": host, "mount": disk.mount}, disk.used / 100)
            for host, facts in fleet.hosts.items()
            for disk in facts.disks
        ],
    )
    yield from gauge(
        "certificate_expiry_timestamp_seconds",
        "When a certificate that HAProxy serves ends",
        [
            ({"host": host, "certificate": each.name}, f"{each.expires:.0f}")
            for host, facts in fleet.hosts.items()
            for each in facts.certificates
        ],
    )


def _labels(row: Row) -> dict[str, str]:
    return {"service": row.service, "host": row.host, "instance": row.instance}
