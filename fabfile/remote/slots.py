"""How many sessions one connection may have open at a time."""

from __future__ import annotations

import threading


class Slots:
    """A counter with a limit that can shrink when sshd allows less than we hoped.

    sshd's ``MaxSessions`` (10 unless changed) counts shells and commands of one connection.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    def try_take(self) -> bool:
        """Take a slot if one is free; never blocks."""
        with self._changed:
            if self._taken >= self._limit:
                return False
            self._taken += 1
            return True

    def take(self) -> None:
        """Take a slot, however long that lasts; every command has a deadline, so one gets free."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._limit)
            self._taken += 1

    def release(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def refused(self) -> bool:
        """The server refused a session for a slot we hold: give the slot back, lower the limit.

        False when no other session of ours is open: then waiting for one to end is no use.
        """
        with self._changed:
            self._taken -= 1
            self._changed.notify()
            if self._taken == 0:
                return False
            self._limit = min(self._limit, self._taken)
            return True
