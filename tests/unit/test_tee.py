import io

from fabfile.reports.console import JsonLines, Tee
from fabfile.rollout.events import Notice


def test_a_terminal_that_is_gone_does_not_stop_a_rollout():
    closed, open_still = io.StringIO(), io.StringIO()
    closed.close()
    tee = Tee(JsonLines(closed), JsonLines(open_still))
    tee(Notice("one"))
    tee(Notice("two"))
    assert [line.count("Notice") for line in open_still.getvalue().splitlines()] == [1, 1]
