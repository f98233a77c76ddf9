"""The pages say what is true. If these fail, a reader types something that does not work."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from fabfile.inventory import loader
from fabfile.runtimes.render import TEMPLATES, context, project

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
DIGEST = "sha256:" + "0" * 64

ANNOUNCED: frozenset[str] = frozenset()
"""Tasks that pages and messages speak of as coming; once one is there, it leaves this set."""

# What may stand between the program and its first task: core flags, with their values.
CORE = r"(?:\s+\[?(?:-[Hrc]|--search-root|--hosts)\s+\S+)*"
CALL = re.compile(rf"(?<![\w./-])(fab|inv){CORE}\s+(?=[a-z])([^`#\n]*)")
TASK = re.compile(r"[a-z]+(?:\.[a-z]+)?")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_in(text: str) -> Iterator[str]:
    """Each line of a block, fenced or indented, and each `span` of the prose around them."""
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        if number % 2:
            yield from part.splitlines()
        else:
            yield from re.findall(r"^ {4}.+|(?<=`)[^`\n]+(?=`)", part, flags=re.MULTILINE)


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Program and words of each `fab …` and `inv …`, what stands after -- or a pipe left out."""
    for code in code_in(text):
        for program, rest in CALL.findall(code):
            yield program, re.split(r"\s--(?:\s|$)|[|;&>]", rest)[0].split()


