"""A thread for each URL that hears of a rollout: what hangs there holds up nobody."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from fabfile.errors import EvenkeelError
from fabfile.inventory.fields import ascii_url
from fabfile.inventory.model import Secret
from fabfile.reports import webhook
from fabfile.reports.webhook import Parcel
from fabfile.runtimes import secrets

TRIES = 3
WITHIN = 5.0
"""Seconds for one parcel, all tries together."""


class Outbox:
    """Sends parcels to one URL, one after the other, in a thread of its own."""

    def __init__(self, url: Secret, complain: Callable[[str], None]) -> None:
        """``complain`` hears one line for each parcel that got lost, from that thread."""
        self._url = url
        self._complain = complain
        self._queue: queue.SimpleQueue[tuple[str, Parcel] | None] = queue.SimpleQueue()
        self._left: list[str] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, what: str, parcel: Parcel) -> None:
        """Send ``parcel`` soon; ``what`` is what its receiver would learn. Returns at once."""
        with self._lock:
            self._left.append(what)
        self._queue.put((what, parcel))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="outbox")
            self._thread.start()

    def close(self) -> None:
        """Nothing follows."""
        self._queue.put(None)

    def wait(self, seconds: float) -> None:
        """Until all is sent, at most that long; what is left then is given up and complained of."""
        if self._thread is not None:
            self._thread.join(max(0.0, seconds))
        with self._lock:
            left, self._left = self._left, []
        for what in left:
            self._complain(f"{self._url.name}: not told {what}: there was no time left for it")

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            what, parcel = item
            why = self._send(parcel)
            with self._lock:
                heard = what in self._left  # otherwise somebody has given it up meanwhile
                if heard:
                    self._left.remove(what)
            if why and heard:
                self._complain(f"{self._url.name}: not told {what}: {why}")

    def _send(self, parcel: Parcel) -> str:
        try:
            url = ascii_url(secrets.read(self._url).strip().partition("\n")[0].strip())
        except (EvenkeelError, ValueError) as error:
            return str(error).removeprefix(f"secret {self._url.name}: ")
        return webhook.deliver(url, parcel, tries=TRIES, within=WITHIN)
