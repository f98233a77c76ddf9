"""How many sessions one connection may have open at a time."""

from __future__ import annotations

import threading


class Slots:
    """A counter with a limit that can shrink when sshd allows less than we hoped.

    sshd's ``MaxSessions`` (10 unless changed) counts shells and commands of one connection. The
    last ``reserved`` slots are for what is urgent, which also goes before all that waits.
    """

    def __init__(self, limit: int, reserved: int = 0) -> None:
        self._limit = limit
        self._reserved = reserved
        self._taken = 0
        self._urgent = 0
        """How many wait that are urgent."""
        self._changed = threading.Condition()

    def _free(self, urgent: bool) -> bool:
        if urgent:
            return self._taken < self._limit
        # Where sshd allows a single session, everybody has to share it.
        return not self._urgent and self._taken < max(self._limit - self._reserved, 1)

    def try_take(self, *, urgent: bool = False) -> bool:
        """Take a slot if one is free; never blocks."""
        with self._changed:
            if not self._free(urgent):
                return False
            self._taken += 1
            return True

    def take(self, *, urgent: bool = False) -> None:
        """Take a slot, however long that lasts; every command has a deadline, so one gets free."""
        with self._changed:
            self._urgent += urgent
            try:
                self._changed.wait_for(lambda: self._free(urgent))
            finally:
                self._urgent -= urgent
            self._taken += 1
            self._changed.notify_all()

    def release(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    def refused(self) -> bool:
        """The server refused a session for a slot we hold: give the slot back, lower the limit.

        False when no other session of ours is open: then waiting for one to end is no use.
        """
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()
            if self._taken == 0:
                return False
            self._limit = min(self._limit, self._taken)
            return True
