"""If these fail, `connection: local` hosts hang, lose output or die of Ctrl-C."""

import os
import time
from pathlib import Path

import pytest

from fabfile.errors import OutcomeUnknown
from fabfile.remote.base import Command
from fabfile.remote.local import LocalTransport
from fabfile.remote.quoting import answer_lines

HERE = LocalTransport("here")


def test_output_error_output_and_exit_code_come_back() -> None:
    result = HERE.run(Command("echo out; echo err >&2; exit 3", label="demo"))
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    assert (result.host, result.label) == ("here", "demo")


def test_five_megabytes_go_in_and_come_out_on_both_streams() -> None:
    data = os.urandom(1000).hex().encode() * 2500
    result = HERE.run(Command("tee /dev/stderr", stdin=data))
    assert result.stdout == result.stderr == data.decode()


def test_a_command_that_ignores_its_stdin_is_no_error() -> None:
    assert HERE.run(Command("true", stdin=b"x" * 5_000_000)).exit_code == 0


def test_commands_run_side_by_side_before_anybody_waits() -> None:
    began = time.monotonic()
    running = [HERE.start(Command("sleep 0.4; head -c 300000 /dev/zero")) for _ in range(5)]
    assert [len(one.wait().stdout) for one in running] == [300_000] * 5
    assert time.monotonic() - began < 1.6


@pytest.mark.parametrize("script", ["sleep 9", "sleep 9 | cat"])
def test_a_deadline_ends_the_script_and_says_so(script: str) -> None:
    began = time.monotonic()
    result = HERE.run(Command(f"echo so far; {script}", timeout=1))
    assert result.exit_code == 124
    assert result.stdout == "so far\n"
    assert "deadline of 1 s" in result.stderr
    assert time.monotonic() - began < 8


def test_exit_codes_of_a_script_are_not_taken_for_a_deadline() -> None:
    assert HERE.run(Command("exit 124")).stderr == ""
    assert HERE.run(Command("exit 137")).exit_code == 137


def test_a_child_that_keeps_stdout_open_does_not_hold_us_up() -> None:
    began = time.monotonic()
    result = HERE.run(Command("echo done; sleep 8 &"))
    assert (result.exit_code, result.stdout) == (0, "done\n")
    assert time.monotonic() - began < 5


def test_ctrl_c_at_the_terminal_does_not_reach_the_command() -> None:
    result = HERE.run(Command("ps -o sid= -p $$"))
    assert int(result.stdout) != os.getsid(0)


def test_a_conversation_answers_line_by_line() -> None:
    lines = HERE.converse(Command(answer_lines('echo "<$line>"', "END")), marker="END")
    assert [lines.ask(f"{n}", timeout=5) for n in (1, 2)] == ["<1>\n", "<2>\n"]
    lines.close()
    with pytest.raises(OutcomeUnknown, match="closed"):
        lines.ask("3", timeout=5)


def test_a_late_answer_is_never_taken_for_the_next_one() -> None:
    script = answer_lines('[ "$line" = slow ] && sleep 1; echo "$line"', "END")
    lines = HERE.converse(Command(script, label="chat"), marker="END")
    with pytest.raises(OutcomeUnknown, match=r"chat: no answer within 0.2 s"):
        lines.ask("slow", timeout=0.2)
    with pytest.raises(OutcomeUnknown):
        lines.ask("next", timeout=5)


def test_a_script_that_dies_ends_the_conversation_with_its_last_words(tmp_path: Path) -> None:
    lines = HERE.converse(Command("echo socat: not found >&2; exit 1"), marker="END")
    with pytest.raises(OutcomeUnknown):
        lines.ask("x", timeout=5)
