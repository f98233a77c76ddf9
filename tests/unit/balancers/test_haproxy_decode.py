"""Who took a server out, in words: a wrong one sends people to the wrong place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabfile.balancers.haproxy.decode import decoded
from fabfile.balancers.haproxy.observe import parse_poll

REPLIES = Path(__file__).parent / "replies"


def test_states_that_people_ordered_are_theirs() -> None:
    text = (REPLIES / "poll_maint_weight0_drain.txt").read_text()
    servers = {one.server: one for one in decoded("lb1", "app", parse_poll(text))}
    told = {name: (one.admin, one.why) for name, one in servers.items()}
    assert told["web1_app_1"] == ("maint", ("operator",))
    assert told["web1_app_2"] == ("ready", ())
    assert told["web2_app_1"] == ("drain", ("operator",))
    assert servers["web1_app_2"].operational == "up"
    assert servers["web1_app_2"].check.startswith("L")


@pytest.mark.parametrize(
    ("bits", "admin", "why"),
    [
        (0x04, "maint", ("config",)),
        (0x02, "maint", ("tracked",)),
        (0x05, "maint", ("operator", "config")),
        (0x20, "maint", ("name does not resolve",)),
        (0x10, "drain", ("tracked",)),
    ],
)
def test_what_nobody_ordered_is_told_as_what_it_is(
    bits: int, admin: str, why: tuple[str, ...]
) -> None:
    poll = parse_poll((REPLIES / "poll_maint_weight0_drain.txt").read_text())
    poll.states["app"][0]["srv_admin_state"] = str(bits)  # type: ignore[index]
    first = decoded("lb1", "app", poll)[0]
    assert (first.admin, first.why) == (admin, why)
