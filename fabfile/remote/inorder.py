"""Nothing is said on an SSH channel after its end.

Paramiko puts a message together under the channel's lock and sends it after that. Its own thread
may answer the host's CLOSE in between; data or an EOF that follows names a channel that the host
has forgotten, and OpenSSH's answer is to hang up (``channel_from_packet_id`` in its channels.c).
One short command is enough, on a machine that is busy: all others on that connection are lost.
"""

from __future__ import annotations

import threading
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE


class _InOrder:
    """What a channel takes for its transport: sends one message at a time, and the CLOSE last."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._order = threading.Lock()
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _send_user_message(self, message: paramiko.Message) -> None:
        with self._order:
            if self._closed:
                return
            self._closed = message.asbytes()[0] == MSG_CHANNEL_CLOSE
            self._transport._send_user_message(message)  # type: ignore[attr-defined]


def in_order(channel: paramiko.Channel) -> paramiko.Channel:
    """``channel``, just opened, which from here on says nothing after its CLOSE."""
    channel.transport = _InOrder(channel.get_transport())  # type: ignore[assignment]
    return channel
