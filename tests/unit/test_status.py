"""`inv status` from flags to exit code, with hosts on paper."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fabfile.drivers.status import look
from fabfile.inventory import loader
from fabfile.jobs import status
from fabfile.remote.fake import FakeTransport
from fabfile.remote.pool import Remotes

HOSTS = """\
version: 1
hosts:
  web1: {address: 10.0.0.11}
  web2: {address: 10.0.0.12}
services:
  shop: {group: all, image: registry.lab/shop, publish: 3001}
"""


def inspected(**changes):
    raw = {"name": "/shop-app_1-1", "image": "registry.lab/shop:1.0", "status": "running",
           "started": "2026-11-20T13:26:51Z", "project": "shop", "service": "app_1",
           "version": "1.0"}  # fmt: skip
    return json.dumps(raw | changes)


def said(container):
    return (
        f"== now\n1795181411\n== docker\nok\n== containers\n{container}\n== project shop\npresent\n"
    )


class World:
    """An inventory and its hosts; ``stop()`` breaks one container, ``start()`` mends it."""

    def __init__(self, tmp_path):
        self.path = tmp_path / "hosts.yaml"
        self.path.write_text(HOSTS)
        self.hosts = {name: FakeTransport(name) for name in ("web1", "web2")}
        self.hosts["web1"].on("", lambda _: said(self.container))
        self.hosts["web2"].on("", said(inspected()))
        self.start()

    def start(self):
        self.container = inspected()

    def stop(self):
        self.container = inspected(status="exited", exit_code=1)

    def run(self, **flags):
        return status.run_status(status.Flags(**{"inventory": str(self.path), **flags}))


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = World(tmp_path)
    monkeypatch.setattr(
        status, "Remotes", lambda found: Remotes(found, make=lambda host: made.hosts[host.name])
    )
    monkeypatch.delenv("EVENKEEL_INVENTORY", raising=False)
    return made


class Hook:
    def __init__(self):
        self.status, self.heard = 200, []
        hook = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.heard.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret"


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_all_is_well_and_said_so(world, capsys):
    assert world.run() == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "OK: 2 instances on 2 hosts run 1.0"
    assert err == ""


def test_each_host_is_asked_once_and_its_connection_given_up(world):
    found = loader.load(world.path)
    (shop,) = found.services.values()
    remotes = Remotes(found, make=lambda host: world.hosts[host.name])
    look(found, [shop], {"shop": shop.hosts}, remotes)
    for host in world.hosts.values():
        assert len(host.commands) == 1
        assert host.closed, "with hundreds of hosts, not all of them stay connected"
    remotes.close()


def test_one_host_out_of_reach_leaves_the_others(world, capsys):
    world.hosts["web2"].down = True
    assert world.run(json=True) == 3
    seen = json.loads(capsys.readouterr().out)
    assert seen["unreachable"].keys() == {"web2"}
    assert [row["container"] for row in seen["instances"]] == ["running", "?"]


def test_an_answer_that_got_lost_is_a_host_out_of_reach(world, capsys):
    world.hosts["web2"].on("", lose="after")
    assert world.run(nagios=True) == 3
    assert "web2: can't be asked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"json": True, "quiet": True}, "--json and --quiet exclude each other"),
        ({"service": "shap"}, "did you mean shop"),
        ({"hosts": "web9"}, "--hosts: no host 'web9'"),
        ({"hosts": ","}, "--hosts: "),
        ({"inventory": "/nowhere"}, "--inventory: /nowhere does not exist"),
        ({"notify": "hooks.example/secret"}, "--notify: not an http:// or https:// URL"),
    ],
)
def test_a_mistake_is_one_line_and_unknown_and_nothing_is_contacted(world, capsys, flags, word):
    assert world.run(**flags) == 3
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("UNKNOWN: ")
    assert word in line
    assert "secret" not in line
    assert out == ""
    assert not any(host.commands for host in world.hosts.values())


def test_quiet_says_when_it_breaks_and_when_it_recovers(world, capsys):
    lines = []
    for change in (world.start, world.stop, world.stop, world.start, world.start):
        change()
        code = world.run(quiet=True)
        out, err = capsys.readouterr()
        assert err == ""
        lines.append((code, out[:9].strip()))
    assert lines == [(0, ""), (2, "CRITICAL:"), (2, "CRITICAL:"), (0, "RECOVERED"), (0, "")]


def test_selections_remember_apart(world, capsys):
    world.stop()
    assert world.run(quiet=True, hosts="web1") == 2
    world.start()
    assert world.run(quiet=True, hosts="web2") == 0
    assert "RECOVERED" not in capsys.readouterr().out
    assert world.run(quiet=True, hosts="web1") == 0
    assert "RECOVERED" in capsys.readouterr().out


def test_the_webhook_is_told_of_changes_and_again_when_it_did_not_hear(world, hook, capsys):
    def run():
        code = world.run(notify=hook.url)
        err = capsys.readouterr().err
        assert "secret" not in err
        return code, err

    assert run() == (0, "")
    assert hook.heard == []
    world.stop()
    hook.status = 500
    code, err = run()
    assert code == 2
    assert err == "--notify: the webhook was not told: it answered 500; the next run tries again\n"
    hook.status = 200
    hook.heard.clear()
    assert run() == (2, "")
    assert run() == (2, "")
    assert [m["text"][:9] for m in hook.heard] == ["CRITICAL:"]
    world.start()
    assert run() == (0, "")
    assert hook.heard[-1]["text"].startswith("RECOVERED: OK: 2 instances")
    assert hook.heard[-1]["exit_code"] == 0


def test_files_that_cannot_be_used_are_told_and_change_no_exit_code(world, tmp_path, capsys):
    (tmp_path / "state.json").write_text("{")
    none = tmp_path / "none"
    code = world.run(quiet=True, prometheus=f"{none}/x.prom", state=f"{tmp_path}/state.json")
    out, err = capsys.readouterr()
    assert (code, out) == (0, "")
    prom, state = err.splitlines()
    assert prom == f"--prometheus: {none}/x.prom: No such file or directory"
    assert state == f"{tmp_path}/state.json: is broken and is begun anew"


def test_a_service_of_several_may_be_named_or_not(world, capsys):
    world.path.write_text(HOSTS + "  twin: {group: all, image: x/twin, project_dir: /srv/t}\n")
    assert world.run(hosts="web1", service="shop") == 0
    assert world.run(hosts="web1", json=True) == 2
    seen = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {v["service"] for v in seen["verdicts"]} == {"twin"}
