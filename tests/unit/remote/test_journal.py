"""What becomes of a rollout's folder: read by everybody, mended without a gap, forgotten at once."""

import json
import subprocess

import pytest

from fabfile.remote import journal, records, state


@pytest.fixture(params=["dash", "bash"])
def sh(request):
    def run(script, stdin=b""):
        done = subprocess.run(
            [request.param, "-c", script], input=stdin, capture_output=True, check=False
        )
        done.text = done.stdout.decode()
        return done

    return run


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    (folder / "rollouts").mkdir(parents=True)
    (folder / "locks").mkdir()
    monkeypatch.setattr(state, "ROOT", str(folder))
    return folder


def begun(sh, root, name, plan='{"service": "shop"}'):
    assert sh(state.begin(name), state.packed(plan)).returncode == 0
    return root / "rollouts" / name


def unfinished(sh):
    lines = sh(state.unfinished()).text.splitlines()
    assert all(line.split(" ")[1] in ("shop", "") for line in lines)
    return [line.split(" ")[0] for line in lines]


# what is over, and what is not


def test_the_end_of_a_large_fleet_fits(sh, root):
    folder = begun(sh, root, "r1")
    facts = json.dumps({"fates": {f"web{n}/app_1": "upgraded" for n in range(10_000)}}).encode()
    assert sh(journal.finish_as_told("r1"), facts).returncode == 0
    assert (folder / "finished.json").read_bytes() == facts
    assert unfinished(sh) == []


def test_an_end_that_never_arrived_is_no_end(sh, root):
    begun(sh, root, "r1")
    assert sh(journal.finish_as_told("r1")).returncode != 0
    assert unfinished(sh) == ["r1"]


@pytest.mark.parametrize("text", ["", "{", '{"verdict": "do', "gone"])
def test_a_damaged_end_ends_nothing_while_something_is_to_be_put_back(sh, root, text):
    folder = begun(sh, root, "r1")
    sh(records.write("r1", {"server.shop.a": {}}))
    (folder / "finished.json").write_text(text)
    assert unfinished(sh) == ["r1"]
    (known,) = state.parse_journal(sh(state.journal()).text)
    assert (list(known.undo), known.finished) == (["server.shop.a"], text)
    sh(records.close("r1", ["server.shop.a"]))
    assert unfinished(sh) == [], "nothing is left to be put back"


def test_an_end_counts_whatever_lies_beside_it(sh, root):
    begun(sh, root, "r1")
    sh(records.write("r1", {"server.shop.a": {}}))
    sh(state.finish("r1", {"verdict": "ended by hand"}))
    assert unfinished(sh) == []


def test_records_without_any_plan_are_not_overlooked(sh, root):
    folder = begun(sh, root, "r1")
    sh(records.write("r1", {"server.shop.a": {}}))
    (folder / "plan-0001.json").unlink()
    assert unfinished(sh) == ["r1"]
    (known,) = state.parse_journal(sh(state.journal()).text)
    assert (known.plans, list(known.undo)) == ({}, ["server.shop.a"])


def test_how_a_host_stands_is_told_by_names_and_whose_they_are(sh, root):
    begun(sh, root, "r1")
    server = {"kind": "server", "instance": "web1/app_2", "ref": {}}
    first = {"kind": "server", "instance": "web1/app_1", "ref": {}}
    sh(records.write("r1", {"instance.shop.app_1": {}, "server.shop.web1_app_1": first}))
    sh(records.write("r1", {"instance.shop.app_2": {}, "server.shop.x": server}, ahead=True))
    sh(records.close("r1", ["instance.shop.app_1"]))
    (stands,) = journal.parse_stands(sh(journal.stands()).text).rollouts
    assert (stands.rollout, stands.plan) == ("r1", "plan-0001")
    assert stands.undo == {"instance.shop.app_2", "server.shop.web1_app_1"}
    assert stands.done == {"instance.shop.app_1"}
    assert (stands.ahead, stands.touched) == ({"web1/app_2"}, {"web1/app_1"})


def test_every_plan_is_told_the_torn_ones_too(sh, root):
    folder = begun(sh, root, "r1", '{"whole": 1}')
    sh(state.begin("r1", 2), state.packed('{"torn": '))
    (folder / "plan-0003.json").touch()
    (known,) = state.parse_journal(sh(state.journal()).text)
    assert known.plans == {1: '{"whole": 1}', 2: '{"torn":', 3: ""}


# history


