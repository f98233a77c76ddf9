"""Past rollouts as people and machines read them."""

import json

from fabfile.reports import history_view as view
from fabfile.rollout.history import Past

NEW = Past(
    "20260131-142530-9f3c", "rolled-back", "shop", "0.0.2", ("0.0.1",), "deploy", "anna@laptop:4242",
    "it's new", "web2/app_1 failed", "sha256:ab", "2026-01-31T14:25:30Z", "2026-01-31T14:26:00Z",
    30.4, ("web1", "web2"), True, {"web1/app_1": "restored", "web2/app_1": "restored"},
    {"web2/app_1": "not healthy: /ping answers 503"}, 0, ("web2 was not told that it is over",),
)  # fmt: skip
OPEN = Past("20260130-142530-9f3c", "unfinished", "shop")


def test_the_table_is_aligned_and_says_everything_at_a_glance():
    head, new, still_open, note, problem = view.table([NEW, OPEN], ["web3: refused"]).splitlines()
    for column in ("BY", "VERSION", "TOOK", "VERDICT"):
        at = head.index(column)
        assert new[at - 1] == still_open[at - 1] == " "
        assert new[at] != " "
        assert still_open[at] != " "
    for word in (
        "2026-01-31 14:25",
        "anna@laptop",
        "0.0.1 -> 0.0.2",
        "web1,web2 (-H)",
        "30s",
        "rolled-back",
    ):
        assert word in new
    assert still_open.split()[-1] == "unfinished"
    assert note == "20260131-142530-9f3c: web2 was not told that it is over"
    assert problem == "web3: refused"


def test_one_failed_and_the_other_was_put_back_for_it():
    assert view.table([NEW]).splitlines()[1].split()[-4:] == ["0", "1", "30s", "rolled-back"]


def test_many_hosts_are_a_number():
    many = Past("r", "done", hosts=tuple(f"web{n}" for n in range(40)))
    assert " 40 " in view.table([many])


def test_no_rollout_is_said():
    assert view.table([]) == "no rollout is known\n"


def test_one_in_full_names_each_instance_and_why():
    lines = view.shown(NEW).splitlines()
    assert "  web2/app_1  restored: not healthy: /ping answers 503" in lines
    assert any(line.startswith("because") and "web2/app_1 failed" in line for line in lines)
    assert any(line.startswith("hosts") and line.endswith("(chosen by -H)") for line in lines)
    assert "digest" not in view.shown(OPEN)


def test_a_machine_gets_all_of_it():
    raw = json.loads(view.as_json(NEW))
    assert (raw["verdict"], raw["failed"], raw["hosts"]) == ("rolled-back", 1, ["web1", "web2"])
