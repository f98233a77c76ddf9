"""An SSH channel says nothing after its CLOSE, whoever had something to say."""

import threading

import paramiko
import pytest
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_REQUEST,
)

from fabfile.remote.inorder import in_order


class Recorder:
    """A transport that writes down what it is to send."""

    def __init__(self):
        self.kinds = []
        self.before = lambda message: None

    def _send_user_message(self, message):
        self.before(message)
        self.kinds.append(message.asbytes()[0])

    def _unlink_channel(self, number):
        pass

    def is_active(self):
        return True

    def get_log_channel(self):
        return "paramiko.transport"

    def _sanitize_packet_size(self, size):
        return size


def opened():
    transport = Recorder()
    channel = paramiko.Channel(7)
    channel._set_transport(transport)
    channel._set_window(1 << 20, 1 << 15)
    channel._set_remote_channel(3, 1 << 20, 1 << 15)
    return in_order(channel, 0.0), transport


def late(channel, kind):
    """The message that a thread has put together and has not sent yet."""
    if kind == MSG_CHANNEL_EOF:
        with channel.lock:
            return channel._send_eof()
    message = paramiko.Message()
    message.add_byte(bytes([kind]))
    message.add_int(channel.remote_chanid)
    return message


def test_a_channel_goes_about_its_business():
    channel, transport = opened()
    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    channel.transport._send_user_message(message)
    channel.sendall(b"some")
    channel.shutdown_write()
    channel.close()
    assert transport.kinds == [
        MSG_CHANNEL_REQUEST,
        MSG_CHANNEL_DATA,
        MSG_CHANNEL_EOF,
        MSG_CHANNEL_CLOSE,
    ]
    assert channel.get_transport().is_active()


def test_an_eof_or_data_that_comes_after_the_answer_to_the_hosts_close_is_not_sent():
    for kind in (MSG_CHANNEL_EOF, MSG_CHANNEL_DATA):
        channel, transport = opened()
        message = late(channel, kind)
        channel._handle_close(paramiko.Message())
        channel.transport._send_user_message(message)
        assert transport.kinds[-1] == MSG_CHANNEL_CLOSE
        assert kind not in transport.kinds, "its channel is closed"


def test_the_answer_to_the_hosts_close_waits_for_what_is_being_sent():
    channel, transport = opened()
    sending, go_on = threading.Event(), threading.Event()

    def before(message):
        if message.asbytes()[0] == MSG_CHANNEL_EOF:
            sending.set()
            assert go_on.wait(10)

    transport.before = before
    ends = threading.Thread(target=channel.shutdown_write)
    ends.start()
    assert sending.wait(10)
    closes = threading.Thread(target=channel._handle_close, args=[paramiko.Message()])
    closes.start()
    closes.join(0.05)
    assert closes.is_alive()
    go_on.set()
    ends.join(10)
    closes.join(10)
    assert transport.kinds == [MSG_CHANNEL_EOF, MSG_CHANNEL_CLOSE]


def test_a_request_without_an_answer_is_given_up():
    channel, transport = opened()
    with pytest.raises(TimeoutError):
        channel.exec_command("true")
    assert transport.kinds == [MSG_CHANNEL_REQUEST]


def test_a_channel_that_closes_before_its_request_is_sent_is_no_reason_to_wait():
    channel, transport = opened()

    def breaks(_):
        with channel.lock:
            channel._set_closed()
        channel.event.clear()  # as Paramiko does a moment before it sends

    transport.before = breaks
    with pytest.raises(EOFError):
        channel.exec_command("true")
