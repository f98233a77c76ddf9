"""Flags and values say what is allowed instead of guessing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.errors import BadInput
from fabfile.inventory.model import Count
from fabfile.inventory.values import (
    direct,
    parse_duration,
    parse_percent,
    parse_serial,
    parse_version,
)

ONE, THIRD = Count(1), Count(35, percent=True)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("3", (Count(3),)),
        ("35%", (THIRD,)),
        ("1,35%", (ONE, THIRD)),
        ('[1, "35%"]', (ONE, THIRD)),
        ("[ 1 ,'35 %' ]", (ONE, THIRD)),
        ("0", (Count(0),)),
        ("-1", (Count(-1),)),
        ("100%", (Count(100, percent=True),)),
    ],
)
def test_serial_is_read_as_ansible_users_write_it(text: str, counts: tuple[Count, ...]) -> None:
    assert parse_serial(text) == counts


@pytest.mark.parametrize(
    "text", ["", " ", "[]", "[ ]", "abc", "1,", ",1", "1.5", "0%", "101%", "-5%", "1;2", "[1", "٣"]
)
def test_a_serial_that_means_nothing_is_refused_on_one_line(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--serial: expected a number of hosts \(3\)") as caught:
        parse_serial(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0.0.2", "latest", "_x", "1.10", "v1-rc.1_b", "a" * 128])
def test_a_version_is_any_image_tag(text: str) -> None:
    assert parse_version(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "1 2", "'1'", '"1"', "$(reboot)", "`id`", "a;b", "a/b", "a:b", ".1", "-1", "1\n", "é"],
)
def test_a_version_that_is_no_tag_is_refused_on_one_line(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--version: ") as caught:
        parse_version(text)
    assert "\n" not in str(caught.value)


def test_a_version_that_is_too_long_says_so() -> None:
    with pytest.raises(BadInput, match=r"129 characters are too many"):
        parse_version("a" * 129)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5), ("2m", 120), ("1h", 3600), ("7", 7), ("0.25", 0.25), ("1.5 m", 90)],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, "--drain-timeout") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5x", "-5s", "1h30m", "s", "inf", "nan", "1e3", "9" * 5000])
def test_a_duration_that_means_nothing_names_its_flag(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--drain-timeout: expected a duration such as 500ms"):
        parse_duration(text, "--drain-timeout")


def test_percentages_are_whole_and_at_most_a_hundred() -> None:
    assert [parse_percent(text, "--x") for text in ("0", "10%", "100 %")] == [0, 10, 100]
    for text in ("101", "-1", "1.5%", "", "%"):
        with pytest.raises(BadInput, match=r"^--x: expected a whole percentage"):
            parse_percent(text, "--x")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("root@10.0.0.5:2222", ("root", "10.0.0.5", 2222)),
        ("me@host", ("me", "host", None)),
        ("me@[::1]:22", ("me", "::1", 22)),
        ("host:22", None),
        ("host", None),
        ("me@host:0", None),
        ("me@host:65536", None),
        ("-l@host:22", None),
        ("me@-oProxyCommand=x:22", None),
        ("me@ho st:22", None),
    ],
)
def test_only_user_at_host_is_taken_as_an_address(text: str, parts: object) -> None:
    assert direct(text) == parts


@given(st.text())
def test_whatever_is_typed_there_is_an_answer_or_one_line(text: str) -> None:
    for parse in (
        parse_serial,
        parse_version,
        lambda t: parse_duration(t, "--x"),
        lambda t: parse_percent(t, "--x"),
        direct,
    ):
        problem = ""
        try:
            parse(text)
        except BadInput as error:
            problem = str(error)
        assert len(problem.splitlines()) <= 1
