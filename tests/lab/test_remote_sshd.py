"""The door to a host against a real sshd of our own on 127.0.0.1, which tests may break.

It logs in as the user who runs the tests; skipped where no sshd is installed.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko
import pytest

from fabfile.errors import HostKeyRefused, OutcomeUnknown, RemoteError, Unreachable
from fabfile.inventory.model import Host, Inventory, Ssh
from fabfile.remote.base import Command, Running, Transport
from fabfile.remote.pool import Remotes
from fabfile.remote.quoting import answer_lines, sh

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd here")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def keygen(path: Path, kind: str = "ed25519") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)


def runs(pid: str) -> bool:
    """Whether the process is more than a name that nobody has collected."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_soon(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@contextlib.contextmanager
def stands_still(host: Transport, command: Command, folder: Path) -> Iterator[Running]:
    """``command``, which has begun on a host whose sshd is stopped as long as this lasts."""
    pid = int(host.run(Command("cut -d' ' -f4 /proc/$PPID/stat")).stdout)
    begun = folder / "begun"
    running = host.start(replace(command, script=sh("touch %s; ", begun) + command.script))
    while not begun.exists():
        time.sleep(0.005)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield running
    finally:
        os.kill(pid, signal.SIGCONT)


@dataclass
class Sshd:
    """A private sshd: one process, several ports, so several hosts."""

    folder: Path
    ports: list[int]
    process: subprocess.Popen[bytes] | None = None

    def start(self, *settings: str) -> None:
        config = self.folder / "sshd_config"
        lines = [
            *settings,
            "ListenAddress 127.0.0.1",
            *(f"Port {port}" for port in self.ports),
            f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/user_key.pub",
            f"PidFile {self.folder}/pid",
            "StrictModes no",
            "UsePAM no",
            "PermitRootLogin prohibit-password",
            f"SetEnv HOME={self.folder}",  # a tester's slow .bashrc is not what is measured
        ]
        config.write_text("\n".join(lines) + "\n")
        assert SSHD is not None
        Path("/run/sshd").mkdir(exist_ok=True)
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=log)
        log.close()
        give_up = time.monotonic() + 10
        while self.listening() < len(self.ports):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < give_up, (self.folder / "log").read_text()
            time.sleep(0.02)

    def listening(self) -> int:
        """Ports that are open. Read from the kernel: a probe would count as a login."""
        table = Path("/proc/net/tcp").read_text().splitlines()[1:]
        local = {line.split()[1] for line in table if line.split()[3] == "0A"}
        return sum(f"0100007F:{port:04X}" in local for port in self.ports)

    def sessions(self) -> list[int]:
        """The process of each connection."""
        assert self.process is not None
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> None:
        """End it and every connection to it."""
        if self.process is None:
            return
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.terminate()
        self.process.wait()
        self.process = None

    def connections(self) -> int:
        """How many logins the log tells of."""
        return (self.folder / "log").read_text().count("Accepted publickey")

    def trust(self) -> None:
        """Write this sshd's key down for all ports."""
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        lines = [f"[127.0.0.1]:{port} {key}\n" for port in self.ports]
        (self.folder / "known_hosts").write_text("".join(lines))

    def host(self, name: str, port: int, **ssh: object) -> Host:
        settings = Ssh(
            user=getpass.getuser(),
            port=port,
            known_hosts=self.folder / "known_hosts",
            identity_file=self.folder / "user_key",
        )
        changed = replace(settings, **ssh)  # type: ignore[arg-type]
        return Host(name, "127.0.0.1", "127.0.0.1", changed)

    def fleet(self, **ssh: object) -> Inventory:
        hosts = {f"web{n}": self.host(f"web{n}", p, **ssh) for n, p in enumerate(self.ports, 1)}
        return Inventory(self.folder / "hosts.yaml", hosts, {}, {})


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    keygen(tmp_path / "host_key")
    keygen(tmp_path / "user_key")
    server = Sshd(tmp_path, free_ports(5))
    server.trust()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def remotes(sshd: Sshd) -> Iterator[Remotes]:
    with Remotes(sshd.fleet()) as made:
        assert made.connect(f"web{n}" for n in range(1, 6)) == {}
        yield made


