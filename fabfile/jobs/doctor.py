"""`fab doctor`: what the set-up lacks."""

from __future__ import annotations

from collections.abc import Sequence

from fabfile.inventory.model import Inventory
from fabfile.remote.pool import Remotes


def doctor(inventory: Inventory, service: str, names: Sequence[str], *, json: bool) -> int:
    """Print what the set-up lacks; returns 0, 3 (risks) or 5 (problems)."""
    from fabfile.checks.doctor import judge, view
    from fabfile.drivers.doctor import examine, wanted

    what = wanted(inventory, service, names)
    with Remotes(inventory) as remotes:
        diagnosis = judge.diagnose(examine(inventory, what, remotes))
    view.show(diagnosis, as_object=json)
    return diagnosis.exit_code
