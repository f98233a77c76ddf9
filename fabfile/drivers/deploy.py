"""One rollout from a wish to an exit code: prepare, run, tell."""

from __future__ import annotations

from collections.abc import Callable

from fabfile.drivers import copies, leftovers
from fabfile.drivers.missing import Gone
from fabfile.drivers.prepare import Preparation, Prepared
from fabfile.drivers.prune import prune
from fabfile.drivers.real import Driver
from fabfile.drivers.recover import Taker
from fabfile.drivers.signals import interrupted, leave, terminated
from fabfile.drivers.wish import Wish
from fabfile.inventory.model import Inventory, Service
from fabfile.remote.pool import Remotes
from fabfile.rollout.events import Event, Notice, RolloutFinished, Verdict
from fabfile.rollout.recovery import Recovery

EXIT_CODES: dict[Verdict, int] = {
    "done": 0,
    "held": 3,
    "needs-repair": 6,
    "rolled-back": 7,
    "interrupted": 130,
}
"""What a rollout's verdict means for whoever called ``fab``."""


def deploy(
    inventory: Inventory,
    wish: Wish,
    rollout: str,
    emit: Callable[[Event], None],
    preparing: type[Preparation] | None = None,
) -> tuple[RolloutFinished, int]:
    """Carry a wish out; returns how it ended, and the exit code.

    Raises :class:`PreflightFailed` or :class:`Locked`, when nothing was changed. 1: it is done, and
    its ``after_rollout`` failed.
    """
    remotes = Remotes(inventory)
    with terminated():
        try:
            prepared = (preparing or Preparation)(inventory, wish, remotes, emit, rollout).run()
            try:
                copies.keep(inventory.root, prepared.plan, emit)
                return _run(prepared, emit)
            finally:
                prepared.close()
        finally:
            remotes.close()


def recover(
    service: Service,
    mode: Recovery,
    inventory: Inventory,
    identity: str,
    emit: Callable[[Event], None],
    rollout: str = "",
    *,
    force: bool = False,
    dry: bool = False,
    before_rollout: str = "",
    gone: Gone = Gone(),  # noqa: B008 (frozen)
) -> int:
    """Take up an unfinished rollout of ``service``; returns the exit code.

    ``before_rollout``: what to do about that hook, ``again`` or ``done``. 0: there was none, or it
    ended as ``mode`` says. Raises :class:`Locked` while its controller still lives,
    :class:`BadInput` where it takes a choice.
    """
    remotes = Remotes(inventory)
    with terminated():
        try:
            taker = Taker(service, remotes, emit, identity, inventory, gone, force=force)
            found = taker.find(rollout)
            if found is None:
                taker.close()
                if not dry:
                    leftovers.give_back(service, remotes, identity, emit, force=force)
                emit(Notice(f"no unfinished rollout of {service.name}: nothing to do"))
                return 0
            prepared = taker.take(found, mode, dry=dry, before_rollout=before_rollout)
            try:
                if dry:
                    return 0
                copies.keep(inventory.root, prepared.plan, emit)
                ended, code = _run(prepared, emit)
                return 0 if mode == "abort" and ended.verdict == "rolled-back" else code
            finally:
                prepared.close()
        finally:
            remotes.close()


def _run(prepared: Prepared, emit: Callable[[Event], None]) -> tuple[RolloutFinished, int]:
    if prepared.locks is None:
        ended = _nothing_to_do(prepared)
        emit(ended)
        return ended, 0
    driver = Driver(prepared, emit)
    with interrupted(driver.interrupt, driver.hurry) as caught:
        ended = driver.run()
    if driver.hurried:
        # Some lock may have to go stale, and no thread that still waits for a host be waited for.
        leave(EXIT_CODES[ended.verdict])
    if ended.verdict == "done" and not driver.replaced:
        prune(prepared, emit)
    code = EXIT_CODES[ended.verdict]
    if ended.verdict == "interrupted" and caught:
        code = 128 + caught[0]
    if driver.hook_failed or driver.replaced:
        code = code or 1
    return ended, code


def _nothing_to_do(prepared: Prepared) -> RolloutFinished:
    plan = prepared.plan
    return RolloutFinished(plan.id, "done", plan.version, 0, len(plan.targets), 0, 0, ())