def test_output_errors_and_exit_code_come_back(remotes: Remotes) -> None:
    result = remotes.get("web1").run(Command(sh("echo %s; echo e >&2; exit 3", "it's $HOME")))
    assert (result.stdout, result.stderr, result.exit_code) == ("it's $HOME\n", "e\n", 3)


def test_two_hundred_commands_side_by_side_on_five_hosts_all_answer(
    sshd: Sshd, remotes: Remotes
) -> None:
    hosts = [remotes.get(f"web{n % 5 + 1}") for n in range(200)]
    running = [host.start(Command(sh("echo %s", n))) for n, host in enumerate(hosts)]
    results = [one.wait() for one in running]
    assert [one.stderr for one in results] == [""] * 200
    assert [one.stdout for one in results] == [f"{n}\n" for n in range(200)]
    assert sshd.connections() == 5


def test_a_flood_on_both_streams_neither_blocks_nor_loses_a_byte(remotes: Remotes) -> None:
    script = "head -c 10000000 /dev/zero | tr '\\0' o; head -c 10000000 /dev/zero | tr '\\0' e >&2"
    result = remotes.get("web1").run(Command(script))
    assert result.exit_code == 0
    assert result.stdout == "o" * 10_000_000
    assert result.stderr == "e" * 10_000_000


def test_five_megabytes_of_stdin_arrive_while_output_streams_back(remotes: Remotes) -> None:
    data = b"".join(b"%07d\n" % n for n in range(625_000))
    result = remotes.get("web1").run(Command("tee /dev/stderr", stdin=data))
    assert result.stdout == result.stderr == data.decode()


def test_stdin_that_nobody_reads_is_no_error(remotes: Remotes) -> None:
    assert remotes.get("web1").run(Command("true", stdin=b"x" * 5_000_000)).exit_code == 0


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; while :; do sleep 1; done"])
def test_a_deadline_is_kept_on_the_host_itself(
    remotes: Remotes, tmp_path: Path, script: str
) -> None:
    alive = tmp_path / "alive"
    host = remotes.get("web1")
    result = host.run(Command(sh(f"echo $$ > %s; echo so far; {script}", alive), timeout=1))
    assert (result.exit_code, result.stdout) == (124, "so far\n")
    assert "deadline of 1 s" in result.stderr
    ends = time.monotonic() + 10  # who was killed is gone when its parent has asked for it
    while runs(alive.read_text().strip()) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not runs(alive.read_text().strip())


@pytest.mark.skipif(shutil.which("busybox") is None, reason="no busybox here")
def test_a_deadline_is_understood_from_busybox_too(remotes: Remotes, tmp_path: Path) -> None:
    # What sshd hands over when a busybox timeout ended the script.
    running = remotes.get("web1").run(
        Command("exec busybox timeout -k 1 1 sleep 60 || exit $?", timeout=1)
    )
    assert running.exit_code == 124


def test_a_child_that_keeps_stdout_open_does_not_hold_us_up(remotes: Remotes) -> None:
    began = time.monotonic()
    result = remotes.get("web1").run(Command("sleep 20 & echo started"))
    assert (result.exit_code, result.stdout) == (0, "started\n")
    assert time.monotonic() - began < 10


def test_a_connection_that_breaks_in_mid_command_leaves_the_outcome_unknown(
    remotes: Remotes, tmp_path: Path
) -> None:
    # The session's sshd is the grandparent of the script: killed, as by a power cut.
    done = tmp_path / "done"
    host = remotes.get("web1")
    kill = "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)"
    other = host.start(Command("sleep 5"))
    result = host.run(Command(sh(f"sleep 0.3; {kill}; sleep 0.5; echo yes > %s", done)))
    assert result.exit_code is None
    assert "may or may not have run" in result.stderr
    assert other.wait().exit_code is None
    deadline = time.monotonic() + 5
    while not done.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert done.read_text() == "yes\n"  # it did run: never take a broken connection for a failure
    assert host.run(Command("echo back")).stdout == "back\n"


def test_a_server_that_is_gone_is_unreachable_and_comes_back(sshd: Sshd, remotes: Remotes) -> None:
    host = remotes.get("web2")
    sshd.stop()
    with pytest.raises(Unreachable, match=r"web2: connection refused at 127.0.0.1:\d+"):
        host.run(Command("true"))
    gone = host.start(Command("true")).wait()
    assert gone.exit_code is None
    assert "web2: connection refused at" in gone.stderr
    sshd.start()
    assert host.run(Command("echo back")).stdout == "back\n"