@cache
def said(program: str, *argv: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EVENKEEL", "INVOKE"))}
    done = subprocess.run(
        [BIN / program, *argv], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def tasks(program: str) -> frozenset[str]:
    listed = re.findall(r"^  ([a-z][\w.-]*)(?: \(([^)]+)\))?", said(program, "--list"), re.M)
    return frozenset(name for names in listed for name in names if name)


def known(program: str) -> frozenset[str]:
    return tasks(program) | own_tasks() | (ANNOUNCED if program == "fab" else frozenset())


def own_tasks() -> set[str]:
    """Tasks that the example of docs/own-tasks.md adds."""
    return {name for _, name in example("own-tasks.md", "python", "def ")}


def example(page: str, language: str, having: str = "") -> list[tuple[str, str]]:
    """The fenced blocks of a language on a page: ``(text, name of a task in it)``."""
    found = re.findall(rf"^```{language}\n(.*?)^```", text_of(ROOT / "docs" / page), re.M | re.S)
    if language == "python":
        return [
            (text, node.name)
            for text in found
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef)
        ]
    return [(text, "") for text in found if having in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_of_ours_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(page))
    files = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [name for name in files if name and not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_and_page_that_is_named_is_there(page: Path) -> None:
    named = re.findall(r"`((?:scripts|docs|tests|fabfile|templates)/[\w./*-]+)", text_of(page))
    assert [name for name in named if not any(ROOT.glob(name.rstrip("./")))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_task_that_is_named_exists(page: Path) -> None:
    unknown = [
        f"{program} {words[0]}"
        for program, words in calls(text_of(page))
        if TASK.fullmatch(words[0]) and words[0] not in known(program)
    ]
    assert unknown == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_of_a_task_exists(page: Path) -> None:
    wrong = []
    for program, words in calls(text_of(page)):
        if words[0] in ANNOUNCED:
            continue
        task = ""
        for word in words:
            if word in tasks(program) | own_tasks():
                task = word
            flag = FLAG.match(word.lstrip("["))
            if flag and task not in own_tasks() and flag[0] not in flags_of(program, task):
                wrong.append(f"{program} {task} {word}")
    assert wrong == []


def test_what_pages_announce_is_still_to_come() -> None:
    assert ANNOUNCED & tasks("fab") == frozenset()


def flags_of(program: str, task: str) -> set[str]:
    return set(FLAG.findall(said(program, "--help", task)))


def test_these_tests_see_what_pages_say() -> None:
    text = (
        "A `list` of `fab -H a,b deploy --version 1 --nope`\n\n    fab plan  # --not\n\n"
        "```\ninv lab.up --web 3 | tee --x\n```\nfab x\n"
    )
    assert sorted(calls(text)) == [
        ("fab", ["deploy", "--version", "1", "--nope"]),
        ("fab", ["plan"]),
        ("inv", ["lab.up", "--web", "3"]),
    ]
    assert {"deploy", "provision", "provision.app"} <= tasks("fab")
    assert {"lab.up"} < tasks("inv")
    assert "deploy" not in tasks("inv")
    assert "--nope" not in flags_of("fab", "deploy")
    assert len(list(calls("".join(map(text_of, PAGES))))) > 20


@pytest.fixture
def ops(tmp_path: Path) -> Path:
    """The folder of docs/own-tasks.md, as a reader would make it."""
    (program, _), *_ = example("own-tasks.md", "python")
    ((config, _),) = example("own-tasks.md", "yaml")
    (tmp_path / "ops.py").write_text(program)
    (tmp_path / "fabric.yaml").write_text(config)
    (tmp_path / "hosts.yaml").write_text(
        "version: 1\nhosts:\n  here: {connection: local}\n  web1: {address: 10.0.0.11}\n"
    )
    return tmp_path


def fab(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("EVENKEEL", "INVOKE"))}
    clean |= {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.run(
        [BIN / "fab", *argv], cwd=folder, env=clean, capture_output=True, text=True, timeout=60
    )


def test_own_tasks_stand_beside_ours(ops: Path) -> None:
    done = fab(ops, "-c", "ops", "--list", "-F", "flat")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("disk", "announce", "deploy", "provision.app"):
        assert re.search(rf"^  {re.escape(name)}\b", done.stdout, re.MULTILINE), done.stdout


def test_a_bad_flag_or_host_is_one_line_and_exit_2_there_too(ops: Path) -> None:
    for argv, word in (
        (["announce", "--nope"], "--nope"),
        (["announce"], "--ticket"),
        (["deploy"], "--version is needed"),
        (["-H", "web9", "disk"], "web9"),
    ):
        done = fab(ops, "-c", "ops", *argv)
        assert (done.returncode, done.stdout) == (2, ""), argv
        assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_own_tasks_meet_hosts_as_the_page_says(ops: Path) -> None:
    done = fab(ops, "-c", "ops", "-H", "here,web1", "announce", "--ticket", "OPS-17")
    assert (done.returncode, done.stdout) == (0, "OPS-17 begins on here web1\n")
    assert "Filesystem" in fab(ops, "-c", "ops", "-H", "here", "disk").stdout


def test_only_a_hosts_yaml_is_enough(ops: Path) -> None:
    done = fab(ops, "-r", str(ROOT), "-H", "here", "run", "--", "echo hi")
    assert (done.returncode, done.stdout) == (0, "hi\n")


def shop(folder: Path) -> tuple[Path, str]:
    """The example of docs/templates.md, written out as a reader would."""
    ((hosts, _),) = example("templates.md", "yaml", "version: 1")
    ((template, _),) = example("templates.md", "jinja")
    (folder / "hosts.yaml").write_text(hosts)
    (folder / "shop.yml.j2").write_text(template)
    return folder / "hosts.yaml", template


def test_the_example_with_a_database_renders_to_releases_of_two_instances(tmp_path: Path) -> None:
    path, _ = shop(tmp_path)
    inventory = loader.load(path)
    service, host = inventory.services["shop"], inventory.hosts["web1"]
    one, two = project(service, host, "1.4.3").releases(DIGEST, {"API_KEY": "x"}, "salt")
    assert one.id != two.id
    base, block = YAML(typ="safe").load(one.base), YAML(typ="safe").load(one.block)["app_1"]
    assert set(base["services"]) == {"database", "balancer"}
    assert block["image"] == f"registry.example:5000/shop@{DIGEST}"
    assert block["env_file"] == [f"releases/{one.id}/env"]
    assert {"evenkeel.release", "evenkeel.version", "evenkeel.service"} == set(block["labels"])
    assert (block["cpus"], block["mem_limit"]) == (0.5, "128m")


def test_instances_alike_to_the_letter_are_releases_of_their_own(tmp_path: Path) -> None:
    path, _ = shop(tmp_path)
    (tmp_path / "shop.yml.j2").write_text(
        "services:\n  app_1: {image: {{ image }}:{{ app_1_version }}}\n"
        "  app_2: {image: {{ image }}:{{ app_2_version }}}\n"
    )
    inventory = loader.load(path)
    service, host = inventory.services["shop"], inventory.hosts["web1"]
    one, two = project(service, host, "1.4.3").releases(DIGEST, {}, "salt")
    assert one.id != two.id


def test_the_page_on_templates_names_every_variable(tmp_path: Path) -> None:
    inventory = loader.load(shop(tmp_path)[0])
    service, host = inventory.services["shop"], inventory.hosts["web1"]
    page = text_of(ROOT / "docs/templates.md")
    names = context(service, host, "1.4.3", {})
    known = [n for n in names if n not in service.variables and not n.startswith("app_2")]
    instances = names["instances"]
    assert isinstance(instances, list)
    assert [name for name in [*known, *instances[0]] if f"`{name}`" not in page] == []
    assert (TEMPLATES / "haproxy.cfg.j2").exists()
