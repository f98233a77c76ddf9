"""A server that misbehaves on request: the path says how. It counts what it was asked."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Server:
    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.asked: Counter[str] = Counter()
        """Requests by path, counted as soon as their headers are in."""
        self.connections = 0
        self.cookies: list[str] = []
        self.version = "0.0.1"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self._open):
            with self._lock:
                if connection.fileno() >= 0:
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        buffer = b""
        number = 0
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = connection.recv(65536)
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                path = head.split(b" ")[1].decode()
                number += 1
                with self._lock:
                    self.asked[path] += 1
                if not self._answer(connection, path, head.decode(), number):
                    return
        except OSError:
            return
        finally:
            with self._lock:
                self._open.discard(connection)
                connection.close()

    def _answer(self, connection: socket.socket, path: str, head: str, number: int) -> bool:
        """Answer one request; whether the connection goes on."""
        name = path.split("?")[0].strip("/").replace("-", "_") or "ok"
        action = getattr(self, f"do_{name}")
        goes_on = action(connection, head, number)
        return bool(goes_on) and "connection: close" not in head.lower()

    def reply(
        self, connection: socket.socket, body: bytes = b"fine", status: int = 200, extra: str = ""
    ) -> bool:
        connection.sendall(
            f"HTTP/1.1 {status} X\r\nX-Version: {self.version}\r\nX-Instance: web1/app_1\r\n"
            f"{extra}Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return True

    def do_ok(self, connection, head, number):
        return self.reply(connection)

    def do_500(self, connection, head, number):
        return self.reply(connection, status=503)

    def do_404(self, connection, head, number):
        return self.reply(connection, status=404)

    def do_redirect(self, connection, head, number):
        return self.reply(connection, status=302, extra="Location: /500\r\n")

    def do_close(self, connection, head, number):
        return False

    def do_reset(self, connection, head, number):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    def do_half_head(self, connection, head, number):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
        return False

    def do_garbage(self, connection, head, number):
        connection.sendall(b"220 mail.example ESMTP\r\n\r\n")
        return False

    def do_truncated(self, connection, head, number):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        return False

    def do_chunked(self, connection, head, number):
        for piece in (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chu",
            b"nked\r\n\r\n5\r",
            b"\nhello\r",
        ):
            connection.sendall(piece)
            time.sleep(0.002)
        connection.sendall(b"\n0\r\n\r\n")
        return True

    def do_chunked_cut(self, connection, head, number):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        return False

    def do_until_close(self, connection, head, number):
        connection.sendall(b'HTTP/1.0 200 OK\r\n\r\n{"version": "0.0.7", "host": "web9"}')
        return False

    def do_slow(self, connection, head, number):
        time.sleep(0.3)
        return self.reply(connection)

    def do_hang(self, connection, head, number):
        connection.recv(1)
        return False

    def do_stall(self, connection, head, number):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        connection.recv(1)
        return False

    def do_idle_close(self, connection, head, number):
        """Answers, then closes the kept connection long before the next request is due."""
        self.reply(connection)
        time.sleep(0.02)
        return False

    def do_second_dropped(self, connection, head, number):
        """The second request on a kept connection is taken and never answered."""
        return self.reply(connection) if number == 1 else False

    def do_cookie(self, connection, head, number):
        sent = [line for line in head.split("\r\n") if line.lower().startswith("cookie:")]
        self.cookies.append(sent[0].partition(":")[2].strip() if sent else "")
        self.given = getattr(self, "given", 0) + (not sent)
        extra = "" if sent else f"Set-Cookie: SRV=s{self.given}; path=/\r\n"
        return self.reply(connection, extra=extra)

    def do_forgets_cookie(self, connection, head, number):
        has = "cookie:" in head.lower()
        self.cookies.append("yes" if has else "")
        value = "SRV=; Max-Age=0" if has else "SRV=a"
        return self.reply(connection, extra=f"Set-Cookie: {value}\r\n")

    def do_ws(self, connection, head, number):
        return self._websocket(connection, head, echoes=10**6)

    def do_ws_going_away(self, connection, head, number):
        return self._websocket(connection, head, echoes=2, farewell=b"\x88\x02\x03\xe9")

    def do_ws_cut(self, connection, head, number):
        return self._websocket(connection, head, echoes=2)

    def do_ws_mute(self, connection, head, number):
        return self._websocket(connection, head, echoes=0, mute=True)

    def _websocket(self, connection, head, *, echoes, farewell=b"", mute=False):
        key = next(
            line.split(": ")[1]
            for line in head.split("\r\n")
            if line.startswith("Sec-WebSocket-Key")
        )
        token = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        connection.sendall(
            "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"X-Instance: web1/app_1\r\nSec-WebSocket-Accept: {token}\r\n\r\n".encode()
        )
        while echoes > 0 or mute:
            data = connection.recv(1024)
            if not data:
                return False
            size, mask = data[1] & 0x7F, data[2:6]
            text = bytes(b ^ mask[i % 4] for i, b in enumerate(data[6 : 6 + size]))
            if data[0] == 0x88:
                connection.sendall(bytes([0x88, size]) + text)
                return False
            if not mute:
                echoes -= 1
                connection.sendall(bytes([0x81, size]) + text)
        connection.sendall(farewell)
        return False


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
