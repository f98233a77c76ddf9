"""Templates become releases that mean what the template says."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fabfile.errors import PreflightFailed
from fabfile.inventory.model import Host
from fabfile.runtimes import render as r
from tests.unit.runtimes.services import DIGEST, SHOP, WEB1, with_template

FLAT = """\
services:
  app_1:
    image: registry.lab:5000/shop:{{ app_1_version }}
  app_2:
    image: registry.lab:5000/shop:{{ app_2_version }}{% if app_2_down %} down{% endif %}

"""


def made(service, version="1.0", digest=DIGEST, secrets=None, salt="salt"):
    return r.project(service, WEB1, version).releases(digest, secrets or {}, salt)


def whole(releases):
    """The live file, as the host puts it together."""
    return releases[0].base + "".join(release.block for release in releases)


def load(text):
    return YAML(typ="safe", pure=True).load(text)


# what a template may use


def test_the_template_that_comes_along_renders():
    text = load(r.render(replace(SHOP, env={"GREETING": 'say "hi" $you'}), WEB1, "1.0"))
    assert list(text["services"]) == ["app_1", "app_2"]
    assert text["services"]["app_2"]["ports"] == ["3002:3000"]
    assert text["services"]["app_1"]["environment"]["GREETING"] == 'say "hi" $you'


def test_templates_that_people_have_already_work_as_they_are(tmp_path):
    found = made(with_template(tmp_path, FLAT))
    assert [release.instance.name for release in found] == ["app_1", "app_2"]


def test_one_instance_may_stay_at_its_version(tmp_path):
    text = r.render(with_template(tmp_path, FLAT), WEB1, "2.0", versions={"app_1": "1.0"})
    images = [service["image"] for service in load(text)["services"].values()]
    assert images == ["registry.lab:5000/shop:1.0", "registry.lab:5000/shop:2.0"]


def test_host_labels_and_free_variables_are_there(tmp_path):
    service = with_template(
        tmp_path, "{{ host.labels.zone }} {{ db }}", variables={"db": "valkey:8"}
    )
    host = Host("web1", "a", "a", labels={"zone": "b"})
    assert r.render(service, host, "1") == "b valkey:8"


# mistakes in a template


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a\nb\n{{ vesion }}\n", 3, "'vesion' is undefined"),
        ("a\n{% if x %}\n", 2, "endif"),
        ("{{ 1 / 0 }}", 1, "ZeroDivisionError"),
        ("\n{{ version + 1 }}", 2, "TypeError"),
        ("\n{% include 'nowhere.j2' %}", 2, "nowhere.j2"),
        ("\n\n{{ host.labels.zone }}", 3, "zone"),
    ],
)
def test_a_mistake_in_a_template_is_told_with_its_line(tmp_path, text, line, what):
    service = with_template(tmp_path, text)
    with pytest.raises(PreflightFailed) as caught:
        r.render(service, WEB1, "1.0")
    assert f"{service.template}:{line}: the template does not render" in str(caught.value)
    assert what in str(caught.value)


def test_a_mistake_in_an_included_file_names_that_file(tmp_path):
    (tmp_path / "part.j2").write_text("\n{{ nobody }}\n")
    service = with_template(tmp_path, "{% include 'part.j2' %}")
    with pytest.raises(PreflightFailed, match=r"part\.j2:2: .*'nobody' is undefined"):
        r.render(service, WEB1, "1.0")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a: [", "broken YAML"),
        ("a: 1\na: 2\n", "broken YAML"),
        ("- a\n", "no compose file"),
        ("", "no compose file"),
        ("networks: {}\n", "without services"),
        ("services: [app_1]\n", "without services"),
        ("services: {web: {image: x}}\n", "without a service app_1"),
        ("services: {app_1: null}\n", "without a service app_1"),
        ("services: {app_1: {image: other:1.0}}\n", "uses the image other:1.0"),
        ("services: {app_1: {build: .}}\n", "uses the image None"),
        ("services: {app_1: {image: 'registry.lab:5000/shop:0.9'}}\n", "shop:0.9"),
    ],
)
def test_a_template_that_is_no_project_of_ours_is_refused(tmp_path, text, what):
    service = with_template(tmp_path, text, instances=1)
    with pytest.raises(PreflightFailed, match=what):
        made(service)


# what a release is


def test_an_instance_runs_the_digest_and_wears_its_release(tmp_path):
    first, second = made(with_template(tmp_path, FLAT))
    block = load(first.block)["app_1"]
    assert block["image"] == f"registry.lab:5000/shop@{DIGEST}"
    assert block["labels"] == {
        "evenkeel.release": first.id,
        "evenkeel.version": "1.0",
        "evenkeel.service": "shop",
    }
    assert first.record["release"] == first.id
    assert second.record["instance"] == "app_2"


ONE = "services:\n  app_1:\n    image: registry.lab:5000/shop:{{ version }}\n"


@pytest.mark.parametrize("labels", ["{a: b, c: 1}", "[a=b, 'c=1']", "['d']", "null", "{}", "[]"])
def test_labels_of_ones_own_stay(tmp_path, labels):
    service = with_template(tmp_path, f"{ONE}    labels: {labels}\n", instances=1)
    found = load(made(service)[0].block)["app_1"]["labels"]
    own = {name: str(value) for name, value in found.items() if "evenkeel" not in name}
    wanted = {"a": "b", "c": "1"} if "a" in labels else {"d": ""} if "d" in labels else {}
    assert own == wanted
    assert len(found) - len(own) == 3


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ("common.env", ["common.env"]),
        ("[a.env, b.env]", ["a.env", "b.env"]),
        ("[{path: a.env, required: false}]", [{"path": "a.env", "required": False}]),
    ],
)
def test_env_files_of_ones_own_stay_and_come_first(tmp_path, own, kept):
    service = with_template(tmp_path, f"{ONE}    env_file: {own}\n", instances=1)
    release = made(service, secrets={"KEY": "x"})[0]
    assert load(release.block)["app_1"]["env_file"] == [*kept, f"releases/{release.id}/env"]


def test_a_release_without_secrets_has_no_env_file(tmp_path):
    release = made(with_template(tmp_path, ONE, instances=1))[0]
    assert release.env == ""
    assert "env_file" not in load(release.block)["app_1"]


def test_a_secret_is_in_the_env_file_and_nowhere_else(tmp_path):
    release = made(with_template(tmp_path, ONE, instances=1), secrets={"KEY": "hunter2"})[0]
    assert release.env == "KEY='hunter2'\n"
    assert "hunter2" not in release.block + release.base + json.dumps(release.record)


def test_the_same_wish_is_the_same_release(tmp_path):
    service = with_template(tmp_path, ONE, instances=1)
    assert made(service)[0] == made(service)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1.1"},
        {"digest": "sha256:" + "cd" * 32},
        {"secrets": {"KEY": "x"}},
        {"salt": "other"},
    ],
)
def test_whatever_changes_an_instance_changes_its_release(tmp_path, change):
    service = with_template(tmp_path, ONE, instances=1)
    assert made(service, **change)[0].id != made(service)[0].id


def test_another_setting_in_the_block_is_another_release(tmp_path):
    before = made(with_template(tmp_path, ONE, instances=1))[0]
    after = made(with_template(tmp_path, f"{ONE}    restart: always\n", instances=1))[0]
    assert before.id != after.id


def test_a_database_beside_it_does_not_make_an_instance_another_release(tmp_path):
    before = made(with_template(tmp_path, ONE, instances=1))[0]
    after = made(with_template(tmp_path, f"{ONE}  database: {{image: x}}\n", instances=1))[0]
    assert before.id == after.id
    assert before.base != after.base


def test_a_guessed_secret_cannot_be_tried_out_without_the_hosts_salt(tmp_path):
    service = with_template(tmp_path, ONE, instances=1)
    real = made(service, secrets={"PIN": "1234"}, salt="of the host")[0].id
    guesses = {made(service, secrets={"PIN": "1234"}, salt=salt)[0].id for salt in ("", "guess")}
    assert real not in guesses


# the file keeps its meaning


OWN = """\
# a comment
x-logging: &logging
  driver: json-file
  options: {max-size: "10m"}
