"""A private HAProxy 3.0 in a container on 127.0.0.1, with tiny applications behind it.

For tests of what HAProxy itself does; the whole fleet is the lab's business.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from fabfile.balancers.haproxy.change import change_script, check_change
from fabfile.balancers.haproxy.config import render
from fabfile.balancers.haproxy.observe import poll_script, read_backend
from fabfile.balancers.haproxy.provision import outcome, provision_script
from fabfile.balancers.model import BackendReading, ServerRef
from fabfile.inventory.model import BalancerSpec, Health, Host, Inventory, Service
from fabfile.lab.engine import Docker
from fabfile.lab.images import Images

TEMPLATE = Path(__file__).parents[2] / "templates" / "haproxy.cfg.j2"
FAST = {
    "inter": "1s",
    "fastinter": "100ms",
    "downinter": "200ms",
    "rise": "2",
    "retries": "0",
    "redispatch": "no",
}


def image(docker: Docker, logs: Path) -> str:
    """The lab's HAProxy image; what building it says goes to the folder ``logs``."""
    return Images(docker, logs, lambda *_: None).ensure("haproxy")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of ``count`` neighbouring free ports."""
    for _ in range(200):
        first = free_port()
        with_all = [socket.socket() for _ in range(count)]
        try:
            for offset, probe in enumerate(with_all):
                probe.bind(("127.0.0.1", first + offset))
            return first
        except (OSError, OverflowError):
            continue
        finally:
            for probe in with_all:
                probe.close()
    raise RuntimeError("no free ports")


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlparse(self.path)
        time.sleep(float(parse_qs(url.query).get("s", ["0"])[0]))
        body = b"pong\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@dataclass
class App:
    """An application that can be dead or alive."""

    port: int
    server: _Quiet | None = None

    def start(self) -> None:
        self.server = _Quiet(("127.0.0.1", self.port), _Answer)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


def sh(script: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["sh", "-c", script], input=stdin, capture_output=True, timeout=90)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@dataclass
class Rig:
    folder: Path
    spec: BalancerSpec
    service: Service
    inventory: Inventory
    bind: int
    apps: list[App] = field(default_factory=list)

    def ref(self, server: str) -> ServerRef:
        return ServerRef("lb1", "app", server)

    @property
    def config_file(self) -> Path:
        return Path(self.spec.config)

    def config(self, **options: str) -> str:
        spec = replace(self.spec, options={**self.spec.options, **options})
        service = replace(self.service, balancers=(spec,))
        inventory = replace(self.inventory, services={"app": service})
        return render(inventory, "lb1")[self.spec.config]

    def provision(
        self, text: str, spec: BalancerSpec | None = None, *, drop: bool = True
    ) -> tuple[int, str | None, str]:
        command = provision_script(spec or self.spec, text, drop=drop)
        done = sh(command.script, command.stdin)
        return done.returncode, outcome(done.stdout), done.stderr

    def read(self, spec: BalancerSpec | None = None) -> BackendReading:
        done = sh(poll_script(spec or self.spec, ["app"]))
        assert done.returncode == 0, done.stderr
        return read_backend("lb1", "app", done.stdout)

    def change(self, commands: Sequence[str], spec: BalancerSpec | None = None) -> BackendReading:
        done = sh(change_script(spec or self.spec, commands, read=["app"]))
        assert done.returncode == 0, done.stderr
        check_change("lb1", commands, done.stdout)
        return read_backend("lb1", "app", done.stdout)

    def ask(self, command: str, path: str | None = None) -> str:
        """The raw reply on a socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(path or self.spec.socket)
            connection.sendall(command.encode() + b"\n")
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts).decode()

    def reload(self) -> str:
        assert self.spec.master_socket
        return self.ask("reload", self.spec.master_socket)

    def get(self, path: str = "/", cookie: str | None = None) -> int:
        """One request on a fresh connection; its status, 0 where there was no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.bind, timeout=30)
        try:
            connection.request("GET", path, headers={"Cookie": f"SRV={cookie}"} if cookie else {})
            response = connection.getresponse()
            response.read()
            return response.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def until(self, what: Callable[[BackendReading], bool], seconds: float = 8.0) -> float:
        """Seconds until a reading satisfies ``what``."""
        began = time.monotonic()
        while not what(self.read()):
            assert time.monotonic() - began < seconds, self.read()
            time.sleep(0.01)
        return time.monotonic() - began

    def reset(self) -> None:
        """All applications alive, all servers up and ready at weight 100."""
        for app in self.apps:
            if app.server is None:
                app.start()
        names = self.read().servers
        self.ask(";".join(f"set server app/{name} state ready" for name in names))
        self.ask(";".join(f"set server app/{name} weight 100" for name in names))
        self.until(lambda reading: all(each.in_rotation for each in reading.servers.values()))
        time.sleep(0.4)  # fastinter checks until health is full again


@contextmanager
def rig(name: str) -> Iterator[Rig]:
    """A provisioned HAProxy with three servers, gone afterwards."""
    # Short, because a unix socket's path has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ekrig"))
    container = f"evenkeel-test-{uuid.uuid4().hex[:8]}"
    (folder / "etc").mkdir()
    (folder / "run").mkdir()
    bind, publish = free_port(), free_ports(3)
    spec = BalancerSpec(
        "haproxy",
        ("lb1",),
        "app",
        socket=f"{folder}/run/admin.sock",
        master_socket=f"{folder}/run/master.sock",
        state_file=f"{folder}/run/state",
        container=container,
        template=TEMPLATE,
        config=f"{folder}/etc/haproxy.cfg",
        image=name,
        bind=f"127.0.0.1:{bind}",
        cookie="SRV",
        options=FAST,
    )
    health = Health(path="/ping", contains="pong")
    service = Service(
        "app", "web", ("web1",), "x", None, "/srv/app", instances=3, publish=publish,
        balancers=(spec,), health=health,
    )  # fmt: skip
    hosts = {each: Host(each, "127.0.0.1", "127.0.0.1") for each in ("web1", "lb1")}
    inventory = Inventory(folder / "hosts.yaml", hosts, {}, {"app": service})
    apps = [App(publish + offset) for offset in range(3)]
    made = Rig(folder, spec, service, inventory, bind, apps)
    try:
        for app in apps:
            app.start()
        assert made.provision(made.config()) == (0, "created", "")
        made.reset()
        yield made
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True)
        for app in apps:
            app.stop()
        shutil.rmtree(folder, ignore_errors=True)
