"""A flag is described once, and reaches every task that takes it."""

from __future__ import annotations

import pytest
from invoke.context import Context

from fabfile.commands.flags import FLAGS, flagged


def task(heard):
    @flagged("service", "json", "instance", help={"json": "One object", "message": "Why"})
    def shown(_context: Context, message: str = "", **flags) -> None:
        """Show."""
        heard.append((message, flags))

    return shown


def test_a_task_of_somebody_else_may_call_ours_with_a_few_flags():
    heard = []
    task(heard)(Context(), service="shop")
    assert heard == [("", {"service": "shop", "json": False, "instance": None})]


def test_a_flag_that_is_none_is_refused_and_nothing_runs():
    heard = []
    with pytest.raises(TypeError, match="colour"):
        task(heard).body(Context(), colour="red")
    assert heard == []


def test_the_command_line_knows_what_the_task_itself_names_and_what_is_shared():
    found = {argument.name: argument for argument in task([]).get_arguments()}
    assert list(found) == ["message", "service", "json", "instance"]
    assert found["service"].help == FLAGS["service"].help
    assert (found["json"].help, found["json"].kind) == ("One object", bool)
    assert found["instance"].kind is list
