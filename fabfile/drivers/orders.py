"""Orders to all balancers of one instance: side by side, on condition, and never blindly.

What an operator changes is noticed by the balancers' own hosts in the moment of the order; and
where nobody knows whether an order arrived, the second one finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from fabfile.balancers.haproxy.change import AsLeft
from fabfile.balancers.model import ServerRecord
from fabfile.drivers import standing
from fabfile.drivers.balancers import Change, Pool
from fabfile.drivers.operators import Operators
from fabfile.drivers.standing import Answers
from fabfile.errors import OutcomeUnknown
from fabfile.remote import records
from fabfile.rollout.plan import Target

Commands = Callable[[ServerRecord], Iterable[str]]
"""What is said of one server, as its balancer understands it."""
NO_CONDITIONS: Mapping[str, tuple[AsLeft, ...]] = {}


class Orders:
    """Those of one service; thread-safe as far as no two threads work on one instance."""

    def __init__(self, pool: Pool, operators: Operators, journal: str) -> None:
        """``journal``: the rollout whose records there may be."""
        self._pool = pool
        self._operators = operators
        self._journal = journal

    def send(
        self,
        target: Target,
        commands: Commands,
        only_if: Mapping[str, tuple[AsLeft, ...]] = NO_CONDITIONS,
        *,
        opens: bool = False,
    ) -> Answers:
        """What each balancer shows afterwards, or what went wrong there.

        ``only_if``: how the servers have to stand for it. ``opens``: their records were written
        ahead, and count from here on.
        """
        wanted = self._wanted(target, commands, only_if, opens=opens)
        answers = self._pool.change(wanted)
        lost = [name for name, answer in answers.items() if isinstance(answer, OutcomeUnknown)]
        if lost:
            answers |= self._pool.change({name: wanted[name] for name in lost})
            # It is not as it was: so the first one arrived, or arrives while the host still has it.
            if arrived := [name for name in standing.changed(answers) if name in lost]:
                answers |= self._pool.read(arrived, standing.asked(target)[1])
        self._operators.ordered(target, answers)
        return answers

    def _wanted(
        self,
        target: Target,
        commands: Commands,
        only_if: Mapping[str, tuple[AsLeft, ...]],
        *,
        opens: bool,
    ) -> dict[str, Change]:
        """What :meth:`send` tells each balancer; it shows the servers of ``target`` alone."""
        servers = standing.asked(target)[1]
        wanted: dict[str, Change] = {}
        for record in target.servers:
            ref = record.ref
            empty = Change((), only_if.get(ref.balancer, ()), servers, rollout=self._journal)
            so_far = wanted.get(ref.balancer, empty)
            opened = (records.of_server(ref.backend, ref.server),) if opens else ()
            wanted[ref.balancer] = replace(
                so_far,
                commands=(*so_far.commands, *commands(record)),
                opens=(*so_far.opens, *opened),
            )
        return wanted

    def guarded(
        self, target: Target, commands: Commands, *, opens: bool = False
    ) -> tuple[Target, Answers]:
        """Send where it stands as recorded, or as it was seen last; else somebody has changed it,
        and theirs is written down before it is sent all the same."""
        fresh = self._operators.is_untouched(target)
        left = None if fresh else self._operators.left(target)
        conditions = standing.conditions(
            ((record.ref, record) for record in target.servers) if fresh else (left or {}).items()
        )
        answers = self.send(target, commands, conditions, opens=opens)
        if changed := standing.changed(answers):
            keep = self._operators.untouched if fresh else self._operators.look
            target = keep(target, self._pool.read(changed))
            answers = self.send(target, commands, opens=opens)
        return target, answers
