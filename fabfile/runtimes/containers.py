"""What people ask of running containers every day: their logs, and a command inside of them.

Builders return shell text and run nothing. Each works on several instances of one host, and every
line they print begins with the instance's name.
"""

from __future__ import annotations

from collections.abc import Iterable

from fabfile.inventory.model import Service
from fabfile.remote.quoting import sh
from fabfile.remote.scripts import script
from fabfile.runtimes.compose import SHELL


def logs_script(service: Service, names: Iterable[str], since: str, tail: str) -> str:
    """The logs as they are: ``NAME STAMP TEXT``. ``since``: as Docker takes it, or empty."""
    return _script("logs-now", service, names, since=since, tail=tail)


def follow_script(service: Service, names: Iterable[str], since: str, tail: str) -> str:
    """The same as they come, for ``Transport.follow``; ends when signs of life stay away."""
    return _followed(_script("logs-follow", service, names, since=since, tail=tail))


def exec_script(service: Service, names: Iterable[str], command: str) -> str:
    """Run a shell's ``command`` in each, side by side, for ``Transport.follow``.

    ``NAME TEXT`` on stdout, ``exit NAME CODE`` on stderr; no code: no container runs.
    """
    return _followed(_script("exec", service, names, command=command))


def _script(name: str, service: Service, names: Iterable[str], **values: str) -> str:
    head = script(SHELL / "services.sh", project=service.project)
    return head + script(SHELL / f"{name}.sh", services=" ".join(names), **values)


def _followed(text: str) -> str:
    """Whatever the login shell is, ``sh`` leads the session whose processes are ended together."""
    return sh("exec sh -c %s", text)