services:
  app_1: &app
    image: registry.lab:5000/shop:1.0
    logging: *logging
    environment: &env {A: "1_000", B: "0440", C: "yes", D: "1.10", E: "", F: "null", G: "22:30"}
    configs: [{source: c, target: /c, mode: 0440}]
    cpus: 0.50
  app_2:
    <<: *app
    environment: *env
  database: {image: "valkey:8", logging: *logging, volumes: ["data:/data"]}
networks: {default: {ipam: {config: [{subnet: 10.9.0.0/24}]}}}
volumes: {data: {}}
configs: {c: {content: "a: b\\n\\u2028x\\n"}}
"""


def strip(project):
    for service in project["services"].values():
        service.pop("labels", None)
        service.pop("image", None)
    return project


def test_anchors_merges_and_words_that_look_like_numbers_mean_the_same_on_the_host(tmp_path):
    text = whole(made(with_template(tmp_path, OWN)))
    assert strip(load(text)) == strip(load(OWN))
    assert "mode: 0440" in text, "Compose reads it as octal"
    assert 'B: "0440"' in text
    assert "&" not in text
    assert 'A: "1_000"' in text, "Compose would read a number"


def test_compose_itself_reads_the_same_from_both(tmp_path):
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("no docker-compose here")
    configs = []
    for text in (OWN, whole(made(with_template(tmp_path, OWN)))):
        (tmp_path / "c.yml").write_text(text)
        command = [compose, "-p", "x", "-f", str(tmp_path / "c.yml"), "config", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        configs.append(strip(json.loads(done.stdout)))
    assert configs[0] == configs[1]


plain = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=12)
scalars = st.one_of(
    plain,
    st.sampled_from(
        ["0440", "1_000", "yes", "n", "~", "a: b", "- x", "#", "1e3", "'", '"', "=", "<<"]
    ),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=8,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None
)
@given(
    environment=st.dictionaries(plain, scalars, max_size=3),
    others=st.dictionaries(plain.filter(lambda n: not n.startswith("app_")), values, max_size=2),
    rest=st.dictionaries(plain.filter(lambda n: n != "services"), values, max_size=2),
)
def test_any_project_put_together_again_is_the_same_project(tmp_path, environment, others, rest):
    app = {"image": SHOP.image, "environment": environment}
    project = {**rest, "services": {**others, "app_1": app, "app_2": dict(app)}}
    text = json.dumps(project).replace("{{", "{ {").replace("{%", "{ %").replace("{#", "{ #")
    wanted = json.loads(text)
    found = load(whole(made(with_template(tmp_path, text))))
    for name in ("app_1", "app_2"):
        for side in (wanted, found):
            side["services"][name].pop("labels", None)
            side["services"][name].pop("image")
    assert found == wanted


# env files, by the rules of compose-go's dotenv (godotenv's, mended): verified against 2.26.1


NASTY = [
    "", "x", " x ", "a b", "#no comment", "a #b", "$HOME", "${HOME:?x}", "$$", r"\$", "it's", "''",
    '"', '"a"', "a\"b'c", "\\", "a\\", "a\\\\", r"\n", "\n", "a\nb\n", "\r\n", "a\rb", "\t", "=",
    "export A=b", "ü€😀", r"\0134", r"c:\new\'x", "'a\nb'\\", "`id`", "!!", "\\'", "\\\"",
    "a'$b\\$c",
]  # fmt: skip


def unquoted(line):
    """What Compose makes of ``NAME=value``; written after compose-go's parser."""
    value = line.partition("=")[2]
    quote, chars, escaped = value[0], [], False
    for at, char in enumerate(value[1:], 1):
        if char != quote:
            if not escaped and char == "\\":
                escaped = True
                continue
            chars += ["\\", char] if escaped else [char]
        elif escaped:
            chars.append(char)
        else:
            assert value[at + 1 :] == "", "text after the closing quote"
            break
        escaped = False
    else:
        raise AssertionError("the quote is never closed")
    text = "".join(chars)
    if quote == "'":
        return text
    back = {"\\n": "\n", "\\r": "\r", "\\\\": "\\", '\\"': '"', "\\$": "$"}
    out, at = "", 0
    while at < len(text):
        pair = text[at : at + 2]
        assert text[at] != "$", "it would be interpolated"
        out += back.get(pair, text[at])
        at += 2 if pair in back else 1
    return out


