"""A Docker on paper: answers from files, remembers what it was asked."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STUB = """
import json, os, pathlib, sys
home = pathlib.Path(os.environ["STUB"])
argv = sys.argv[1:]
read = "--password-stdin" in argv
stdin = sys.stdin.read() if read else ""
with (home / "argv").open("a") as log:
    log.write(json.dumps(argv) + "\\n")
for name, answer in json.loads((home / "answers").read_text()):
    if name in " ".join(argv):
        copy = answer.get("copy")
        if copy:
            path = argv[argv.index("-f") + 1]
            (home / copy).write_text(pathlib.Path(path).read_text())
            (home / (copy + ".dir")).write_text(str(pathlib.Path(path).resolve().parent))
        sys.stdout.write(answer.get("out", ""))
        sys.stderr.write(answer.get("err", ""))
        sys.exit(answer.get("code", 0))
"""


class Docker:
    """Answers by the first rule whose words are in the command line; the latest rule first."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.rules: list[tuple[str, dict[str, object]]] = []
        (home / "bin").mkdir(parents=True)
        (home / "bin/docker").write_text(f"#!{sys.executable} -IS{STUB}")
        (home / "bin/docker").chmod(0o755)
        self.on("nothing yet")

    def on(self, words, out="", err="", code=0, copy=""):
        self.rules.insert(0, (words, {"out": out, "err": err, "code": code, "copy": copy}))
        (self.home / "answers").write_text(json.dumps(self.rules))

    @property
    def asked(self):
        """Every command line."""
        path = self.home / "argv"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def docker(tmp_path):
    return Docker(tmp_path / "docker")


@pytest.fixture(params=["dash", "bash"])
def sh(request, docker):
    env = {
        "PATH": f"{docker.home}/bin:{os.environ['PATH']}",
        "STUB": str(docker.home),
        "HOME": str(docker.home),
        "http_proxy": "http://127.0.0.1:9",
    }

    def run(script, stdin=b""):
        return subprocess.run(
            [request.param, "-c", script],
            input=stdin,
            capture_output=True,
            env=env,
            timeout=30,
            check=False,
        )

    return run
