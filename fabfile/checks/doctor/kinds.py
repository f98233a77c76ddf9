"""Kinds of findings about hosts, compose files and hosts.yaml itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "risk", "hint"]
"""``problem``: a rollout would be refused, or lose requests. ``risk``: it may lose some, or go on
wrongly, when something else happens. ``hint``: it could be better."""
Area = Literal["hosts", "docker", "registry", "compose file", "balancers", "policy"]
AREAS: tuple[Area, ...] = ("hosts", "docker", "registry", "compose file", "balancers", "policy")


@dataclass(frozen=True)
class Kind:
    """One kind of finding."""

    area: Area
    severities: tuple[Severity, ...]
    """The usual one first."""
    means: str
    mend: str


P: tuple[Severity, ...] = ("problem",)
R: tuple[Severity, ...] = ("risk",)
H: tuple[Severity, ...] = ("hint",)

KINDS: Mapping[str, Kind] = {
    "unreachable": Kind(
        "hosts", P, "the host can't be logged in to", "the address, user and key in hosts.yaml"
    ),
    "host-key": Kind(
        "hosts",
        P,
        "its host key is unknown (`known_hosts` is missing, or lacks it) or has changed",
        "the `ssh-keyscan` line that the finding shows, after comparing the fingerprint",
    ),
    "host-keys-off": Kind(
        "hosts", R, "`host_keys: off`: anybody may pose as the host", "`host_keys: strict`"
    ),
    "no-answer": Kind(
        "hosts", P, "it was logged in to and could not be examined", "what the finding quotes"
    ),
    "tools-missing": Kind(
        "hosts", P, "a tool is not installed that locks or checks need", "install it"
    ),
    "state-folder": Kind(
        "hosts",
        P,
        "`/var/lib/evenkeel` is missing, or closed to the user",
        "the commands in [hosts.md](hosts.md), once, as root",
    ),
    "state-folder-private": Kind(
        "hosts",
        R,
        "`/var/lib/evenkeel` is not group-writable: nobody else can take up a rollout of yours",
        "`chgrp evenkeel` and `chmod 2775`",
    ),
    "disk": Kind(
        "hosts",
        ("problem", "risk"),
        "less than 100 MiB left on Docker's or the project's disk; risk: 90% full",
        "`docker image prune -f`",
    ),
    "clock": Kind(
        "hosts",
        ("risk", "hint"),
        "its clock is a minute (hint: five seconds) away from this machine's: histories and logs"
        " are out of order, certificates may be refused",
        "chrony or systemd-timesyncd",
    ),
    "max-sessions": Kind(
        "hosts",
        H,
        "sshd's `MaxSessions` is lower than the nine that are used: commands wait for each other",
        "`MaxSessions 10`",
    ),
    "docker": Kind(
        "docker",
        P,
        "Docker is missing, does not answer, or is closed to the user; Compose v2 is missing",
        "what the finding says; [hosts.md](hosts.md)",
    ),
    "project-folder": Kind(
        "docker", P, "`project_dir` can't be written or made", "make it once, as root"
    ),
    "not-provisioned": Kind(
        "docker", P, "no compose project of the service is there yet", "`fab provision`"
    ),
    "health-missing": Kind(
        "docker",
        H,
        "no instance has a health check of its own: between rollouts only the balancers notice",
        "`healthcheck:` in the template, or `HEALTHCHECK` in the image",
    ),
    "registry": Kind(
        "registry",
        R,
        "the host can't reach the image's registry: nothing new can be deployed to it",
        "DNS, firewall, proxy",
    ),
    "digest-missing": Kind(
        "registry",
        R,
        "the host does not hold the image that most instances run: it needs the registry to run it",
        "`fab provision`, or pull it",
    ),
    "template": Kind(
        "compose file",
        P,
        "the template does not render, lacks an instance, or uses another image",
        "[templates.md](templates.md)",
    ),
    "port-differs": Kind(
        "compose file",
        P,
        "an instance publishes another port than hosts.yaml says: it is asked and served elsewhere",
        '`ports: ["{{ instance.publish }}:{{ port }}"]`',
    ),
    "port-range": Kind(
        "compose file",
        P,
        "an instance takes any free port of a range: its server may point at another one",
        "one port for each instance",
    ),
    "port-shared": Kind(
        "compose file", P, "two services publish the same port", "a port of its own for each"
    ),
    "replicas": Kind(
        "compose file",
        P,
        "an instance is scaled: several containers behind one server",
        "`instances: N` in hosts.yaml",
    ),
    "container-name": Kind(
        "compose file",
        R,
        "`container_name`: what a killed `docker compose` left behind keeps the new one from"
        " starting; two can never run side by side",
        "leave it out",
    ),
    "build": Kind(
        "compose file",
        ("risk", "hint"),
        "`build:` in an instance: a deploy never builds, and `docker compose up` by hand would"
        " replace what it deployed; hint: in another service",
        "`image:` alone",
    ),
    "depends-on": Kind(
        "compose file",
        ("risk", "hint"),
        "instances that depend on each other; hint: on another service, which no deploy starts",
        "leave it out, or let the application wait",
    ),
    "stop-grace": Kind(
        "compose file",
        ("risk", "hint"),
        "the template's `stop_grace_period` is longer than `stop_grace` in hosts.yaml, which the"
        " deadline of a recreate is made of; hint: shorter, or longer than `drain.timeout`",
        "`stop_grace_period: {{ stop_grace }}s`",
    ),
    "restart-missing": Kind(
        "compose file",
        R,
        "an instance has no restart policy: it stays away after a crash or a reboot",
        "`restart: unless-stopped`",
    ),
    "memory-missing": Kind(
        "compose file",
        H,
        "an instance has no memory limit: a leak takes its neighbours along",
        "`resources: {memory: 512m}` and `mem_limit: {{ resources.memory }}`",
    ),
    "image-latest": Kind(
        "compose file",
        ("risk", "hint"),
        "the instances run the tag `latest`: a version that means nothing later; hint: another"
        " service does, or names no tag",
        "a tag that never moves",
    ),
    "no-balancer": Kind(
        "policy",
        P,
        "no balancer: each instance is stopped under its users' requests",
        "`balancers:` in hosts.yaml",
    ),
    "internal-address": Kind(
        "policy",
        P,
        "`internal` is a loopback address, and balancers on other hosts are to reach it there",
        "`internal: ADDRESS` of the host",
    ),
    "no-spare": Kind(
        "policy", P, "a backend has one server of ours: it can't be drained", "`instances: 2`"
    ),
    "min-capacity": Kind(
        "policy",
        P,
        "not one server can leave without going below `min_capacity`",
        "a lower `rollout.min_capacity`, or more instances",
    ),
    "serial-waits": Kind(
        "policy",
        H,
        "`serial` begins more hosts at once than `min_capacity` lets go: they wait in turn",
        "a smaller `serial`",
    ),
    "sticky-grace": Kind(
        "policy",
        H,
        "clients are pinned and `sticky_grace` is 0: they are moved at once",
        "`drain: {sticky_grace: 5s}`",
    ),
    "drain-timeout": Kind(
        "policy",
        H,
        "HAProxy lets a request (or an upgraded connection) last longer than `drain.timeout`"
        " waits for it",
        "a longer `drain.timeout`, a shorter `timeout server`, `timeout tunnel`",
    ),
    "secret": Kind(
        "policy",
        P,
        "a secret's file or environment variable is not there on this machine",
        "the file or the variable",
    ),
}
