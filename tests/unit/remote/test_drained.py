"""Records of who drained what: nothing of them may get lost or be made up."""

import subprocess
from dataclasses import replace

import pytest

from fabfile.remote import drained, state
from fabfile.remote.drained import Drained

ONE = Drained("backend.x.shop", "shop", "web1_app_1", "web1/app_1", "shop", 37, "anna", "it's 'so'")


@pytest.fixture
def sh(tmp_path):
    def run(script):
        script = script.replace(state.ROOT, str(tmp_path))
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_what_was_written_is_read_again_with_the_hosts_own_time(sh):
    sh(drained.write([ONE, replace(ONE, server="web1_app_2")]))
    first, second = drained.parse(sh(drained.show()))
    assert replace(first, since="") == ONE
    assert first.since.endswith("Z")
    assert second.server == "web1_app_2"
    assert first.told == f"by anna since {first.since}: it's 'so'"


def test_a_record_keeps_its_time_when_it_is_written_again(sh):
    sh(drained.write([replace(ONE, since="2026-01-31T14:00:00Z")]))
    assert drained.parse(sh(drained.show()))[0].since == "2026-01-31T14:00:00Z"


def test_only_the_record_of_what_is_back_goes(sh):
    sh(drained.write([ONE, replace(ONE, server="web1_app_2")]))
    sh(drained.remove([ONE]))
    assert [one.server for one in drained.parse(sh(drained.show()))] == ["web1_app_2"]


def test_without_any_there_are_none(sh):
    assert drained.parse(sh(drained.show())) == []


@pytest.mark.parametrize(
    "damaged", ['{"key": 1', "{}", "\n", '{"key":"k","backend":"b","server":"s","instance":"i",'
    '"service":"x","uweight":"9","by":"a","reason":""}\nT']
)  # fmt: skip
def test_a_damaged_record_puts_nothing_back(damaged):
    assert drained.parse(damaged) == []
