"""``inv healthcheck`` as a person and a monitor use it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fabfile.checks.flags import Flags, options
from fabfile.checks.healthcheck import Options, run_healthcheck
from fabfile.checks.show import Screen, report
from fabfile.checks.summary import CRITICAL, OK, UNKNOWN
from fabfile.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_sees_who_answers_and_the_verdict_last(server):
    out = io.StringIO()
    code = run_healthcheck(Options((server.url("/ok"),), duration=0.2), out)
    lines = out.getvalue().splitlines()

    assert code == OK
    assert lines[0].endswith("s  web1/app_1 now answers with 0.0.1")
    assert any(line.startswith("fast: 10 requests, 0 failed") for line in lines)
    assert lines[-1] == "OK: 10 requests, none failed"


def test_a_terminal_gets_one_line_rewritten_in_place(server):
    out = Terminal()
    run_healthcheck(Options((server.url("/ok"),), duration=1.2), out)

    assert "\r\x1b[K" in out.getvalue()
    assert "     1s  50/s" in out.getvalue()
    assert out.getvalue().endswith("none failed\n")


def test_a_machine_gets_json_lines_and_the_same_in_the_record(server, tmp_path):
    out, record = io.StringIO(), tmp_path / "run.jsonl"
    wanted = Options((server.url("/500"),), duration=0.2, as_json=True, record=record)
    code = run_healthcheck(wanted, out)
    events = [json.loads(line) for line in out.getvalue().splitlines()]

    assert code == CRITICAL
    assert [e["event"] for e in events] == ["began", *["failed"] * 3, "second", "summary"]
    assert events[-1]["overall"]["kinds"] == {"HTTP 5xx": 10}
    assert record.read_text() == out.getvalue()


def test_nagios_gets_one_line_with_figures_and_the_code(server):
    for path, code, first in (
        ("/ok", OK, "OK: 10 requests, none failed | requests=10 failures=0;0; slow=0;0; p50=0.0"),
        (
            "/500",
            CRITICAL,
            "CRITICAL: none of 10 requests was answered | requests=10 failures=10;0;",
        ),
    ):
        out = io.StringIO()
        wanted = Options((server.url(path),), duration=0.2, nagios=True)
        assert run_healthcheck(wanted, out) == code
        (line,) = out.getvalue().splitlines()
        assert line.startswith(first)


def test_cookies_make_ten_clients(server):
    run_healthcheck(Options((server.url("/cookie"),), duration=1, cookies=True), io.StringIO())

    assert server.cookies.count("") == 10


@pytest.mark.parametrize(
    "wrong",
    [Options(("gopher://x",)), Options(()), Options(("http://x",), record=Path("/nowhere/x"))],
)
def test_bad_input_is_unknown_and_one_line(wrong, capsys):
    assert run_healthcheck(wrong) == UNKNOWN
    error = capsys.readouterr().err
    assert error.startswith("UNKNOWN: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        Flags(("http://x/",), rate="abc"),
        Flags(("http://x/",), rate="0"),
        Flags(("http://x/",), rate="nan"),
        Flags(("http://x/",), rate="inf"),
        Flags(("http://x/",), duration="30 parsecs"),
        Flags(("http://x/",), timeout="0s"),
        Flags(("http://x/",), slow_after="-1s"),
        Flags(("http://x/",), max_failures="1%"),
        Flags(("http://x/",), keep_alive=True, fresh=True),
        Flags(("http://x/",), expect_version="1", until_version="2"),
    ],
)
def test_a_bad_flag_is_named(flags):
    with pytest.raises(BadInput, match="--"):
        options(flags)


def test_flags_mean_what_they_say():
    chosen = options(
        Flags(
            ("http://x/",),
            rate="200",
            until_interrupted=True,
            keep_alive=True,
            timeout="500ms",
            max_failures="3",
        )
    )

    assert (chosen.rate, chosen.duration, chosen.connections) == (200, None, "kept")
    assert (chosen.timeout, chosen.max_failures) == (0.5, 3)


PROGRAM = """
import sys
from fabfile.checks.healthcheck import Options, run_healthcheck
sys.exit(run_healthcheck(Options((sys.argv[1],), duration=None)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_still_sums_up(server, number):
    command = [sys.executable, "-c", PROGRAM, server.url("/ok")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        deadline = time.monotonic() + 10
        while server.asked.total() < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        out, _ = process.communicate(timeout=10)

    assert process.returncode in (OK, UNKNOWN), "a busy machine may make it late"
    assert out.splitlines()[-1].startswith(("OK: ", "UNKNOWN: the prober could not keep up"))
    assert re.search(r"^fast: \d+ requests, 0 failed", out, re.MULTILINE)


def test_listing_tasks_stays_quick():
    """Nothing of the prober is imported before its task runs."""
    code = (
        "import sys, fabfile.checks.tasks\n"
        "heavy = {'asyncio', 'ssl', 'requests', 'pydantic', 'fabfile.checks.prober'}\n"
        "sys.exit(bool(heavy & sys.modules.keys() - set(sys.argv[1:])))"
    )
    import_invoke = "import sys, invoke.tasks; print(*sys.modules)"
    base = subprocess.run(
        [sys.executable, "-c", import_invoke], capture_output=True, text=True, check=True
    )
    known = base.stdout.split()
    assert subprocess.run([sys.executable, "-c", code, *known], cwd=ROOT).returncode == 0


def test_a_summary_of_nothing_can_be_shown():
    from fabfile.checks.summary import Figures, Summary, judge

    empty = Summary(Figures("all"), {"fast": Figures("fast")})
    out = io.StringIO()
    Screen(out).end(empty, judge(empty))

    assert out.getvalue().splitlines()[-1] == "UNKNOWN: nothing was sent"
    assert report(empty, judge(empty))


@pytest.mark.parametrize(("path", "code"), [("/ok", 0), ("/500", 2)])
def test_the_shell_probe_counts_and_ends_on_an_interrupt(server, path, code):
    command = [str(ROOT / "scripts/health-check.sh"), server.url(path), "0.1"]
    env = {**os.environ, "http_proxy": "http://127.0.0.1:1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/", env=env) as process:
        deadline = time.monotonic() + 10
        while server.asked.total() < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)

    assert process.returncode == code
    assert "0.0.1" in out
    said = re.fullmatch(r"asked (\d+) times, (\d+) failed", out.splitlines()[-1])
    assert said is not None
    assert int(said[1]) >= 3, "the one under way does not count"
    assert said[2] == (said[1] if code else "0")


def test_the_shell_probe_says_what_is_wrong_with_its_arguments():
    command = [str(ROOT / "scripts/health-check.sh"), "http://127.0.0.1:1/", "soon"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)

    assert done.returncode == 2
    assert "soon" in done.stderr
