"""One rollout from a wish to an exit code: prepare, run, tell."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from fabfile.drivers import copies
from fabfile.drivers.prepare import Preparation, Prepared, Wish
from fabfile.drivers.prune import prune
from fabfile.drivers.real import Driver
from fabfile.drivers.recover import Taker
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
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    with _terminated():
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
    *,
    rollout: str = "",
    force: bool = False,
    dry: bool = False,
    before_rollout: str = "",
) -> int:
    """Take up an unfinished rollout of ``service``; returns the exit code.

    ``before_rollout``: what to do about that hook, ``again`` or ``done``. 0: there was none, or it
    ended as ``mode`` says. Raises :class:`Locked` while its controller still lives,
    :class:`BadInput` where it takes a choice.
    """
    remotes = Remotes(inventory)
    with _terminated():
        try:
            taker = Taker(service, remotes, emit, identity, force=force)
            found = taker.find(rollout)
            if found is None:
                taker.close()
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


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends what comes before and after the rollout as SIGINT does: locks are given back."""

    def handle(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(prepared: Prepared, emit: Callable[[Event], None]) -> tuple[RolloutFinished, int]:
    if prepared.locks is None:
        ended = _nothing_to_do(prepared)
        emit(ended)
        return ended, 0
    driver = Driver(prepared, emit)
    with _signals(driver) as caught:
        ended = driver.run()
        if ended.verdict == "done":
            prune(prepared, emit)
    code = EXIT_CODES[ended.verdict]
    if ended.verdict == "interrupted" and caught:
        code = 128 + caught[0]
    if driver.hook_failed:
        code = code or 1
    return ended, code


def _nothing_to_do(prepared: Prepared) -> RolloutFinished:
    plan = prepared.plan
    return RolloutFinished(plan.id, "done", plan.version, 0, len(plan.targets), 0, 0, ())


@contextmanager
def _signals(driver: Driver) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and a closed terminal: what is out comes back, and nothing new begins."""
    caught: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        driver.interrupt(f"interrupted by {signal.Signals(number).name}")

    before = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
