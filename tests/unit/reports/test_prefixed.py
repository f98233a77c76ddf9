"""Whose line it is must be seen at once, and never break a program that reads it."""

import io

from fabfile.reports.prefixed import Prefixed

NAMES = [("web1", "app_1"), ("web10", "app_1")]


def test_prefixes_stand_below_each_other_and_have_no_colours_in_a_file():
    stream = io.StringIO()
    out = Prefixed(NAMES, stream)
    out.line("web1", "app_1", "one")
    out.line("web10", "app_1", "")
    assert stream.getvalue() == "web1 app_1  | one\nweb10 app_1 | \n"


def test_each_instance_has_a_colour_of_its_own_on_a_terminal():
    stream = io.StringIO()
    out = Prefixed(NAMES, stream, colours=True)
    out.line("web1", "app_1", "one")
    out.line("web10", "app_1", "two")
    first, second = stream.getvalue().splitlines()
    assert first == "\x1b[36mweb1 app_1 \x1b[0m | one"
    assert second.startswith("\x1b[33m")


def test_what_the_terminal_cannot_show_does_not_end_the_stream():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Prefixed(NAMES, stream).line("web1", "app_1", "\u00fc")
    assert stream.buffer.getvalue() == b"web1 app_1  | \\xfc\n"
