"""Who is doing this, and what a rollout is called."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time


def new_id() -> str:
    """An id that sorts by time and is unique: ``20260131-142530-9f3c``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def whoami() -> str:
    """``anna@laptop:4242``: the person, the machine and the process that hold a lock."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for the user id: a container, say
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{os.getpid()}"
