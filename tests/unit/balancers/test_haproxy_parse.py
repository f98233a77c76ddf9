"""Replies of a real HAProxy 3.0.11, held against what we conclude from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.balancers.haproxy.parse import (
    Refused,
    Unreadable,
    blocks,
    check_answers,
    checked_name,
    checked_path,
    parse_info,
    parse_proc,
    parse_reload,
    parse_servers_state,
    parse_stat,
)
from fabfile.errors import BadInput

REPLIES = Path(__file__).parent / "replies"


def reply(name: str) -> str:
    return (REPLIES / f"{name}.txt").read_text()


def test_the_process_that_answers_is_known() -> None:
    info = parse_info(reply("show_info"))
    assert int(info["Pid"]) > 0
    assert int(info["Uptime_sec"]) >= 0
    assert info["Version"].startswith("3.0")


def test_statistics_are_read_by_their_header() -> None:
    rows = parse_stat(reply("show_stat_app"))
    assert [row["svname"] for row in rows] == [
        "web1_app_1",
        "web1_app_2",
        "web2_app_1",
        "BACKEND",
    ]
    assert rows[1]["status"] == "UP"
    assert rows[1]["weight"] == "100"
    assert rows[1]["addr"] == "127.0.0.1:26102"
    assert rows[3]["algo"] == "roundrobin"


def test_a_column_more_or_in_another_place_changes_nothing() -> None:
    text = "# pxname,new,svname,scur,\napp,x,s1,3,\n"
    assert parse_stat(text)[0]["scur"] == "3"


def test_a_comma_in_a_check_description_shifts_no_column() -> None:
    text = '# pxname,svname,last_chk,scur,\napp,s1,"odd, ""very"" odd",3,\n'
    assert parse_stat(text)[0]["scur"] == "3"


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_statistics_that_were_cut_off_are_never_taken_for_whole(keep: float) -> None:
    text = reply("show_stat_app").strip()
    lines = text.splitlines()
    cut = "\n".join([*lines[:2], lines[2][: int(len(lines[2]) * keep)]])
    with pytest.raises(Unreadable):
        parse_stat(cut)


def test_the_state_of_servers_is_read_by_its_header() -> None:
    rows = parse_servers_state(reply("show_servers_state"))
    by_name = {(row["be_name"], row["srv_name"]): row for row in rows}
    assert by_name["app", "web1_app_2"]["srv_uweight"] == "100"
    assert by_name["app", "web1_app_2"]["srv_op_state"] == "2"
    assert by_name["ag", "s1"]["srv_agent_port"] == "26999"


def test_an_unknown_format_of_states_is_refused() -> None:
    with pytest.raises(Unreadable):
        parse_servers_state(reply("show_servers_state").replace("1\n#", "2\n#", 1))


def test_a_state_line_that_was_cut_is_refused() -> None:
    with pytest.raises(Unreadable):
        parse_servers_state(reply("show_servers_state").strip()[:-30])


def test_processes_of_before_a_reload_are_told_from_the_new_one() -> None:
    calm, reloaded = parse_proc(reply("show_proc")), parse_proc(reply("show_proc_old"))
    assert len(calm.workers) == 1
    assert calm.old_workers == ()
    assert reloaded.workers == (416,)
    assert reloaded.old_workers == (412,)
    assert reloaded.master == 1
    assert reloaded.failed_reloads == 0


def test_the_columns_of_an_older_show_proc_are_understood() -> None:
    text = (
        "#<PID>  <type>  <relative PID>  <reloads>  <uptime>  <version>\n"
        "1162 master 0 5 0d00h02m07s 2.0\n# workers\n1271 worker 1 0 0d00h00m00s 2.0\n"
        "# old workers\n1233 worker [was: 1] 3 0d00h00m43s 2.0\n"
        "# programs\n1244 foo 0 0 0d00h00m00s -\n# old programs\n1255 bar 1 0 0d00h00m00s -\n"
    )
    found = parse_proc(text)
    assert (found.workers, found.old_workers, found.failed_reloads) == ((1271,), (1233,), None)


def test_a_reload_that_failed_is_not_taken_for_done() -> None:
    assert parse_reload(reply("reload_success")).ok is True
    failed = parse_reload(reply("reload_failed"))
    assert failed.ok is False
    assert "unknown keyword 'bogus'" in failed.log
    assert parse_reload("\n").ok is None


ERRORS = [
    ("no_such_server", "no-such-server"),
    ("no_such_backend", "no-such-backend"),
    ("no_such_proxy", "no-such-backend"),
    ("cant_find_backend", "no-such-backend"),
    ("permission_denied", "permission"),
    ("unknown_command", "unknown-command"),
    ("weight_257", "weight"),
    ("weight_negative", "weight"),
    ("weight_abc", "weight"),
    ("weight_relative_negative", "weight"),
    ("weight_trailing", "weight"),
    ("static_algorithm", "static-algorithm"),
    ("state_foo", "other"),
    ("health_of_tracker", "other"),
    ("set_server_alone", "other"),
    ("no_such_process", "no-such-process"),
    ("process_leaving", "process-leaving"),
]


@pytest.mark.parametrize(("name", "kind"), ERRORS)
def test_an_error_text_is_never_taken_for_success(name: str, kind: str) -> None:
    with pytest.raises(Refused) as caught:
        check_answers(["set server app/x weight 0"], reply(f"answer_{name}"), where="lb1")
    assert caught.value.kind == kind
    assert str(caught.value).startswith("lb1: HAProxy answered to `set server app/x weight 0`: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("parse", [parse_info, parse_stat, parse_servers_state, parse_proc])
@pytest.mark.parametrize(("name", "kind"), ERRORS)
def test_an_error_text_in_place_of_a_table_is_raised(parse, name: str, kind: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refused) as caught:
        parse(reply(f"answer_{name}"))
    assert caught.value.kind == kind


def test_an_empty_answer_is_success() -> None:
    check_answers(["set server app/web1_app_1 weight 1"], reply("answer_success"))


def test_the_refused_command_of_a_chain_is_named() -> None:
    commands = ["set first", "set second", "set third"]
    text = reply("answer_chain_mixed")
    with pytest.raises(Refused, match=r"`set first`: No such server\."):
        check_answers(commands, text)
    with pytest.raises(Refused, match=r"`set third`: No such backend\."):
        check_answers(commands, "\n\n" + text.split("\n\n\n", 1)[1])


@pytest.mark.parametrize("text", ["", "\n", "No such server.\n\n"])
def test_a_chain_that_broke_off_is_not_success(text: str) -> None:
    with pytest.raises((Unreadable, Refused)):
        check_answers(["set a", "set b"], text)


@given(st.lists(st.sampled_from(["", "No such server.", "Two\n  lines"]), min_size=1, max_size=8))
def test_each_answer_of_a_chain_stays_with_its_command(answers: list[str]) -> None:
    text = "".join(f"{answer}\n\n" if answer else "\n" for answer in answers)
    commands = [f"set {number}" for number in range(len(answers))]
    bad = [number for number, answer in enumerate(answers) if answer]
    if not bad:
        check_answers(commands, text)
        return
    with pytest.raises(Refused) as caught:
        check_answers(commands, text)
    assert caught.value.command == f"set {bad[0]}"


def test_chained_tables_are_split_at_empty_lines() -> None:
    text = reply("show_info") + reply("show_stat_app") + reply("show_servers_state")
    kinds = [block.split()[0] for block in blocks(text)]
    assert kinds == ["Name:", "#", "1"]


@pytest.mark.parametrize("name", ["a;shutdown", "a b", "a/b", "", "a\nb", "$(x)", "a'"])
def test_a_name_can_not_carry_another_command(name: str) -> None:
    with pytest.raises(BadInput):
        checked_name(name)


@pytest.mark.parametrize("path", ["run/x", "/run/a,b", "/run/a:b", "/run/$(x)", "/a b", "/a\n"])
def test_a_path_can_not_carry_socat_options(path: str) -> None:
    with pytest.raises(BadInput):
        checked_path(path)


@pytest.mark.parametrize("parse", [parse_info, parse_stat, parse_servers_state, parse_proc])
def test_an_empty_answer_is_no_refusal_and_nothing_is_concluded_from_it(parse) -> None:
    with pytest.raises(Unreadable, match="no answer"):
        parse("\n")
