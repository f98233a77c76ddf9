"""The switch of a backend's maintenance page: a server that nobody is sent to.

In the configuration that our template makes (and that a hand-written one may copy), requests go to
``BACKEND_maintenance``, which answers 503, as long as its one server has a weight. A weight is
changed, read back and kept over a reload like that of any other server.
"""

from __future__ import annotations

from fabfile.balancers.haproxy.observe import Poll

SWITCH = "on"
"""The server's name."""


def maintenance_of(backend: str) -> str:
    """The backend that answers in place of ``backend``."""
    return f"{backend}_maintenance"


def is_on(backend: str, poll: Poll) -> bool:
    """Whether ``poll``, which asked for it too, shows ``backend`` replaced by its page."""
    rows = poll.states.get(maintenance_of(backend), ())
    return any(row["srv_name"] == SWITCH and row["srv_uweight"] != "0" for row in rows)
