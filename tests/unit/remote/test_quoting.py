"""If these fail, what a user typed could run as a command on a host."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabfile.remote import quoting

WORDS = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=30)


def shell(script: str) -> str:
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    return done.stdout.decode()


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5))
def test_every_argument_arrives_as_it_was_typed(words: list[str]) -> None:
    template = "printf '%%s\\0'" + " %s" * len(words)
    assert shell(quoting.sh(template, *words)).split("\0")[:-1] == words
    assert shell(quoting.join(["printf", "%s\\0", *words])).split("\0")[:-1] == words


@settings(max_examples=30, deadline=None)
@given(WORDS)
def test_a_script_survives_the_deadline_wrapper(word: str) -> None:
    script = quoting.sh("printf %s %s", "%s", word)
    assert shell(quoting.deadline(script, 5)) == word


def test_percent_signs_and_numbers() -> None:
    assert quoting.sh("a %% %s %s", 5, "50%") == "a % 5 50%"


@pytest.mark.parametrize(
    ("template", "arguments"), [("%s", ()), ("", ("x",)), ("%d", (1,)), ("50%", ())]
)
def test_a_template_that_does_not_fit_its_arguments_is_refused(
    template: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(ValueError, match=r"template|%|argument"):
        quoting.sh(template, *arguments)


def test_a_nul_byte_is_refused_because_the_shell_would_cut_it() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quoting.q("a\0b")


def test_a_strict_script_stops_at_its_first_failure() -> None:
    done = subprocess.run(["sh", "-c", quoting.strict("false", "echo after")], capture_output=True)
    assert done.returncode == 1
    assert done.stdout == b""


def test_the_parts_of_all_of_stay_together() -> None:
    script = quoting.all_of("false; true", "true && false", "echo after")
    done = subprocess.run(["sh", "-c", script], capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")


def test_an_environment_variable_cannot_carry_a_command() -> None:
    assert shell(quoting.with_env([("A", "$(echo x)")], "sh -c 'echo \"$A\"'")) == "$(echo x)\n"
    with pytest.raises(ValueError, match="no name"):
        quoting.with_env([("A=1 reboot; B", "x")], "true")


def test_a_line_loop_answers_each_line_and_leaves_stdin_alone() -> None:
    script = quoting.answer_lines('cat; printf "<%s>\\n" "$line"', "it's the end")
    done = subprocess.run(["sh", "-c", script], input=b"a b\n\\c'\n", capture_output=True)
    assert done.stdout.decode() == "<a b>\nit's the end\n<\\c'>\nit's the end\n"
