"""A webhook, or a Pushgateway, on 127.0.0.1 that behaves as a test wants it."""

import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESET = struct.pack("ii", 1, 0)


class Hook:
    """Answers each request with the next of ``answers``: a status, ``hang`` or ``reset``."""

    def __init__(self):
        self.answers, self.heard, self.headers, self.methods = [200], [], [], []
        hook = self
        self.go_on = threading.Event()

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_json = self.headers["Content-Type"] == "application/json"
                hook.heard.append((self.path, json.loads(body) if is_json else body.decode()))
                hook.headers.append(dict(self.headers))
                hook.methods.append(self.command)
                answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                if answer == "hang":
                    hook.go_on.wait(20)
                    return
                if answer == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    self.connection.close()
                    return
                self.send_response(answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_PUT = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """Whoever hung up did so on purpose."""

        self.server = Server(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/T0/secret?x=1"

    @property
    def messages(self):
        """What was posted as JSON."""
        return [body for _, body in self.heard if isinstance(body, dict)]

    def close(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
