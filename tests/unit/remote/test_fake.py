"""If these fail, tests that rest on the fake prove nothing."""

import pytest

from fabfile.errors import OutcomeUnknown, Unreachable
from fabfile.remote.base import Command, Transport
from fabfile.remote.fake import FakeTransport, UnexpectedCommand


@pytest.fixture
def web1() -> FakeTransport:
    return FakeTransport("web1")


def test_it_answers_by_rules_and_the_latest_rule_wins(web1: FakeTransport) -> None:
    transport: Transport = web1
    web1.on("docker", "old\n")
    web1.on(r"docker (ps|inspect)", "new\n", times=1)
    assert transport.run(Command("docker ps", label="ps")).stdout == "new\n"
    result = transport.start(Command("docker ps", label="ps")).wait()
    assert (result.stdout, result.label, result.host, result.ok) == ("old\n", "ps", "web1", True)
    assert web1.scripts == ["docker ps", "docker ps"]


def test_a_command_without_a_rule_is_an_error_not_a_success(web1: FakeTransport) -> None:
    with pytest.raises(UnexpectedCommand, match="rm -rf"):
        web1.run(Command("rm -rf /"))


@pytest.mark.parametrize(("lose", "effects"), [("before", 0), ("after", 1)])
def test_a_lost_connection_hides_whether_the_command_ran(
    web1: FakeTransport, lose: str, effects: int
) -> None:
    done: list[str] = []

    def effect(command: Command) -> str:
        done.append(command.script)
        return "secret"

    web1.on("up", effect, lose=lose, times=1)  # type: ignore[arg-type]
    result = web1.run(Command("up"))
    assert (result.exit_code, result.stdout) == (None, "")
    assert len(done) == len(web1.commands) == effects


def test_a_host_that_is_down_is_unreachable_and_breaks_its_conversations(
    web1: FakeTransport,
) -> None:
    web1.on_lines("socat", str.upper)
    lines = web1.converse(Command("socat"), marker="END")
    assert lines.ask("show stat", timeout=1) == "SHOW STAT"
    web1.down = True
    with pytest.raises(OutcomeUnknown):
        lines.ask("show info", timeout=1)
    with pytest.raises(Unreachable):
        web1.run(Command("true"))
    assert lines.asked == ["show stat"]
