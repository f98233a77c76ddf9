"""From facts to a diagnosis: every finding, and a line for each area that is well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fabfile.checks.doctor.compose_rules import COMPOSE_RULES, health
from fabfile.checks.doctor.config_rules import CONFIG_RULES
from fabfile.checks.doctor.facts import Proxy, Setup
from fabfile.checks.doctor.findings import GRAVITY, Finding, exit_code, together
from fabfile.checks.doctor.host_rules import HOST_RULES
from fabfile.checks.doctor.kinds import AREAS
from fabfile.checks.doctor.policy_rules import POLICY_RULES
from fabfile.checks.doctor.runtime_rules import RUNTIME_RULES, servers
from fabfile.checks.doctor.server_rules import SERVER_RULES
from fabfile.checks.fleet.verdict import several


@dataclass(frozen=True)
class Diagnosis:
    """What there is to say."""

    setup: Setup
    findings: tuple[Finding, ...]
    """The worst first."""
    well: tuple[tuple[str, str], ...]
    """Area and a line about it, for each that has nothing worse than hints."""

    @property
    def exit_code(self) -> int:
        """0 nothing worse than hints, 3 risks, 5 problems."""
        return exit_code(self.findings)

    @property
    def headline(self) -> str:
        """How many of each, and what that means."""
        counts = [(s, sum(f.severity == s for f in self.findings)) for s in GRAVITY]
        said = ", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in counts if n)
        if not said:
            return "nothing to mend"
        meaning = {5: "a rollout would be refused, or lose requests", 3: "a rollout would begin"}
        after = meaning.get(self.exit_code, "nothing that has to be mended")
        return f"{said}: {after}"


def diagnose(setup: Setup) -> Diagnosis:
    """Judge everything."""
    found: list[Finding] = []
    for rule in HOST_RULES:
        found += rule(setup)
    for one in setup.rendered:
        for compose_rule in COMPOSE_RULES:
            found += compose_rule(one)
    for proxy in setup.proxies:
        found += _of_proxy(proxy)
    for rule in (*POLICY_RULES, health):
        found += rule(setup)
    findings = tuple(together(found))
    return Diagnosis(setup, findings, tuple(_well(setup, findings)))


def _of_proxy(proxy: Proxy) -> Iterator[Finding]:
    """The file knows lines, the running process knows what counts: each finding once."""
    told = set()
    for rule in (*CONFIG_RULES, *SERVER_RULES):
        for finding in rule(proxy):
            told.add(finding.code)
            yield finding
    for rule in RUNTIME_RULES:
        yield from (finding for finding in rule(proxy) if finding.code not in told)


def _well(setup: Setup, findings: tuple[Finding, ...]) -> Iterator[tuple[str, str]]:
    """Areas that can be judged and are well, with what they hold."""
    ill = {finding.area for finding in findings if finding.severity != "hint"}
    reached = setup.reached
    versions = sorted({v for facts in reached.values() for v in facts.versions})
    registries = sorted({r for facts in reached.values() for r in facts.registries})
    answered = [proxy for proxy in setup.proxies if proxy.said]
    behind = sum(len([n for n in servers(p) if n in p.ours]) for p in answered)
    lines = {
        "hosts": f"{several(reached)}: reached, tools, state folder, disks and clocks"
        if reached
        else "",
        "docker": f"{', '.join(versions)}; projects are there" if versions else "",
        "registry": f"{', '.join(registries)} answers every host" if registries else "",
        "compose file": f"{several(r.path for r in setup.rendered)}: renders for every host"
        if setup.rendered
        else "",
        "balancers": f"{several(p.balancer.id for p in answered)}: {behind} servers of ours"
        if answered
        else "",
        "policy": f"{several(s.name for s in setup.services)}: capacity to spare for a rollout"
        if setup.services
        else "",
    }
    yield from ((area, lines[area]) for area in AREAS if lines[area] and area not in ill)
