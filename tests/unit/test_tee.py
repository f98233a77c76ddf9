import io

from fabfile.reports.console import JsonLines, Tee
from fabfile.rollout.events import Notice


def test_a_terminal_that_is_gone_does_not_stop_a_rollout():
    closed, open_still = io.StringIO(), io.StringIO()
    closed.close()
    tee = Tee(JsonLines(closed), JsonLines(open_still))
    tee(Notice("one"))
    tee(Notice("two"))
    lines = open_still.getvalue().splitlines()
    assert [line for line in lines if '"one"' in line or '"two"' in line] == lines[-2:]
