"""A log tells who writes it, and can be read while it grows."""

import os

from fabfile.reports.eventlog import Follower, Log, is_written, running
from fabfile.rollout.events import Notice


def test_a_log_is_written_as_long_as_its_writer_lives(tmp_path):
    path = tmp_path / "logs" / "r1.jsonl"
    assert not is_written(path)
    log = Log(path)
    log(Notice("one"))
    assert is_written(path)
    assert running(path.parent.iterdir()) == [path]
    log.close()
    assert not is_written(path)
    assert running(path.parent.iterdir()) == []


def test_a_killed_writer_is_none(tmp_path):
    path = tmp_path / "r1.jsonl"
    child = os.fork()
    if not child:
        Log(path)(Notice("one"))
        os._exit(0)
    os.waitpid(child, 0)
    assert path.read_text().count("\n") == 1
    assert not is_written(path)


def test_what_is_half_written_is_read_when_it_is_whole(tmp_path):
    path = tmp_path / "r1.jsonl"
    path.write_text('{"event": "Notice", "at": 1, "text": "one"}\n{"event": "Not')
    follower = Follower(path)
    assert [raw["text"] for raw in follower.new()] == ["one"]
    assert follower.new() == []
    with path.open("a") as stream:
        stream.write('ice", "at": 2, "text": "two"}\nrubbish\n[1]\n')
    assert [raw["text"] for raw in follower.new()] == ["two"]
