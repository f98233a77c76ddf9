"""What can go wrong, and the exit code each kind ends with.

::

    EvenkeelError                 1  unclassified: assume nothing
    ├── BadInput                  2  what a person typed; nothing was contacted or touched
    ├── Held                      3  stopped with mixed versions
    ├── Locked                    4  a lock or an unfinished rollout is in the way
    ├── PreflightFailed           5  a check before the first change failed; nothing changed
    ├── NeedsRepair               6  something is out of rotation and recorded
    ├── RolledBack                7  failed; every selected instance is on its earlier release
    └── RemoteError               1  a host could not be reached or a command failed there
        ├── Unreachable
        ├── HostKeyRefused
        ├── OutcomeUnknown           the connection broke: the command may have run
        └── Fenced                   another controller took over (remote exit 75)

Interrupted runs end with 130 (SIGINT) or 143 (SIGTERM).
"""

from __future__ import annotations


class EvenkeelError(Exception):
    """Base of every error that is meant for a person.

    ``str(error)`` is one line (or a few for :class:`BadInput` with several mistakes) that says
    where, what, and what to do next. ``detail`` holds what a person reads after that line, for
    example the last lines of a log.
    """

    exit_code = 1

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class BadInput(EvenkeelError):
    """A mistake in hosts.yaml, a flag or a name. Nothing was contacted."""

    exit_code = 2


class Held(EvenkeelError):
    """The rollout stopped and left mixed versions behind."""

    exit_code = 3


class Locked(EvenkeelError):
    """Somebody else's lock or an unfinished rollout is in the way."""

    exit_code = 4


class PreflightFailed(EvenkeelError):
    """A check that comes before the first change failed. Nothing changed."""

    exit_code = 5


class NeedsRepair(EvenkeelError):
    """Something was left out of rotation; it is recorded on its host."""

    exit_code = 6


class RolledBack(EvenkeelError):
    """The rollout failed and every selected instance is on its earlier release again."""

    exit_code = 7


class RemoteError(EvenkeelError):
    """A host could not be reached, or a command on it failed."""

    def __init__(self, host: str, message: str, *, detail: str = "") -> None:
        super().__init__(f"{host}: {message}", detail=detail)
        self.host = host


class Unreachable(RemoteError):
    """No connection could be made (refused, timed out, no such name, login refused)."""


class HostKeyRefused(RemoteError):
    """The host's key is unknown or has changed."""


class OutcomeUnknown(RemoteError):
    """The connection broke or the deadline passed: the command may or may not have run."""


class Fenced(RemoteError):
    """The target's lock belongs to another rollout or a later epoch; nothing was changed."""
