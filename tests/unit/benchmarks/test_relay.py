"""The relay that makes hosts far away carries everything, later."""

import socket
import sys
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "tests"))

from benchmarks.relay import Relay

LATER = 0.05


def echo(listening):
    taken, _ = listening.accept()
    with taken:
        while data := taken.recv(65536):
            taken.sendall(data)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_every_byte_arrives_in_order_and_not_before_its_time():
    with socket.create_server(("127.0.0.1", 0)) as there:
        threading.Thread(target=echo, args=(there,), daemon=True).start()
        here = free_port()
        with (
            Relay(LATER, {here: there.getsockname()[1]}),
            socket.create_connection(("127.0.0.1", here)) as client,
        ):
            sent = bytes(range(256)) * 2000
            began = time.monotonic()
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            first = client.recv(65536)
            assert time.monotonic() - began >= 2 * LATER
            got = bytearray(first)
            while data := client.recv(65536):
                got += data
    assert bytes(got) == sent