@given(st.sampled_from(NASTY) | plain)
def test_a_secret_reaches_the_container_as_it_is(value):
    line = f"A={r._env_value(value)}"
    assert "\n" not in line
    assert unquoted(line) == value


def test_compose_itself_reads_every_secret_as_it_is(tmp_path):
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("no docker-compose here")
    secrets = {f"S{n}": value for n, value in enumerate(NASTY)}
    release = made(with_template(tmp_path, ONE, instances=1), secrets=secrets)[0]
    (tmp_path / f"releases/{release.id}").mkdir(parents=True)
    (tmp_path / f"releases/{release.id}/env").write_bytes(release.env.encode())
    (tmp_path / "c.yml").write_text(whole([release]))
    command = [compose, "-p", "x", "-f", str(tmp_path / "c.yml"), "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["services"]["app_1"]["environment"]
    assert {n: v.replace("$$", "$") for n, v in found.items()} == secrets


def test_two_instances_with_the_same_block_are_two_releases(tmp_path):
    first, second = made(with_template(tmp_path, FLAT))
    assert first.id != second.id


@pytest.mark.parametrize("odd", ["labels: 5", "env_file: 5", "labels: [a, b]\n    5: x"])
def test_a_block_that_nothing_can_be_put_beside_is_refused_in_one_line(tmp_path, odd):
    text = f"services:\n  app_1:\n    image: registry.lab:5000/shop:1.0\n    {odd}\n"
    with pytest.raises(PreflightFailed, match=r"app_1 renders to what is no service"):
        r.project(with_template(tmp_path, text), WEB1, "1.0")


def test_what_one_host_makes_of_an_imported_module_is_not_seen_by_the_next(tmp_path):
    (tmp_path / "m.j2").write_text(
        "{% set seen = namespace(n=0) %}{% macro next() %}{% set seen.n = seen.n + 1 %}{{ seen.n }}"
        "{% endmacro %}"
    )
    service = with_template(tmp_path, '{% import "m.j2" as m %}{{ m.next() }}')
    assert [r.render(service, WEB1, "1.0") for _ in range(2)] == ["1", "1"]


def test_a_template_that_was_changed_is_read_anew(tmp_path):
    service = with_template(tmp_path, "one")
    assert r.render(service, WEB1, "1.0") == "one"
    service.template.write_text("two")
    assert r.render(service, WEB1, "1.0") == "two"
