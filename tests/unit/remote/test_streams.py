"""Scripts that are read while they run: every byte arrives, and none of them outlives its reader."""

import time

from fabfile.remote.base import Command
from fabfile.remote.local import LocalTransport
from fabfile.remote.scripts import script
from fabfile.runtimes.compose import SHELL


def read_all(stream):
    out, err = b"", b""
    while (piece := stream.read(1.0)) is not None:
        out, err = out + piece[0], err + piece[1]
    return out, err


def followed(text):
    return LocalTransport("here").follow(Command(text))


def test_both_streams_and_the_exit_code_arrive_whole():
    stream = followed("echo one; echo two >&2; printf three; exit 7")
    try:
        assert read_all(stream) == (b"one\nthree", b"two\n")
        assert stream.exit_code == 7
    finally:
        stream.close()


def test_what_comes_is_there_before_the_script_ends():
    stream = followed("echo early; head -c 1; echo late")
    try:
        assert stream.read(5.0) == (b"early\n", b"")
        stream.send(b"x")
        assert read_all(stream) == (b"xlate\n", b"")
    finally:
        stream.close()


def test_a_script_ends_when_nobody_listens_any_more(tmp_path):
    """Not by a signal from here: the end of its stdin is all that a dead controller leaves."""
    mark = tmp_path / "over"
    body = (
        f"(trap 'touch {mark}; exit' TERM; while :; do sleep 0.05; done) &\nwhile_heard\nend_all\n"
    )
    stream = followed(script(SHELL / "services.sh", project="shop") + body)
    try:
        stream.send(b".")
        assert stream.read(5.0) == (b"", b".\n")
        stream._process.stdin.close()
        ends = time.monotonic() + 10
        while not mark.exists():
            assert time.monotonic() < ends, "it goes on for nobody"
            time.sleep(0.01)
        assert stream.exit_code == 0
    finally:
        stream.close()
