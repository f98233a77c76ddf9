"""Putting a configuration in place on a real HAProxy 3.0, under requests."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.balancers.haproxy.change import set_weight
from fabfile.lab.engine import Docker
from tests.lab.haproxy_rig import Rig, free_port, image, rig

S1 = "web1_app_1"


@pytest.fixture(scope="module")
def real(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(image(docker, tmp_path_factory.mktemp("image"))) as made:
        yield made


def leftovers(real: Rig) -> list[str]:
    return sorted(each.name for each in real.config_file.parent.iterdir())


def test_an_unchanged_file_reloads_nothing(real: Rig) -> None:
    real.provision(real.config())
    before = real.read().process
    assert real.provision(real.config()) == (0, "unchanged", "")
    assert real.read().process == before
    assert leftovers(real) == ["haproxy.cfg"]


def test_what_somebody_else_serves_through_it_does_not_vanish_unasked(real: Rig) -> None:
    shop = "backend shop\n    server s1 127.0.0.1:9\n"
    theirs = f"{real.config()}{shop}listen old\n    bind 127.0.0.1:{free_port()}\n"
    assert real.provision(theirs, drop=True)[0] == 0
    before = real.config_file.read_text()
    code, said, stderr = real.provision(real.config(), drop=False)
    assert (code, said) == (98, None)
    assert "has backend shop, listen old, and the new one has not" in stderr
    assert real.config_file.read_text() == before
    assert leftovers(real) == ["haproxy.cfg"]
    assert real.provision(real.config(), drop=True)[0] == 0
    assert real.provision(theirs, drop=False)[0] == 0, "nobody loses anything by more"
    assert real.provision(real.config(), drop=True)[0] == 0


@pytest.mark.parametrize("master", [True, False])
def test_a_changed_file_is_reloaded_without_a_lost_request_and_keeps_a_drain(
    real: Rig, master: bool
) -> None:
    real.provision(real.config())
    real.reset()
    spec = real.spec if master else replace(real.spec, master_socket=None)
    real.change(set_weight(real.ref(S1), 0))
    statuses: list[int] = []
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            statuses.append(real.get())

    clients = [threading.Thread(target=client) for _ in range(3)]
    for each in clients:
        each.start()
    try:
        for timeout in ("61s", "62s", "63s"):
            assert real.provision(real.config(timeout_server=timeout), spec)[:2] == (0, "reloaded")
            time.sleep(0.2)
    finally:
        stop.set()
        for each in clients:
            each.join()
    assert len(statuses) > 100
    assert set(statuses) == {200}
    assert real.read().servers[S1].uweight == 0
    real.change(set_weight(real.ref(S1), 100))


def test_a_configuration_haproxy_refuses_changes_nothing_and_says_why(real: Rig) -> None:
    real.provision(real.config())
    before = real.read().process
    code, said, stderr = real.provision(real.config() + "\nbogus\n")
    assert (code, said) == (98, None)
    assert "unknown keyword 'bogus'" in stderr
    assert real.config_file.read_text() == real.config()
    assert real.read().process == before
    assert leftovers(real) == ["haproxy.cfg"]


def test_a_reload_that_fails_puts_the_old_file_back_and_serves_on(real: Rig) -> None:
    real.provision(real.config())
    bad = real.config().replace("bind 127.0.0.1:", "bind 192.0.2.1:")
    code, said, stderr = real.provision(bad)
    assert (code, said) == (99, None)
    assert "cannot bind" in stderr
    assert "the old" in stderr.splitlines()[-1]
    assert real.config_file.read_text() == real.config()
    assert real.get() == 200
    assert real.provision(real.config(timeout_server="64s"))[:2] == (0, "reloaded")
    assert leftovers(real) == ["haproxy.cfg"]


def test_a_controller_that_died_before_the_reload_is_made_up_for(real: Rig) -> None:
    real.provision(real.config())
    Path(f"{real.spec.config}.evenkeel-pending").touch()
    assert real.provision(real.config())[:2] == (0, "reloaded")
    assert real.provision(real.config())[:2] == (0, "unchanged")


def test_a_changed_port_is_not_undone_by_the_server_state_file(real: Rig) -> None:
    real.provision(real.config())
    port = real.apps[0].port
    other = free_port()
    text = real.config().replace(f"{S1} 127.0.0.1:{port}", f"{S1} 127.0.0.1:{other}")
    assert real.provision(text)[:2] == (0, "reloaded")
    assert real.read().servers[S1].address == f"127.0.0.1:{other}"
    bad = real.config().replace("bind 127.0.0.1:", "bind 192.0.2.1:")
    assert real.provision(bad)[0] == 99
    assert "Success=1" in real.reload()
    assert real.read().servers[S1].address == f"127.0.0.1:{other}"
    real.provision(real.config())
    real.reset()


def test_a_container_that_died_is_started_again(real: Rig) -> None:
    subprocess.run(["docker", "kill", str(real.spec.container)], capture_output=True, check=True)
    bad = real.config().replace("bind 127.0.0.1:", "bind 192.0.2.1:")
    done = real.provision(bad)
    assert done[0] == 99, done
    assert real.config_file.read_text() == real.config()
    assert real.provision(real.config())[:2] == (0, "created")
    real.until(lambda reading: reading.servers[S1].up)
    assert real.get() == 200


def test_a_container_nobody_may_start_is_said(real: Rig) -> None:
    spec = replace(real.spec, container="evenkeel-none", image=None)
    code, _, stderr = real.provision(real.config(), spec)
    assert code == 94
    assert "names no image" in stderr
    assert leftovers(real) == ["haproxy.cfg"]