def test_what_runs_on_a_connection_that_was_slow_ends_well_beside_a_new_one(
    sshd: Sshd, remotes: Remotes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabfile.remote.ssh.OPEN_TIMEOUT", 0.5)
    host = remotes.get("web1")
    with stands_still(host, Command("sleep 1; echo through"), tmp_path) as running:
        assert host.run(Command("echo beside it")).stdout == "beside it\n"
    result = running.wait()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "through\n", "")
    assert sshd.connections() == 6
    remotes.close()
    assert_soon(lambda: not sshd.sessions())


STOPPED = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parents[1])]
from fabfile.remote import channel
from fabfile.remote.base import Command, Running, Transport
from fabfile.remote.pool import Remotes
from test_remote_sshd import Sshd

channel.PATIENCE = 1.0
with Remotes(Sshd(Path(sys.argv[2]), [int(sys.argv[3])]).fleet()) as remotes:
    host = remotes.get("web1")
    ends = host.start(Command("sleep 0.5; echo through", timeout=1))
    print("begun", flush=True)
    print(ends.wait())
    print(host.run(Command("echo and on")).stdout)
"""


def test_a_program_that_was_stopped_hears_what_was_said_meanwhile(sshd: Sshd) -> None:
    argv = [sys.executable, "-c", STOPPED, str(Path(__file__).parent), str(sshd.folder)]
    process = subprocess.Popen([*argv, str(sshd.ports[0])], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)  # it would have given up after 2
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=20)
    assert "exit_code=0, stdout='through\\n'" in said
    assert "and on" in said


def test_a_heartbeat_is_never_queued_behind_running_commands(remotes: Remotes) -> None:
    host = remotes.get("web1")
    busy = [host.start(Command("sleep 2")) for _ in range(20)]
    began = time.monotonic()
    lines = host.converse(Command(answer_lines('echo "<$line>"', "END")), marker="END")
    assert lines.ask("beat", timeout=1.5) == "<beat>\n"
    assert time.monotonic() - began < 1.5
    lines.close()
    assert {one.wait().exit_code for one in busy} == {0}


def test_what_is_urgent_is_never_queued_behind_running_commands(remotes: Remotes) -> None:
    host = remotes.get("web1")
    busy = [host.start(Command("sleep 2")) for _ in range(20)]
    began = time.monotonic()
    for _ in range(3):
        assert host.run(Command("echo beat", urgent=True)).stdout == "beat\n"
    assert time.monotonic() - began < 1.5
    assert {one.wait().exit_code for one in busy} == {0}


def test_a_late_answer_is_never_taken_for_the_next_one(remotes: Remotes) -> None:
    script = answer_lines('[ "$line" = slow ] && sleep 1; echo "$line"', "END")
    lines = remotes.get("web1").converse(Command(script, label="socket"), marker="END")
    assert lines.ask("quick", timeout=5) == "quick\n"
    with pytest.raises(OutcomeUnknown, match=r"web1: socket: no answer within 0.2 s"):
        lines.ask("slow", timeout=0.2)
    with pytest.raises(OutcomeUnknown):
        lines.ask("next", timeout=5)


def test_conversations_give_their_place_back(remotes: Remotes) -> None:
    host = remotes.get("web1")
    for _ in range(12):
        lines = host.converse(Command(answer_lines("echo x", "END")), marker="END")
        assert lines.ask("", timeout=5) == "x\n"
        lines.close()


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_an_sshd_that_allows_few_sessions_is_slower_but_works(sshd: Sshd, limit: int) -> None:
    sshd.stop()
    sshd.start(f"MaxSessions {limit}")
    with Remotes(sshd.fleet()) as remotes:
        host = remotes.get("web1")
        running = [host.start(Command(f"sleep 0.2; echo {n}")) for n in range(9)]
        results = [one.wait() for one in running]
        assert [one.stderr for one in results] == [""] * 9
        assert [one.stdout for one in results] == [f"{n}\n" for n in range(9)]


def test_an_sshd_without_a_session_to_spare_says_which_setting_it_is(sshd: Sshd) -> None:
    sshd.stop()
    sshd.start("MaxSessions 1")
    with Remotes(sshd.fleet()) as remotes:
        host = remotes.get("web1")
        lines = host.converse(Command(answer_lines("echo x", "END")), marker="END")
        with pytest.raises(Unreachable, match="raise its MaxSessions"):
            host.run(Command("true"))
        assert lines.ask("", timeout=5) == "x\n"


@pytest.mark.parametrize("limit", [1, 2])
def test_a_conversation_gives_way_to_commands_where_sessions_are_few(
    sshd: Sshd, limit: int
) -> None:
    sshd.stop()
    sshd.start(f"MaxSessions {limit}")
    talk = Command(answer_lines("echo x", "END"), gives_way=True)
    with Remotes(sshd.fleet()) as remotes:
        host = remotes.get("web1")
        lines = host.converse(talk, marker="END")
        assert lines.ask("", timeout=5) == "x\n"
        running = [host.start(Command(f"sleep 0.2; echo {n}")) for n in range(4)]
        assert [one.wait().stdout for one in running] == [f"{n}\n" for n in range(4)]
        with pytest.raises(OutcomeUnknown):
            lines.ask("", timeout=5)
        with pytest.raises(RemoteError, match="no session beside"):
            host.converse(talk, marker="END")


def test_a_conversation_that_gives_way_takes_no_place_of_another(remotes: Remotes) -> None:
    host = remotes.get("web1")
    talk = answer_lines("echo x", "END")
    commands = [Command(talk, gives_way=True), Command(talk), Command(talk)]
    found = [host.converse(command, marker="END") for command in commands]
    assert [lines.ask("", timeout=5) for lines in found] == ["x\n"] * 3
    for lines in found:
        lines.close()


def test_a_busy_sshd_that_drops_logins_is_tried_again(sshd: Sshd) -> None:
    sshd.stop()
    sshd.start("MaxStartups 2:80:4")
    with Remotes(sshd.fleet()) as remotes:
        assert remotes.connect(f"web{n}" for n in range(1, 6)) == {}


def test_a_changed_host_key_is_refused_before_the_login(sshd: Sshd) -> None:
    sshd.stop()
    for name in ("host_key", "host_key.pub"):
        (sshd.folder / name).unlink()
    keygen(sshd.folder / "host_key")
    sshd.start()
    for mode in ("strict", "accept-new"):
        with Remotes(sshd.fleet(host_keys=mode)) as remotes:
            failed = remotes.connect(["web1", "web2"])
        assert [type(error) for error in failed.values()] == [HostKeyRefused] * 2
        assert "NOT the one on file" in str(failed["web1"])
    assert sshd.connections() == 0


def test_an_unknown_host_key_is_refused_written_down_or_ignored_as_asked(sshd: Sshd) -> None:
    known = sshd.folder / "known_hosts"
    known.unlink()
    with Remotes(sshd.fleet()) as remotes:
        assert isinstance(remotes.connect(["web1"])["web1"], HostKeyRefused)
    with Remotes(sshd.fleet(host_keys="off")) as remotes:
        assert remotes.connect(["web1"]) == {}
    assert not known.exists()
    with Remotes(sshd.fleet(host_keys="accept-new")) as remotes:
        assert remotes.connect(["web1", "web2"]) == {}
    assert len(known.read_text().splitlines()) == 2
    with Remotes(sshd.fleet()) as remotes:
        assert remotes.connect(["web1", "web2"]) == {}


def test_a_host_with_several_keys_is_asked_for_the_one_on_file(sshd: Sshd) -> None:
    sshd.stop()
    keygen(sshd.folder / "second", "rsa")
    sshd.start(f"HostKey {sshd.folder}/second")
    key = " ".join((sshd.folder / "second.pub").read_text().split()[:2])
    (sshd.folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.ports[0]} {key}\n")
    with Remotes(sshd.fleet()) as remotes:
        assert remotes.connect(["web1"]) == {}


def test_three_hosts_behind_a_gateway_share_one_connection_to_it(sshd: Sshd) -> None:
    gateway = sshd.host("bastion", sshd.ports[0])
    behind = {
        f"app{n}": sshd.host(f"app{n}", port, gateway="bastion")
        for n, port in enumerate(sshd.ports[1:4], 1)
    }
    inventory = Inventory(sshd.folder / "hosts.yaml", {**behind, "bastion": gateway}, {}, {})
    with Remotes(inventory) as remotes:
        assert remotes.connect(behind) == {}
        assert [remotes.get(name).run(Command("echo hi")).stdout for name in behind] == ["hi\n"] * 3
        assert sshd.connections() == 4
        # The gateway dies: every host behind it comes back over one new connection.
        for pid in sshd.sessions():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)
        running = [remotes.get(name).start(Command("echo hi")) for name in behind]
        assert [one.wait().stdout for one in running] == ["hi\n"] * 3
        assert sshd.connections() == 8
        # Through a gateway no kernel tells that nobody is there: what is set aside is closed.
        app1 = remotes.get("app1")
        hangs = app1.start(Command("echo begun; sleep 30"))
        time.sleep(0.3)
        app1._connection.retire(app1._connection.transport)  # type: ignore[attr-defined]
        assert hangs.wait().exit_code is None
        assert app1.run(Command("echo back")).stdout == "back\n"
    assert threading.active_count() < 10


def test_a_gateway_is_judged_by_its_own_key_and_blamed_by_name(sshd: Sshd) -> None:
    name = f"{getpass.getuser()}@127.0.0.1:{sshd.ports[0]}"
    app = sshd.host("app", sshd.ports[1], gateway=name)
    nowhere = sshd.host("nowhere", free_ports(1)[0], gateway=name)
    inventory = Inventory(sshd.folder / "hosts.yaml", {"app": app, "nowhere": nowhere}, {}, {})
    with Remotes(inventory) as remotes:
        failed = remotes.connect(["app", "nowhere"])
        assert list(failed) == ["nowhere"]
        assert "gateway" in str(failed["nowhere"])
        assert "cannot connect to 127.0.0.1:" in str(failed["nowhere"])
    (sshd.folder / "known_hosts").write_text("")
    with Remotes(inventory) as remotes:
        error = remotes.connect(["app"])["app"]
    assert isinstance(error, HostKeyRefused)
    assert str(error).startswith(f"app: gateway {name}: host key")


def failure(sshd: Sshd, entry: Host) -> RemoteError:
    inventory = Inventory(sshd.folder / "hosts.yaml", {"x": entry}, {}, {})
    with Remotes(inventory) as remotes:
        return remotes.connect(["x"])["x"]


def test_why_a_host_cannot_be_reached_is_said_in_plain_words(sshd: Sshd) -> None:
    port = sshd.ports[0]
    keygen(sshd.folder / "stranger")
    stranger = sshd.host("x", port, identity_file=sshd.folder / "stranger")
    assert f"login refused for user {getpass.getuser()}" in str(failure(sshd, stranger))
    missing = sshd.host("x", port, identity_file=sshd.folder / "nokey")
    assert "nokey: No such file" in str(failure(sshd, missing))
    unnamed = replace(sshd.host("x", port), address="nosuch.invalid")
    assert "x: name unknown: nosuch.invalid" in str(failure(sshd, unnamed))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = sshd.host("x", silent.getsockname()[1], connect_timeout=1)
        assert "x: timed out after 1 s at 127.0.0.1:" in str(failure(sshd, mute))


class HangsUp(paramiko.ServerInterface):
    """An sshd that goes away while somebody logs in."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self._transport.close()
        return paramiko.AUTH_FAILED


def test_a_login_that_breaks_off_is_tried_once_more_and_not_called_refused(sshd: Sshd) -> None:
    key = paramiko.Ed25519Key.from_private_key_file(str(sshd.folder / "host_key"))
    logins = []
    sshd.stop()
    with socket.create_server(("127.0.0.1", sshd.ports[0])) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    transport = paramiko.Transport(listening.accept()[0])
                    transport.add_server_key(key)
                    logins.append(transport)
                    transport.start_server(server=HangsUp(transport))

        threading.Thread(target=serve, daemon=True).start()
        said = str(failure(sshd, sshd.host("x", sshd.ports[0])))
    assert f"x: login broke off for user {getpass.getuser()} at 127.0.0.1:" in said
    assert len(logins) == 2


def test_a_host_that_falls_silent_is_given_up_after_the_deadline(
    sshd: Sshd, remotes: Remotes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabfile.remote.channel.PATIENCE", 1.0)
    with stands_still(remotes.get("web1"), Command("sleep 30", timeout=1), tmp_path) as running:
        result = running.wait()
    assert result.exit_code is None
    assert "no word from the host" in result.stderr
