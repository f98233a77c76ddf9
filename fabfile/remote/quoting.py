"""The one place that quotes for a shell.

Every other module hands arguments over as they are and gets text back that POSIX ``sh`` reads as
exactly those arguments. A script is put together from parts that were each made here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

_PLACEHOLDER = re.compile(r"%(.?)", re.DOTALL)


def q(argument: object) -> str:
    """Quote one argument: ``q("a b")`` is ``'a b'``.

    Raises :class:`ValueError` for a NUL byte, which no argument of a program can hold.
    """
    text = str(argument)
    if "\0" in text:
        raise ValueError("an argument with a NUL byte cannot be passed to a program")
    return shlex.quote(text)


def join(argv: Iterable[object]) -> str:
    """A command line that runs ``argv``."""
    return " ".join(q(argument) for argument in argv)


def sh(template: str, *arguments: object) -> str:
    """Fill ``template``: each ``%s`` becomes the next argument, quoted; ``%%`` is a percent sign.

    Never put quotes around a ``%s``. Raises :class:`ValueError` when placeholders and arguments
    do not match or another ``%`` sequence turns up: these are mistakes of ours, not of a user.
    """
    left = list(arguments)

    def fill(match: re.Match[str]) -> str:
        if match[1] == "%":
            return "%"
        if match[1] != "s":
            raise ValueError(f"{match[0]!r} in {template!r}: write %s or %%")
        if not left:
            raise ValueError(f"more %s than arguments in {template!r}")
        return q(left.pop(0))

    script = _PLACEHOLDER.sub(fill, template)
    if left:
        raise ValueError(f"{len(left)} argument(s) too many for {template!r}")
    return script


def lines(*parts: str) -> str:
    """Parts of a script one after the other, whatever each exits with; empty ones are left out."""
    return "\n".join(part for part in parts if part)


def strict(*parts: str) -> str:
    """Parts of a script of which the first to fail ends it, as do unset variables."""
    return lines("set -eu", *parts)


def all_of(*parts: str) -> str:
    """One command that runs the parts until one fails."""
    return " && ".join(f"{{ {part}\n}}" for part in parts if part)


def pipe(*parts: str) -> str:
    """One pipeline."""
    return " | ".join(part for part in parts if part)


def with_env(values: Iterable[tuple[str, object]], command: str) -> str:
    """``command`` with environment variables set for it alone. Not for secrets: argv is public."""
    assignments = []
    for name, value in values:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is no name for an environment variable")
        assignments.append(f"{name}={q(value)}")
    return " ".join([*assignments, command])


def answer_lines(body: str, marker: str, *, setup: str = "") -> str:
    """The script for ``Transport.converse``: ``body`` runs once for each ``$line`` of stdin.

    ``body`` finds the request in ``$line`` (quote it as ``"$line"``), must not read stdin, and
    owns its deadlines (``timeout 5 socat …``). ``marker`` is printed on a line of its own after
    each answer.
    """
    return lines(
        setup,
        "while IFS= read -r line; do",
        f"{{ {body}\n}} </dev/null",
        sh("printf '%%s\\n' %s", marker),
        "done",
    )


def deadline(script: str, seconds: int) -> str:
    """A command line that ends ``script`` after ``seconds`` on its own host, hard 5 s later.

    Works with the ``timeout`` of coreutils and of busybox (whole seconds only).
    """
    return sh("exec timeout -k 5 %s sh -c %s", seconds, script)
