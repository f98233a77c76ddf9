"""What became of one request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """The ways a request can fail, in the words a person reads."""

    REFUSED = "connect refused"
    CONNECT_TIMEOUT = "connect timeout"
    RESET = "reset"
    EOF = "closed without answer"
    READ_TIMEOUT = "read timeout"
    INCOMPLETE = "incomplete body"
    HTTP_5XX = "HTTP 5xx"
    HTTP_4XX = "HTTP 4xx"
    WRONG_VERSION = "wrong version"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. Times are seconds since the run began."""

    lane: str
    url: str
    started: float
    finished: float
    failure: Failure | None = None
    detail: str = ""
    version: str | None = None
    server: str | None = None
    late: bool = False
    """The prober itself sent it later than the schedule said."""

    @property
    def latency(self) -> float:
        """Seconds from the start of the request (connecting included) to its last byte."""
        return self.finished - self.started

    @property
    def good(self) -> bool:
        """It was answered, and well."""
        return self.failure is None


def failure_of_status(status: int) -> Failure | None:
    """4xx and 5xx are failures. A redirect is an answer; it is not followed."""
    if status >= 500:
        return Failure.HTTP_5XX
    return Failure.HTTP_4XX if status >= 400 else None


def identity(headers: Mapping[str, str], body: bytes) -> tuple[str | None, str | None]:
    """Which version and which server answered.

    ``X-Version`` and ``X-Instance`` (header names in lower case) count first, then the fields
    ``version``, ``instance`` and ``host`` of a JSON body.
    """
    version, server = headers.get("x-version"), headers.get("x-instance")
    if (version and server) or not body.lstrip().startswith(b"{"):
        return version, server
    try:
        fields = json.loads(body)
    except ValueError:
        return version, server
    return version or _text(fields, "version"), server or _server(fields)


def _server(fields: Mapping[str, object]) -> str | None:
    instance, host = _text(fields, "instance"), _text(fields, "host")
    if instance and host and "/" not in instance:
        return f"{host}/{instance}"
    return instance or host


def _text(fields: Mapping[str, object], key: str) -> str | None:
    value = fields.get(key)
    return str(value) if value else None
