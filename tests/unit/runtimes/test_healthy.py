"""When a new instance counts as healthy: asked of a real server, with a Docker on paper."""

import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fabfile.inventory.model import Health, Instance
from fabfile.runtimes import compose
from tests.unit.runtimes.services import SHOP

pytestmark = pytest.mark.parametrize("sh", ["dash"], indirect=True)
"""The strictest of them: these tests wait a lot."""


class Site:
    """Answers ``status`` and ``body``; ``script``: what to answer next, one after the other."""

    def __init__(self):
        self.status, self.body, self.paths = 200, "pong", []
        self.script = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                site.paths.append(self.path)
                status = site.script.pop(0) if site.script else site.status
                self.send_response(status)
                self.end_headers()
                self.wfile.write(site.body.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def site():
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


QUICK = Health(path="/ping", timeout=0.4, interval=0.02, min_healthy=0.0)


def runs(docker, state="running none 0 rel 0 127.0.0.1"):
    docker.on("ps -q", out="abc\n" if state else "")
    docker.on("inspect", out=f"{state}\n")


def check(sh, site, release="rel", port=None, edit=lambda script: script, **health):
    service = replace(SHOP, health=replace(QUICK, **health), port=site.port)
    instance = Instance("shop", "web1", 1, site.port if port is None else port)
    began = time.monotonic()
    done = sh(edit(compose.health_script(service, instance, release)))
    done.took = time.monotonic() - began
    done.said = done.stdout.decode().strip()
    return done


def test_an_instance_that_answers_is_healthy(sh, docker, site):
    runs(docker)
    done = check(sh, site, contains="pong")
    assert done.returncode == 0, done.said
    assert done.said.startswith("healthy after ")
    assert set(site.paths) == {"/ping"}


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("running none 0 old 0 127.0.0.1", "another release runs: old"),
        ("exited none 0 rel 1", "the container is exited (exit code 1)"),
        ("created none 0 rel 0", "the container is created"),
        ("restarting none 1 rel 3 127.0.0.1", "the container is restarting (exit code 3)"),
        ("running starting 0 rel 0 127.0.0.1", "its own health check says starting"),
        ("running unhealthy 0 rel 0 127.0.0.1", "own health check says unhealthy"),
        ("", "there is no container"),
    ],
)
def test_an_answer_of_something_else_on_the_port_does_not_count(sh, docker, site, state, why):
    runs(docker, state)
    done = check(sh, site)
    assert done.returncode == 69
    assert why.removeprefix("its ") in done.said


def test_a_container_that_keeps_restarting_is_not_waited_for(sh, docker, site):
    runs(docker, "running none 3 rel 137 127.0.0.1")
    done = check(sh, site, port=1, timeout=20)
    assert done.returncode == 69
    assert done.said == "the container keeps restarting (exit code 137)"
    assert done.took < 10


def test_a_container_that_died_is_a_better_reason_than_silence(sh, docker, site):
    runs(docker, "exited none 0 rel 1")
    done = check(sh, site, port=1)
    assert done.said == "the container is exited (exit code 1)"


def test_silence_is_the_reason_where_the_container_runs(sh, docker, site):
    runs(docker)
    assert check(sh, site, port=1).said == "/ping does not answer"


def test_another_status_is_told(sh, docker, site):
    runs(docker)
    site.status = 503
    done = check(sh, site)
    assert (done.returncode, done.said) == (69, "/ping answers 503, not 200")


def test_a_redirect_is_a_status_of_its_own(sh, docker, site):
    runs(docker)
    site.status = 302
    assert check(sh, site, status=302).returncode == 0


@pytest.mark.parametrize(
    "text", ["po*", "p?ng", "[p]ong", "$(id)", "`id`", "'", '"', "\\", "-n", "ok; exit 0", "é €"]
)
def test_contains_is_text_and_nothing_else(sh, docker, site, text):
    runs(docker)
    assert check(sh, site, contains=text, timeout=0.2).returncode == 69
    site.body = f"<p>{text}</p>\n"
    assert check(sh, site, contains=text).returncode == 0


def test_contains_is_not_found_in_the_status(sh, docker, site):
    runs(docker)
    assert check(sh, site, contains="200", timeout=0.2).returncode == 69


@pytest.mark.parametrize("path", ["/p?a={b,c}&d=[1-3]", "/it's", "/$(id)", "/a*b", "/x#y"])
def test_a_path_is_asked_for_once_and_as_it_is(sh, docker, site, path):
    runs(docker)
    assert check(sh, site, path=path).returncode == 0
    assert set(site.paths) == {path.partition("#")[0]}


def test_without_a_published_port_the_containers_own_address_is_asked(sh, docker, site):
    runs(docker)
    assert check(sh, site, port=0).returncode == 0


def test_on_the_hosts_own_network_the_host_is_asked(sh, docker, site):
    runs(docker, "running none 0 rel 0")
    assert check(sh, site, port=0).returncode == 0


def test_it_has_to_stay_healthy_for_a_while(sh, docker, site):
    runs(docker)
    done = check(sh, site, min_healthy=0.5, timeout=5)
    assert done.returncode == 0
    assert done.took >= 0.5


def test_one_failure_in_between_begins_the_while_anew(sh, docker, site):
    runs(docker)
    site.script = [200, 200, 200, 500]
    done = check(sh, site, min_healthy=0.4, timeout=5, interval=0.1)
    assert done.returncode == 0
    assert int(done.said.split()[2]) >= 700


def test_one_that_never_stays_healthy_is_given_up(sh, docker, site):
    runs(docker)
    site.script = [200, 500] * 100
    done = check(sh, site, min_healthy=0.3, timeout=0.8, interval=0.05)
    assert done.returncode == 69
    assert done.said == "healthy at first, then /ping answers 500, not 200"


def test_patience_ends_when_it_said(sh, docker, site):
    runs(docker)
    site.status = 500
    done = check(sh, site, timeout=1.0)
    assert 0.9 < done.took < 3


@pytest.mark.parametrize("uptime", ["0.08", "0.00", "8.09", "100.05", "1234567.99"])
def test_a_host_that_has_just_booted_can_count(sh, docker, site, tmp_path, uptime):
    (tmp_path / "uptime").write_text(f"{uptime} 1.00\n")
    runs(docker)
    done = check(sh, site, edit=lambda s: s.replace("/proc/uptime", f"{tmp_path}/uptime"))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.said == "healthy after 0 ms"
