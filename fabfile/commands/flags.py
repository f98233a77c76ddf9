"""The flags that tasks share: what each is called, what it begins with, and its help.

Invoke reads a task's flags off its signature. :func:`flagged` writes that signature, so that a
flag of a dozen tasks is described once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, NamedTuple

from invoke.exceptions import Exit

from fabfile.fleet import FleetTask, fleet_task


class Flag(NamedTuple):
    """A flag of any task; ``None`` as its default: it may be given several times."""

    default: str | bool | None
    help: str


FLAGS = {
    "version": Flag("", "The image's tag"),
    "service": Flag("", "Which service; needed only where the inventory has several"),
    "serial": Flag("", "Hosts at a time: 2, 35%, or a list such as 1,35%"),
    "drain_timeout": Flag("", "How long running requests may take to end: 30s, 5m"),
    "on_timeout": Flag("", "What then: cut | abort | wait"),
    "on_failure": Flag("", "When instances fail: rollback | hold | continue"),
    "reason": Flag("", "Why, for the lock and the history"),
    "lock_wait": Flag("", "Wait that long for somebody else's lock: 10m"),
    "allow_outage": Flag(False, "Go on where a backend would lose its last server"),
    "without_balancer": Flag(
        None, "Go on without this balancer, which can't be asked and serves nobody"
    ),
    "allow_loss": Flag(False, "It may serve all the same: requests through it may be lost"),
    "inventory": Flag("", "Another hosts.yaml (or EVENKEEL_INVENTORY)"),
    "json": Flag(False, "Events as JSON lines"),
    "probe": Flag(False, "Send requests to the service's urls meanwhile, and draw a report"),
    "dry_run": Flag(False, "Only say what would happen"),
    "rollout": Flag("", "Which one, where several are unfinished"),
    "force": Flag(
        False, "Take its locks over even from a controller that still gives signs of life"
    ),
    "drop": Flag(
        None,
        "Give up this host or balancer, which is gone for good, and all that is recorded of it",
    ),
    "instance": Flag(None, "Only these: app_2, or web1/app_2; with commas or several times"),
    "server": Flag(None, "Only these, by what balancers call them: web1_app_2"),
}


def flagged(
    *names: str,
    help: dict[str, str] | None = None,  # noqa: A002 (as @task has it)
    **options: Any,
) -> Callable[[Callable[..., None]], FleetTask]:
    """``@fleet_task`` for a body that takes these of :data:`FLAGS` as keywords.

    What the body's own signature names comes first, in its order. ``help`` is of these, or says
    something else of a shared one.
    """

    def decorate(body: Callable[..., None]) -> FleetTask:
        own = [
            parameter
            for parameter in signature(body).parameters.values()
            if parameter.kind is not Parameter.VAR_KEYWORD and parameter.name not in names
        ]
        shared = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=FLAGS[name].default) for name in names
        ]
        whole = Signature([*own, *shared])

        @wraps(body)
        def call(*args: Any, **given: Any) -> None:
            bound = whole.bind(*args, **given)  # somebody's own task may call it with a few of them
            bound.apply_defaults()
            body(*bound.args, **bound.kwargs)

        call.__signature__ = whole  # type: ignore[attr-defined]
        texts = {name.replace("_", "-"): FLAGS[name].help for name in names} | (help or {})
        several = [name for name in names if FLAGS[name].default is None]
        return fleet_task(help=texts, iterable=several, **options)(call)

    return decorate


def end(code: int) -> None:
    """End the program with ``code``.

    An Exit of 0 would also keep the tasks that follow on the command line from running.
    """
    if code:
        raise Exit(code=code)
