"""The parts of the lab that need no engine."""

import ipaddress
import stat
import time
from pathlib import Path

import pytest

from fabfile.lab import engine, images, network, shell, state
from fabfile.lab.model import Lab, Ports
from fabfile.lab.shell import LabError

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010010AC\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
vpn0\t0000D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


def net(text):
    return ipaddress.IPv4Network(text)


def test_routes_of_the_machine_are_read_without_the_default_one():
    assert network.routed(ROUTES) == [net("172.17.0.0/16"), net("10.213.0.0/24")]


def test_the_default_lab_gets_its_own_addresses_and_others_leave_them_to_it():
    assert network.choose_prefix("evenkeel-lab", None, []) == "10.213.0"
    assert network.choose_prefix("lab-dev", None, []) == "10.213.1"


def test_addresses_in_use_are_left_alone():
    used = [net("10.213.0.0/23"), net("10.213.2.128/25")]
    assert network.choose_prefix("evenkeel-lab", None, used) == "10.213.3"
    assert network.choose_prefix("evenkeel-lab", "10.213.1", used) == "10.213.3"
    with pytest.raises(LabError, match="no free network"):
        network.choose_prefix("x", None, [net("10.0.0.0/8")])


def test_a_lab_keeps_the_addresses_it_had():
    assert network.choose_prefix("evenkeel-lab", "10.213.9", []) == "10.213.9"


def test_a_changed_file_gives_another_image_and_an_untouched_one_the_same(tmp_path):
    (tmp_path / "a").write_text("one")
    first = images.folder_hash(tmp_path)
    assert images.folder_hash(tmp_path) == first
    (tmp_path / "a").write_text("two")
    second = images.folder_hash(tmp_path)
    (tmp_path / "a").chmod(0o755)
    third = images.folder_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, third, images.folder_hash(tmp_path)}) == 4


def test_a_stale_pid_file_goes_and_a_living_engine_keeps_its_own(tmp_path, monkeypatch):
    stale, reused, living = tmp_path / "1.pid", tmp_path / "2.pid", tmp_path / "3.pid"
    for pid, (file, comm) in enumerate([(stale, None), (reused, "bash"), (living, "dockerd")]):
        file.write_text(f"{pid}\n")
        if comm:
            (tmp_path / f"proc/{pid}").mkdir(parents=True)
            (tmp_path / f"proc/{pid}/comm").write_text(comm + "\n")
    for file in (stale, reused, living):
        monkeypatch.setattr(engine, "PID_FILES", {"dockerd": file})
        engine.remove_stale_pid_files((), tmp_path / "proc")
    assert [file.exists() for file in (stale, reused, living)] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=debian\n", True),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', True),
        ("ID=ubuntu\n", True),
        ('ID="fedora"\n', False),
        ("", False),
    ],
)
def test_apt_is_used_on_debian_and_its_children_only(tmp_path, text, expected):
    (tmp_path / "os-release").write_text(text)
    assert engine.is_debian(tmp_path / "os-release") is expected


def test_a_failure_shows_the_last_lines_and_names_the_log(tmp_path):
    log = tmp_path / "x.log"
    with pytest.raises(
        LabError, match=r"baking failed \(exit code 3\); all of it is in .*x\.log"
    ) as e:
        shell.run(["sh", "-c", "echo burnt; exit 3"], what="baking", log=log)
    assert e.value.detail == "burnt"


def test_a_command_that_hangs_is_ended_at_its_deadline():
    start = time.monotonic()
    with pytest.raises(LabError, match=r"took longer than 0\.2 s"):
        shell.run(["sleep", "30"], what="waiting", timeout=0.2)
    assert time.monotonic() - start < 5


def test_a_missing_program_is_one_line_and_no_traceback():
    with pytest.raises(LabError, match=r"exit code 127") as e:
        shell.run(["no-such-program"], what="x")
    assert "not found" in e.value.detail


def test_keys_and_passwords_are_for_their_owner_alone(tmp_path):
    lab = Lab("x", tmp_path / "lab", Ports(), "10.213.1", checkout=Path("/home/me/evenkeel"))
    line = state.prepare(lab)
    assert line.startswith("ssh-ed25519 AAAA")
    assert line.endswith(" /home/me/evenkeel")
    assert state.prepare(lab) == line
    for name in ("id_ed25519", "api-key"):
        assert stat.S_IMODE((lab.state / name).stat().st_mode) == 0o600


def test_no_two_labs_share_a_made_up_password(tmp_path):
    lab = Lab("x", tmp_path, Ports(), "10.213.1")
    assert state.password(lab) != state.password(lab)
    state.write(tmp_path / state.PASSWORD, "kept\n")
    assert state.password(lab) == "kept"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"prefix": "10.213.0"}', "{}", "3"])
def test_a_spoilt_memory_is_no_memory(tmp_path, text):
    (tmp_path / "lab.json").write_text(text)
    assert state.recall(tmp_path) == state.Memory()


def test_the_memory_keeps_size_and_addresses(tmp_path):
    state.remember(Lab("x", tmp_path, Ports(), "10.213.77", 4, 1))
    assert state.recall(tmp_path) == state.Memory("10.213.77", 4, 1)
