"""What goes out over HTTP: a message to a webhook, figures to a Pushgateway.

Their URLs are secrets: they are in no message and no error.
"""

from __future__ import annotations

import json
import math
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from fabfile.errors import BadInput
from fabfile.inventory.fields import ascii_url

DEADLINE = 4.0
"""Seconds one try may take, name look-up and a server that dribbles included."""
TRIES = 2
PAUSE = 0.5
"""Seconds between the first two tries."""
WORTH = 1.0
"""Seconds below which another try would say nothing."""


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
        return ascii_url(url)
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from None


@dataclass(frozen=True)
class Parcel:
    """What goes to a URL."""

    body: bytes
    method: str = "POST"
    kind: str = "application/json"
    path: str = ""
    """Put behind the URL's own."""


def post(
    url: str, message: Mapping[str, object], *, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Post ``message``; why it did not get through, or an empty text. Never raises."""
    return deliver(url, Parcel(json.dumps(message).encode()), sleep=sleep)


def deliver(
    url: str,
    parcel: Parcel,
    *,
    tries: int = TRIES,
    within: float = math.inf,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Send ``parcel``; why it did not get through, or an empty text. Never raises.

    At most ``tries`` times, with pauses that double, and no longer than ``within`` seconds in all.
    A refusal of ours (4xx) is not tried again; proxies of the environment are not used, and
    redirects are not followed.
    """
    ends, why = time.monotonic() + within, ""
    for attempt in range(tries):
        if attempt:
            pause = PAUSE * 2 ** (attempt - 1)
            if time.monotonic() + pause + WORTH >= ends:
                break
            sleep(pause)
        why, again = _try(url, parcel, min(DEADLINE, ends - time.monotonic()))
        if not again:
            break
    return why


def _try(url: str, parcel: Parcel, deadline: float) -> tuple[str, bool]:
    """Why it failed, and whether another try makes sense."""
    ended: list[tuple[str, bool]] = []
    # In a thread, because a socket's timeout begins anew with every byte that arrives.
    worker = threading.Thread(
        target=lambda: ended.append(_once(url, parcel, deadline)), daemon=True
    )
    worker.start()
    worker.join(deadline)
    return ended[0] if ended else (f"no answer within {deadline:.1g} s", True)


def _once(url: str, parcel: Parcel, deadline: float) -> tuple[str, bool]:
    try:
        parts = urlsplit(url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        path = parts.path.rstrip("/") + parcel.path if parcel.path else parts.path or "/"
        path += f"?{parts.query}" if parts.query else ""
        connection = kind(parts.hostname or "", parts.port, timeout=deadline)
        try:
            connection.request(parcel.method, path, parcel.body, _headers(parts, parcel))
            status = connection.getresponse().status
        finally:
            connection.close()
    except TimeoutError:
        return f"no answer within {deadline:.1g} s", True
    except (OSError, HTTPException, ValueError) as error:
        # Their texts may hold the host's name, which is part of the URL.
        return type(error).__name__, True
    if 200 <= status < 300:
        return "", False
    return f"it answered {status}", status >= 500 or status == 429


def _headers(parts: SplitResult, parcel: Parcel) -> dict[str, str]:
    headers = {"Content-Type": parcel.kind, "User-Agent": "evenkeel"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    return headers
