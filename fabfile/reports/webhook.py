"""A message to a webhook: JSON with the ``text`` that Slack and its likes show.

A webhook's URL is a secret: it is in no message and no error.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from fabfile.errors import BadInput

DEADLINE = 4.0
"""Seconds one try may take, name look-up and a server that dribbles included."""
TRIES = 2
PAUSE = 0.5
"""Seconds between two tries."""


def url_of(value: str, flag: str) -> str:
    """The URL that ``flag`` names: itself, or in the first line of ``@FILE``, which keeps it out
    of process lists. Raises :class:`BadInput`, which does not repeat a URL.
    """
    if not value.startswith("@"):
        return _checked(value, flag)
    try:
        lines = Path(value[1:]).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "not readable as text"
        raise BadInput(f"{flag}: {value[1:]}: {why}") from None
    return _checked(lines[0].strip() if lines else "", f"{flag}: {value[1:]}")


def _checked(url: str, flag: str) -> str:
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well or any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
        raise BadInput(f"{flag}: not an http:// or https:// URL")
    return url


def post(
    url: str, message: Mapping[str, object], *, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Post ``message``; why it did not get through, or an empty text. Never raises.

    A refusal of ours (4xx) is not tried again; proxies of the environment are not used, and
    redirects are not followed.
    """
    why = ""
    for attempt in range(TRIES):
        if attempt:
            sleep(PAUSE)
        why, again = _try(url, json.dumps(message).encode())
        if not again:
            break
    return why


def _try(url: str, body: bytes) -> tuple[str, bool]:
    """Why it failed, and whether another try makes sense."""
    ended: list[tuple[str, bool]] = []
    # In a thread, because a socket's timeout begins anew with every byte that arrives.
    worker = threading.Thread(target=lambda: ended.append(_once(url, body)), daemon=True)
    worker.start()
    worker.join(DEADLINE)
    return ended[0] if ended else (f"no answer within {DEADLINE:g} s", True)


def _once(url: str, body: bytes) -> tuple[str, bool]:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Content-Type": "application/json", "User-Agent": "evenkeel"}
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=DEADLINE)
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
    except TimeoutError:
        return f"no answer within {DEADLINE:g} s", True
    except (OSError, HTTPException) as error:
        # Their texts may hold the host's name, which is part of the URL.
        return type(error).__name__, True
    if 200 <= status < 300:
        return "", False
    return f"it answered {status}", status >= 500