def test_history_tells_the_newest_first_and_plans_only_where_they_are_needed(sh, root):
    for name, end in (("r1", {"verdict": "done"}), ("r2", {"verdict": "done", "service": "shop"})):
        begun(sh, root, name)
        sh(records.write(name, {"instance.shop.app_1": {"earlier": {"id": "a"}}}))
        sh(records.close(name, ["instance.shop.app_1"]))
        sh(state.finish(name, end))
    begun(sh, root, "r3")
    newest, told, old = state.parse_history(sh(state.history()).text)
    assert [one.rollout for one in (newest, told, old)] == ["r3", "r2", "r1"]
    assert [one.ended for one in (newest, told, old)] == [False, True, True]
    assert [bool(one.plan) for one in (newest, told, old)] == [True, False, True]
    assert {one.service for one in (newest, told, old)} == {"shop"}
    assert old.instances == {"instance.shop.app_1": {"earlier": {"id": "a"}}}


# forgotten


def test_a_journal_is_forgotten_whole_and_an_unfinished_one_never(sh, root):
    for name in ("r1", "r2", "r3"):
        begun(sh, root, name)
    sh(state.finish("r1", {"verdict": "done"}))
    sh(state.finish("r3", {"verdict": "done"}))
    (root / "rollouts/.gone.r0").mkdir()
    done = sh(journal.forget(["r1", "r2", "r9", "../locks", "*"]))
    assert (done.returncode, done.text) == (0, "forgot r1\n")
    assert sorted(path.name for path in (root / "rollouts").iterdir()) == ["r2", "r3"]
    assert (root / "locks").exists()


# mended


def test_what_is_damaged_is_kept_and_a_record_is_never_missing(sh, root):
    folder = begun(sh, root, "r1", '{"torn')
    (folder / "undo/server.shop.it's.json").write_text("{")
    done = sh(
        journal.keep_aside(
            "r1", {"plan-0001.json": None, "undo/server.shop.it's.json": '{"uweight": 100}'}
        )
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "plan-0001.json").exists()
    assert json.loads((folder / "undo/server.shop.it's.json").read_text()) == {"uweight": 100}
    aside = {
        path.name.rpartition(".")[0]: path.read_text() for path in (folder / "kept-aside").iterdir()
    }
    assert aside == {"plan-0001.json": '{"torn', "undo.server.shop.it's.json": "{"}


def test_what_cannot_be_kept_is_not_removed(sh, root):
    folder = begun(sh, root, "r1", '{"torn')
    (folder / "kept-aside").write_text("in the way")
    assert sh(journal.keep_aside("r1", {"plan-0001.json": None})).returncode == 71
    assert (folder / "plan-0001.json").exists()


# locks


@pytest.mark.parametrize(
    ("text", "kept"), [("r1 7\n{}\nnow\n", 0), ("r1", 1), ("", 1), ("a b c\n", 1)]
)
def test_a_damaged_lock_is_kept_aside_when_it_is_taken_away(sh, root, text, kept):
    (root / "locks/a.lock").write_text(text)
    assert sh(state.unlock(["a", "b"])).returncode == 0
    assert list((root / "locks").glob("*.lock")) == []
    found = list(root.glob("kept-aside/a.lock.*"))
    assert [path.read_text() for path in found] == [text] * kept


def test_an_empty_lock_locks_and_its_neighbours_are_still_read(sh, root):
    (root / "locks/a.lock").touch()
    (root / "locks/b.lock").write_text("20")
    (root / "locks/c.lock").write_text('r1 7\n{"by": "anna"}\nnow\n')
    a, b, c = state.parse_locks(sh(state.locks()).text)
    assert (a.key, a.damaged) == ("a", "''")
    assert (b.key, b.damaged) == ("b", "'20'")
    assert (c.owner, c.facts, c.since, c.damaged) == ("r1", {"by": "anna"}, "now", "")
    done = sh(state.acquire(["a"], "r2", {}))
    assert done.returncode == state.EXIT_HELD
    _, held = state.parse_acquired(done.text)
    assert held is not None
    assert held.damaged


def test_a_damaged_count_is_kept_aside_and_said(sh, root):
    (root / "locks/a.epoch").write_text("oops\n")
    done = sh(state.acquire(["a", "b"], "r2", {}))
    assert done.returncode == 0
    assert state.parse_lost(done.text) == [f"{root}/locks/a.epoch"]
    assert [path.read_text() for path in root.glob("kept-aside/a.epoch.*")] == ["oops\n"]
    assert set(state.parse_acquired(done.text)[0]) == {"a", "b"}
