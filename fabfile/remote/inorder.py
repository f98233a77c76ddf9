"""Nothing is said on an SSH channel after its end.

Paramiko puts a message together under the channel's lock and sends it after that. Its own thread
may answer the host's CLOSE in between; data or an EOF that follows names a channel that the host
has forgotten, and OpenSSH's answer is to hang up (``channel_from_packet_id`` in its channels.c).
One short command is enough, on a machine that is busy: all others on that connection are lost.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE

from fabfile.remote.patience import LOOK, Deadline


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


class _Answered(threading.Event):
    """Rings when the host has answered a request, for which Paramiko would wait for ever.

    It would where the channel was closed between two of its lines, or the host stands still.
    """

    def __init__(self, channel: paramiko.Channel, seconds: float) -> None:
        super().__init__()
        # No cycle: a channel that nobody holds any more closes at once, and not in whatever thread
        # collects garbage, which may be the one that is sending.
        self._channel = weakref.ref(channel)
        self._seconds = seconds

    def wait(self, timeout: float | None = None) -> bool:
        deadline = Deadline(self._seconds if timeout is None else timeout)
        while not super().wait(max(0.0, min(LOOK, deadline.left()))):
            channel = self._channel()
            if channel is None or channel.closed:
                raise EOFError("the connection broke")
            if deadline.left() <= 0:
                raise TimeoutError("no answer to a request")
        return True


def in_order(channel: paramiko.Channel, seconds: float) -> paramiko.Channel:
    """``channel``, just opened: it says nothing after its CLOSE, and waits for no answer for ever.

    ``exec_command`` raises ``TimeoutError`` after ``seconds``, and ``EOFError`` after its end.
    """
    channel.transport = _InOrder(channel.get_transport())  # type: ignore[assignment]
    channel.event = _Answered(channel, seconds)
    return channel
