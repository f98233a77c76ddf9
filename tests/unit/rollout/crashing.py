"""Rollouts whose controller dies, and what must be true of the fleet once it was recovered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from fabfile.drivers.simulated import Behaviour, Crash, Fleet, Simulation, Traffic, simulate
from fabfile.inventory.model import Drain
from fabfile.rollout.plan import Plan
from fabfile.rollout.recovery import Recovery, replan
from tests.unit.rollout import fleets

TIMING = replace(fleets.QUICK, poll=0.1, health_timeout=2.0)
MODES: tuple[Recovery, ...] = ("repair", "resume", "abort")
EFFECTS = ("done", "half", "not")
NEVER = Crash(10**9)


@dataclass(frozen=True)
class Scenario:
    name: str
    plan: Plan
    traffic: Traffic = field(default_factory=lambda: Traffic(6.0, 0.01, 0.8))
    bad: tuple[str, ...] = ()
    """Ids of releases that never get healthy."""
    like: dict[str, Behaviour] = field(default_factory=dict)
    """What other releases are like."""
    busy: dict[str, float] = field(default_factory=dict)
    """When the request that some instance is busy with on its first balancer ends."""
    goes: bool = True
    """Every instance can be brought to the wanted release."""
    jitter: float = 0.0

    def fleet(self) -> Fleet:
        timing = replace(TIMING, jitter=self.jitter)
        behaviours = dict.fromkeys(self.bad, fleets.BAD) | self.like
        fleet = Fleet.of_plan(self.plan, behaviours, timing)
        for name, end in self.busy.items():
            fleet.of_instance[name][0].ends.append(end)
        return fleet

    def run(self, crash: Crash, seed: int = 0) -> Simulation:
        """The rollout until its end or its crash; balancers are changed one after the other."""
        fleet, oracle = self.fleet(), fleets.Oracle(self.plan)
        result = simulate(
            self.plan,
            fleet,
            fleet.timing,
            traffic=self.traffic,
            seed=seed,
            crash=crash,
            watch=oracle,
        )
        assert oracle.wrong == []
        assert fleet.lost == []
        return result

    def orders(self) -> int:
        """How many a rollout without a crash takes."""
        return self.run(NEVER).orders

    def crash(self, crash: Crash, seed: int = 0) -> Fleet | None:
        """The fleet as a dead controller left it; ``None``: it came to its end before."""
        result = self.run(crash, seed)
        return result.fleet if result.finished is None else None


def recover(
    fleet: Fleet, mode: Recovery, *, seed: int = 0, crash: Crash | None = None
) -> Simulation:
    """Run one recovery of the rollout that was begun last, until its end or its own crash."""
    plan = replan(fleet.found(), mode, f"recovery-{len(fleet.plans)}")
    assert Plan.from_json(plan.to_json()) == plan
    oracle = fleets.Oracle(plan)
    oracle.mine = {target.instance.id for target in plan.targets if target.change}
    result = simulate(plan, fleet, fleet.timing, seed=seed, crash=crash, watch=oracle)
    assert oracle.wrong == []
    return result


def recover_orders(fleet: Fleet, mode: Recovery) -> int:
    """How many orders a recovery takes; the fleet is recovered by it."""
    return recover(fleet, mode, crash=NEVER).orders


def runs(fleet: Fleet) -> dict[str, tuple[str | None, bool, int]]:
    """Release, whether it runs, and how often it was started, by instance."""
    return {
        name: (c.release and c.release.id, c.running, c.started)
        for name, c in fleet.containers.items()
    }


def check(scenario: Scenario, fleet: Fleet, mode: Recovery, result: Simulation) -> None:
    """Everything that has to be true after a recovery."""
    assert result.finished is not None
    broken = set(result.finished.broken)
    _check_put_back(scenario.plan, fleet, broken)
    assert fleet.lost == []
    if broken:
        assert mode == "repair"
        stay = [fleet.containers[name] for name in broken]
        assert not any(c.healthy and fleet.behaviour(c.release).admitted for c in stay)
        assert result.finished.verdict == "needs-repair"
    else:
        assert fleet.undo == set()
        assert scenario.plan.id in fleet.ended
    if mode == "repair":
        return
    for target in scenario.plan.changing:
        container = fleet.containers[target.instance.id]
        if target.container and mode == "resume":
            assert container.id != target.container, f"{target.instance.id} was not restarted"
        back = mode == "abort" or not scenario.goes
        assert container.release == (target.earlier if back else target.wanted), target.instance.id
        assert container.running
        assert container.healthy
    resumed = "done" if scenario.goes else "rolled-back"
    assert result.finished.verdict == ("rolled-back" if mode == "abort" else resumed)


def _check_put_back(plan: Plan, fleet: Fleet, broken: set[str]) -> None:
    now = fleets.state(fleet)
    for record in plan.baseline:
        server = fleet.servers[record.ref]
        if server.instance not in broken:
            assert now[record.ref] == (record.uweight, record.admin), record.ref
            assert server.check_port == 0, record.ref
            container = fleet.containers.get(server.instance)
            if record.admin == "ready" and container is not None and container.healthy:
                assert server.up, record.ref


def check_repaired(
    plan: Plan, before: dict[str, tuple[str | None, bool, int]], fleet: Fleet
) -> None:
    """A repair changes no version; it starts what was there before where nothing ran at all."""
    earlier = {target.instance.id: target.earlier for target in plan.targets}
    for name, now in runs(fleet).items():
        if now != before[name]:
            was = earlier[name]
            assert not before[name][1], "a repair changed a container"
            assert was is not None, "a repair started something that was never there"
            assert now[0] == was.id or not now[1], "a repair started something else"


def put_an_end_to(scenario: Scenario, fleet: Fleet, mode: Recovery, seed: int = 0) -> None:
    """One recovery, and its check."""
    before = runs(fleet)
    result = recover(fleet, mode, seed=seed)
    check(scenario, fleet, mode, result)
    if mode == "repair":
        check_repaired(scenario.plan, before, fleet)


def points(orders: int, effects: Sequence[str] = EFFECTS) -> Iterator[Crash]:
    """Every order with every effect."""
    for number in range(1, orders + 1):
        for effect in effects:
            yield Crash(number, effect)


def _odd(plan: Plan) -> Plan:
    """Weights and states as operators leave them: no two servers alike."""
    kinds = [(100, "ready"), (7, "ready"), (256, "ready"), (0, "ready"), (50, "maint")]
    records = {}
    for number, record in enumerate(plan.baseline):
        uweight, admin = kinds[number % len(kinds)]
        records[record.ref] = replace(record, uweight=uweight, admin=admin)
    return replace(
        plan,
        baseline=tuple(records.values()),
        targets=tuple(
            replace(t, servers=tuple(records[ref] for ref in t.refs)) for t in plan.targets
        ),
    )


HOOKLESS = Behaviour(failing=("before_drain", "after_healthy"))
"""On the way back no hook may stop anything."""
STUCK = {"web2/app_1": 1e9}
STICKY = Traffic(6.0, 0.01, 0.8, pinned=3)
LONG = Traffic(1.0, 5.0, 20.0)
IMPATIENT = Drain(sticky_grace=0.3, timeout=1.0)


def _quick(plan: Plan) -> Plan:
    """Nobody has a grace, so that the next instance is recorded while the last one is admitted."""
    return replace(plan, drain=replace(plan.drain, sticky_grace=0.0))


def _parked(plan: Plan) -> Plan:
    """Behind balancers that pin nobody and whose checks can be sent elsewhere."""
    return _quick(fleets.recorded(plan, check_port=0))


def restart(plan: Plan) -> Plan:
    """The same plan as a restart: containers go, releases stay."""
    return replace(
        plan,
        mode="restart",
        policy=replace(plan.policy, on_failure="hold"),
        targets=tuple(
            replace(t, wanted=t.earlier, container=f"{t.instance.id}-0") for t in plan.targets
        ),
    )


SCENARIOS = (
    Scenario("restart", restart(fleets.plan(2))),
    Scenario(
        "restart-side-by-side",
        restart(fleets.plan(2, 2, serial=0, instances_at_once=2, min_capacity=25)),
    ),
    Scenario("edge", fleets.plan(2)),
    Scenario(
        "edge-several-at-once", fleets.plan(2, 2, serial=0, instances_at_once=2, min_capacity=25)
    ),
    Scenario("self", fleets.plan(2, 2, "self")),
    Scenario("sticky", fleets.plan(2, drain=Drain(sticky_grace=1.0)), STICKY),
    Scenario("sticky-drain-mode", fleets.plan(2, drain=Drain("drain", 1.0)), STICKY),
    Scenario(
        "nobody-pinned", fleets.plan(2, drain=Drain(sticky_grace=0.0)), Traffic(6.0, 0.01, 0.8)
    ),
    Scenario("nobody-pinned-drain-mode", fleets.plan(2, drain=Drain("drain", 0.0))),
    Scenario("parked", _parked(fleets.plan(2)), Traffic(6.0, 0.01, 0.8)),
    Scenario("parked-self", _parked(fleets.plan(2, 2, "self"))),
    Scenario("twice-ahead", _quick(fleets.plan(1, 2, "self"))),
    Scenario("ahead", _quick(fleets.plan(2, 3, "self"))),
    Scenario(
        "ahead-of-one-that-fails", _quick(fleets.plan(2, 3)), bad=("2-web2/app_2",), goes=False
    ),
    Scenario(
        "ahead-of-one-that-is-kept-out",
        _quick(fleets.plan(2, 2)),
        like={"2-web2/app_1": fleets.UNSEEN},
        goes=False,
    ),
    Scenario("parked-drain-mode", _parked(fleets.plan(2, drain=Drain("drain")))),
    Scenario("parked-failing", _parked(fleets.plan(3)), bad=("2-web3/app_1",), goes=False),
    Scenario(
        "parked-abort",
        _parked(fleets.plan(2, drain=replace(IMPATIENT, on_timeout="abort"))),
        busy=STUCK,
        goes=False,
    ),
    Scenario("long-requests", fleets.plan(2, drain=Drain(timeout=60.0)), LONG),
    Scenario("failing-rolls-back", fleets.plan(3), bad=("2-web3/app_1",), goes=False),
    Scenario(
        "failing-side-by-side",
        fleets.plan(4, serial=2, min_capacity=25),
        bad=("2-web4/app_1",),
        goes=False,
    ),
    Scenario("cut", fleets.plan(2, drain=IMPATIENT), busy=STUCK),
    Scenario(
        "abort",
        fleets.plan(2, drain=replace(IMPATIENT, on_timeout="abort")),
        busy=STUCK,
        goes=False,
    ),
    Scenario(
        "wait",
        fleets.plan(2, drain=replace(IMPATIENT, on_timeout="wait")),
        busy={"web2/app_1": 6.0},
    ),
    Scenario(
        "answers-5xx",
        replace(fleets.plan(3), watch=2.0),
        Traffic(100.0, 0.01, 0.05),
        like={"2-web2/app_1": fleets.ILL},
        goes=False,
    ),
    Scenario("odd-weights", _odd(fleets.plan(3, min_capacity=5))),
    Scenario("hooks", fleets.plan(2, hooks=fleets.HOOKS)),
    Scenario(
        "failing-before-drain",
        fleets.plan(3, hooks=fleets.HOOKS),
        like={"2-web3/app_1": fleets.UNREADY, "1-web1/app_1": HOOKLESS},
        goes=False,
    ),
    Scenario(
        "failing-after-healthy",
        fleets.plan(3, hooks=fleets.HOOKS),
        like={"2-web3/app_1": fleets.SMELLY, "1-web1/app_1": HOOKLESS},
        goes=False,
    ),
)
