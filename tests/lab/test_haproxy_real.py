"""What a real HAProxy 3.0 does with our scripts."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.balancers.haproxy.change import (
    PARKED,
    AsLeft,
    Expectation,
    admit,
    admit_first,
    change_script,
    check_at,
    check_change,
    park,
    set_state,
    set_weight,
    shutdown_sessions,
    verify,
)
from fabfile.balancers.haproxy.observe import (
    MARKER,
    observer_script,
    parse_poll,
    poll_script,
    read_backend,
    request,
)
from fabfile.balancers.haproxy.parse import Refused
from fabfile.balancers.haproxy.preflight import preflight, preflight_script
from fabfile.balancers.haproxy.sessions import sessions_script, who
from fabfile.balancers.model import BackendReading
from fabfile.lab.engine import Docker
from tests.lab.haproxy_rig import Rig, image, rig, sh

S1, S2 = "web1_app_1", "web1_app_2"
needs_socat = pytest.mark.skipif(shutil.which("socat") is None, reason="no socat here")
"""On a host of the lab it is there; these tests run their scripts on this machine."""


@pytest.fixture(scope="module")
def shared(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig(image(docker, tmp_path_factory.mktemp("image"))) as made:
        yield made


@pytest.fixture
def real(shared: Rig) -> Iterator[Rig]:
    shared.reset()
    yield shared
    if shared.config_file.read_text() != shared.config():
        assert shared.provision(shared.config())[0] == 0


def through(tmp_path: Path, container: bool) -> str:
    """A PATH with everything but socat, so that the script has to use the container."""
    if not container:
        if shutil.which("socat") is None:
            pytest.skip("no socat here")
        return ""
    shadow = tmp_path / "bin"
    shadow.mkdir(exist_ok=True)
    for folder in ("/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for program in Path(folder).iterdir():
            link = shadow / program.name
            if program.name != "socat" and not link.exists():
                link.symlink_to(program)
    return f"PATH={shadow}\nexport PATH\n"


@pytest.mark.parametrize("container", [False, True])
def test_a_change_is_made_saved_and_read_back_in_one_script(
    real: Rig, tmp_path: Path, container: bool
) -> None:
    prefix = through(tmp_path, container)
    commands = (*set_weight(real.ref(S1), 7), *set_state(real.ref(S1), "maint"))
    done = sh(prefix + change_script(real.spec, commands, read=["app"]))
    assert done.returncode == 0, done.stderr
    check_change("lb1", commands, done.stdout)
    reading = read_backend("lb1", "app", done.stdout)
    assert verify(reading, Expectation(real.ref(S1), uweight=7, admin="maint", idle=True)) is None
    assert "0 1 7 100" in Path(str(real.spec.state_file)).read_text()


@pytest.mark.parametrize("container", [False, True])
def test_one_conversation_answers_many_polls(real: Rig, tmp_path: Path, container: bool) -> None:
    script = through(tmp_path, container) + observer_script(real.spec)
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        for backends in (["app"], ["nope", "app"]):
            process.stdin.write(request(backends) + "\n")
            process.stdin.flush()
            lines = []
            while (line := process.stdout.readline()).strip() != MARKER:
                assert line
                lines.append(line)
            assert len(read_backend("lb1", "app", "".join(lines)).servers) == 3
        process.stdin.close()
        assert process.wait(5) == 0


def test_a_refused_command_ends_with_96_and_the_others_are_done(real: Rig) -> None:
    commands = (*set_weight(real.ref("nope"), 0), *set_weight(real.ref(S1), 9))
    done = sh(change_script(real.spec, commands, read=["app"]))
    assert done.returncode == 96
    assert "evenkeel: HAProxy refused: No such server." in done.stderr
    with pytest.raises(Refused, match="No such server"):
        check_change("lb1", commands, done.stdout)
    assert read_backend("lb1", "app", done.stdout).servers[S1].uweight == 9


@needs_socat
def test_every_way_not_to_reach_haproxy_has_its_own_exit_code(real: Rig, tmp_path: Path) -> None:
    stale = real.folder / "run" / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    host = replace(real.spec, container=None, master_socket=None)
    stopped = f"{real.spec.container}-stopped"
    subprocess.run(
        ["docker", "create", "--name", stopped, str(real.spec.image), "true"], capture_output=True
    )
    try:
        cases = [
            ("", replace(host, socket="/run/none.sock"), 91),
            ("", replace(host, socket=str(stale)), 93),
            (through(tmp_path, True), host, 90),
            ("", replace(host, socket="/run/none.sock", container="evenkeel-none"), 94),
            ("", replace(host, socket="/run/none.sock", container=stopped), 94),
            ("", replace(real.spec, socket="/run/none.sock"), 91),
            ("", replace(real.spec, master_socket="/run/none.sock"), 91),
        ]
        for prefix, spec, code in cases:
            done = sh(prefix + poll_script(spec, ["app"]))
            assert (done.returncode, "evenkeel: " in done.stderr) == (code, True), done.stderr
    finally:
        subprocess.run(["docker", "rm", "-f", stopped], capture_output=True)


@needs_socat
def test_a_socket_closed_to_the_user_is_permission_denied(real: Rig) -> None:
    socket_path = Path(real.spec.socket)
    spec = replace(real.spec, container=None, master_socket=None)
    real.folder.chmod(0o755)
    script = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"]
    try:
        for path, mode in ((socket_path, 0o600), (socket_path.parent, 0o700)):
            before = path.stat().st_mode & 0o7777
            path.chmod(mode)
            done = subprocess.run(
                [*script, poll_script(spec, ["app"])], capture_output=True, text=True
            )
            path.chmod(before)
            assert done.returncode == 92, done.stderr
            assert "permission denied" in done.stderr
    finally:
        socket_path.chmod(0o666)
        socket_path.parent.chmod(0o755)


def test_a_socket_without_admin_level_is_seen_by_preflight_and_by_a_change(real: Rig) -> None:
    weak = real.folder / "run" / "weak.sock"
    line = f"    stats socket {weak} mode 666 level operator\n"
    text = real.config().replace("    stats timeout 2m\n", line + "    stats timeout 2m\n")
    assert real.provision(text)[1] == "reloaded"
    spec = replace(real.spec, socket=str(weak))
    found = preflight("lb1", spec, [S1], sh(preflight_script(spec)).stdout)
    assert [item.code for item in found] == ["level"]
    done = sh(change_script(spec, set_weight(real.ref(S1), 0), read=["app"]))
    assert done.returncode == 96
    with pytest.raises(Refused) as caught:
        check_change("lb1", set_weight(real.ref(S1), 0), done.stdout)
    assert caught.value.kind == "permission"


def test_our_own_rendered_configuration_has_nothing_to_complain_about(real: Rig) -> None:
    found = preflight("lb1", real.spec, [S1, S2], sh(preflight_script(real.spec)).stdout)
    assert [item.code for item in found] == ["no-redispatch"]  # the rig asks for that


def test_a_dead_server_is_never_admitted_and_a_live_one_is(real: Rig) -> None:
    """The whole way back, with requests that are never retried. None of them is pinned: such a one
    may come through between ``state drain`` and ``health down``."""
    failures: list[int] = []
    asked = [0]
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            status = real.get()
            asked[0] += 1
            if status != 200:
                failures.append(status)
            time.sleep(0.005)

    clients = [threading.Thread(target=client) for _ in range(2)]
    for each in clients:
        each.start()
    ref = real.ref(S1)
    try:
        for _ in range(5):
            real.change(set_weight(ref, 0))
            real.change(set_state(ref, "maint"))
            for _ in range(2):  # one quiet reading proves nothing yet
                real.until(lambda reading: reading.servers[S1].scur == 0)
            real.apps[0].stop()
            real.change((*admit_first(ref, checked=True), *admit(ref, 100, "ready")))
            time.sleep(1.3)
            assert not real.read().servers[S1].up
            real.apps[0].start()
            real.until(lambda reading: reading.servers[S1].in_rotation)
    finally:
        stop.set()
        for each in clients:
            each.join()
    assert asked[0] > 200
    assert failures == []


def test_a_parked_server_gets_nothing_and_its_checks_go_on(real: Rig) -> None:
    """Its application answers all the while, and a reload changes nothing about it."""
    ref = real.ref(S1)
    seen = real.change((*set_weight(ref, 0), *park(ref))).servers[S1]
    assert (seen.admin, seen.up, seen.check_port) == ("drain", False, PARKED)
    time.sleep(1.5)  # longer than inter: a check that passed would have raised it
    before = real.read()
    assert not before.servers[S1].up
    assert [real.get() for _ in range(20)] == [200] * 20
    assert real.read().servers[S1].stot == before.servers[S1].stot
    real.reload()
    real.until(lambda reading: reading.process != before.process)
    after = real.read().servers[S1]
    assert (after.admin, after.check_port) == ("drain", PARKED)
    real.until(lambda reading: not reading.servers[S1].up)
    real.change((*check_at(ref, 0), *admit(ref, 100, "ready")))
    real.until(lambda reading: reading.servers[S1].in_rotation)


def test_the_checks_of_a_server_that_has_none_can_not_be_sent_elsewhere(real: Rig) -> None:
    """So nobody may try it: ``record_of`` records no port for such a server."""
    text = re.sub(rf"(server {S1} .*)", r"\1 no-check", real.config())
    assert real.provision(text)[1] == "reloaded"
    assert not real.read().servers[S1].checked
    done = sh(change_script(real.spec, park(real.ref(S1)), read=["app"]))
    assert done.returncode == 96


def test_of_many_servers_only_those_that_are_meant_are_carried_and_read(real: Rig) -> None:
    def read(text: str) -> BackendReading:
        return read_backend("lb1", "app", text)

    whole = real.read()
    done = sh(poll_script(real.spec, ["app"], [S2]))
    assert list(read(done.stdout).servers) == [S2]
    assert read(done.stdout).servers[S2] == whole.servers[S2]
    assert set(read(done.stdout).counts) == {S2, "BACKEND"}
    orders = set_weight(real.ref(S1), 9)
    done = sh(change_script(real.spec, orders, read=["app"], servers=[S1]))
    assert done.returncode == 0, done.stderr
    check_change("lb1", orders, done.stdout)
    assert {name: s.uweight for name, s in read(done.stdout).servers.items()} == {S1: 9}
    kept = Path(str(real.spec.state_file)).read_text()
    assert all(name in kept for name in whole.servers), "the file for a reload is whole"


def test_a_change_on_condition_is_made_where_the_server_stands_like_that(real: Rig) -> None:
    orders = (*set_weight(real.ref(S1), 30), *set_state(real.ref(S1), "drain"))
    other = AsLeft(S2, "ready", 100)

    def sent(*only_if: AsLeft) -> int:
        return sh(change_script(real.spec, orders, read=["app"], only_if=only_if)).returncode

    for wrong in (AsLeft(S1, "ready", 7), AsLeft(S1, "maint", 100), AsLeft("gone", "ready", 100)):
        assert sent(other, wrong) == 95
        assert real.read().servers[S1].uweight == 100
    assert sent(other, AsLeft(S1, "ready", 100)) == 0
    assert sent(AsLeft(S1, "drain", 30)) == 0
    real.change((*set_state(real.ref(S1), "maint"),))
    assert sent(AsLeft(S1, "drain", 30)) == 95
    assert sent(AsLeft(S1, "maint", 30)) == 0


def test_a_frontend_of_the_same_name_is_not_taken_for_the_backend(real: Rig) -> None:
    """Asked for ``show stat app``, HAProxy 3.0 answers for the frontend ``app``."""
    text = real.config().replace("frontend app_in\n", "frontend app\n")
    assert text != real.config()
    assert real.provision(text)[1] == "reloaded"
    assert real.ask("show stat app 6 -1").strip().count("\n") == 0
    assert len(real.read().servers) == 3


def test_requests_before_a_reload_are_seen_named_and_cut_in_the_old_process(real: Rig) -> None:
    statuses: list[int] = []
    slow = threading.Thread(target=lambda: statuses.append(real.get("/slow?s=20", cookie=S1)))
    slow.start()
    real.until(lambda reading: reading.servers[S1].scur == 1)
    before = real.read().process
    assert "Success=1" in real.reload()
    reading = real.read()
    assert reading.process != before
    assert (reading.old_workers, reading.servers[S1].scur) == (1, 1)
    named = who(sh(sessions_script(real.spec)).stdout, "app", S1)
    assert [session.process for session in named] == [before]
    assert named[0].client.startswith("127.0.0.1:")
    real.change((*set_state(real.ref(S1), "maint"), *shutdown_sessions(real.ref(S1))))
    slow.join(5)
    assert not slow.is_alive()
    assert statuses != [200]
    real.until(lambda reading: reading.servers[S1].scur == 0)


@pytest.mark.parametrize(
    ("commands", "admin", "up", "uweight"),
    [
        ("set server app/web1_app_1 weight 0", "ready", True, 0),
        ("set server app/web1_app_1 state drain", "drain", True, 100),
        ("set server app/web1_app_1 state maint", "maint", False, 100),
        (
            "set server app/web1_app_1 state drain;set server app/web1_app_1 health down",
            "drain",
            False,
            100,
        ),
    ],
)
def test_a_reload_in_mid_drain_keeps_what_was_ordered(
    real: Rig, commands: str, admin: str, up: bool, uweight: int
) -> None:
    real.apps[0].stop()  # so that no check of its own raises it in between
    if up:
        real.apps[0].start()
    real.change(commands.split(";"))
    assert "Success=1" in real.reload()
    server = real.read().servers[S1]
    assert (server.admin, server.up, server.uweight) == (admin, up, uweight)


def test_without_a_state_file_a_reload_puts_the_server_back(real: Rig) -> None:
    spec = replace(real.spec, state_file=None)
    real.change((*set_weight(real.ref(S1), 0), *set_state(real.ref(S1), "maint")), spec)
    Path(str(real.spec.state_file)).unlink(missing_ok=True)
    real.reload()
    assert real.read().servers[S1].in_rotation


def test_an_unresolvable_server_does_not_keep_haproxy_from_starting(real: Rig) -> None:
    text = real.config() + "    server new no-such-host.invalid:80 weight 100\n"
    assert real.provision(text)[1] == "reloaded"
    spec = real.spec
    found = preflight("lb1", spec, ["new"], sh(preflight_script(spec)).stdout)
    assert "unresolved" in [item.code for item in found]
    assert not real.read().servers["new"].in_rotation
    assert real.read().servers[S1].in_rotation


def test_the_rendered_configuration_validates_without_a_warning(real: Rig) -> None:
    folder = real.config_file.parent
    for number, options in enumerate(({}, {"retries": "3", "redispatch": "yes"})):
        (folder / "check.cfg").write_text(real.config(stats_bind="127.0.0.1:1", **options))
        done = sh(
            f"docker exec {real.spec.container} haproxy -c -f {folder}/check.cfg 2>&1; echo rc=$?"
        )
        (folder / "check.cfg").unlink()
        assert "rc=0" in done.stdout, number
        assert "WARNING" not in done.stdout
        assert "ALERT" not in done.stdout


def test_polling_costs_one_short_script(real: Rig) -> None:
    began = time.monotonic()
    for _ in range(5):
        sh(poll_script(real.spec, ["app"]))
    assert time.monotonic() - began < 5 * 0.5
    assert parse_poll(sh(poll_script(real.spec, ["app"])).stdout).level == "admin"
