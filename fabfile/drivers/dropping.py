"""A host is given up: what its instances left behind on the balancers that are still there.

Their servers get recorded weight and state back. HAProxy's checks keep out what does not answer;
a server that is not checked stays in maint, since nothing else would keep requests from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fabfile.balancers.haproxy import change
from fabfile.balancers.model import BackendReading, ServerRecord, ServerRef
from fabfile.drivers.balancers import Change, Fence, Pool, backend_key
from fabfile.drivers.operators import said
from fabfile.drivers.standing import is_restored
from fabfile.errors import EvenkeelError, NeedsRepair, PreflightFailed, RemoteError
from fabfile.remote import records
from fabfile.remote.base import Command
from fabfile.remote.pool import Remotes
from fabfile.rollout.plan import Plan
from fabfile.rollout.recovery import FoundServer


@dataclass(frozen=True)
class Dropping:
    """The servers of hosts that are given up."""

    plan: Plan
    """As it was found, with all that is given up still in it."""
    pool: Pool
    remotes: Remotes
    fence: Fence
    servers: Mapping[ServerRef, FoundServer]
    say: Callable[[str], None]

    def give_up(self, hosts: tuple[str, ...], away: tuple[str, ...], *, dry: bool) -> None:
        """Put back what the balancers still have of ``hosts``; ``away`` are left out themselves.

        With ``dry`` it is only said. Raises :class:`PreflightFailed` for a balancer that can't be
        asked, :class:`NeedsRepair` for a server that could not be put back.
        """
        for name in away:
            mine = [r for t in self.plan.targets for r in t.servers if r.ref.balancer == name]
            if mine:
                self.say(f"{name}: {len(mine)} servers of this rollout stay there as they are")
        for target in self.plan.targets:
            if target.instance.host not in hosts:
                continue
            self.say(f"{target.instance.id}: given up, whatever it runs when its host is back")
            for record in target.servers:
                if target.change and record.ref.balancer not in away:
                    self._server(record, dry)

    def _server(self, record: ServerRecord, dry: bool) -> None:
        found = self.servers.get(record.ref)
        if found is None or found.reading is None:
            raise PreflightFailed(
                f"nothing was changed: {record.ref.balancer} can't be asked: wait for it, or drop"
                f" it, too (--drop {record.ref.balancer})"
            )
        if found.record != "open":
            return
        aim = found.undo or record
        if not found.reading.checked:
            self.say(
                f"{record.ref}: stays in maint, because HAProxy does not check it: `set server"
                f" {record.ref.backend}/{record.ref.server} state ready` when it is back"
            )
            if not dry:
                self._order(record.ref, change.set_state(record.ref, "maint"))
            return
        self.say(f"{record.ref}: {said(aim)} again; its checks keep it out until it answers")
        if dry:
            return
        first = found.reading.admin == "maint" and aim.admin != "maint"
        back = change.admit(record.ref, aim.uweight, aim.admin)
        lines = (*change.admit_first(record.ref, checked=True), *back) if first else back
        if aim.check_port is not None:
            lines = (*change.check_at(record.ref, aim.check_port), *lines)
        shown = self._order(record.ref, lines).servers[record.ref.server]
        if not is_restored(aim, shown):
            raise NeedsRepair(f"{record.ref}: is at {said(shown)}, not at {said(aim)}")
        self._close(record.ref)

    def _order(self, ref: ServerRef, lines: tuple[str, ...]) -> BackendReading:
        answer = self.pool.change({ref.balancer: Change(lines)})[ref.balancer]
        if isinstance(answer, EvenkeelError):
            raise answer
        return answer

    def _close(self, ref: ServerRef) -> None:
        balancer = self.pool.hands[ref.balancer].balancer
        effect = records.close(self.plan.journal, [records.of_server(ref.backend, ref.server)])
        script = self.fence(balancer.host, [backend_key(balancer)], effect)
        result = self.remotes.get(balancer.host).run(Command(script, label="record"))
        if not result.ok:
            raise RemoteError(balancer.host, "could not write its record", detail=result.tail())
