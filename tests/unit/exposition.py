"""Prometheus' text format, read as strictly as its authors wrote it down.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_VALUE = r'"(?:[^"\\\n]|\\[\\n"])*"'
_LABEL = rf"([a-zA-Z_][a-zA-Z0-9_]*)=({_VALUE})"
_SAMPLE = re.compile(rf"({NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def read(text):
    """``{(name, frozenset of labels): value}``; whatever the format forbids is an assertion."""
    assert text == "" or text.endswith("\n")
    found, families, kind, family = {}, {}, None, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert re.fullmatch(NAME, family), line
            assert family not in families, f"{family} comes twice"
            assert line.split(" ", 3)[3].strip(), line
            kind = None
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family, line
            assert kind in ("gauge", "counter", "summary", "histogram"), line
            families[family] = kind
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, f"no sample, or one with a timestamp: {line!r}"
            assert kind, f"{line!r} comes before its TYPE"
            assert match[1] in [family + s for s in _SUFFIXES.get(kind, ("",))], line
            labels = re.findall(_LABEL, match[2] or "")
            assert len({name for name, _ in labels}) == len(labels), line
            key = (match[1], frozenset((n, _unquoted(v)) for n, v in labels))
            assert key not in found, f"{line!r} comes twice"
            found[key] = float(match[match.lastindex])
    for name, kind in families.items():
        if kind == "histogram":
            _check_histogram(name, found)
    return found


def names(text):
    """Names of samples."""
    return {name for name, _ in read(text)}


def value(text, name, **labels):
    """The one sample of ``name`` that has these labels."""
    wanted = set(labels.items())
    (found,) = [v for (n, have), v in read(text).items() if n == name and wanted <= have]
    return found


def _unquoted(text):
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text[1:-1])


def _check_histogram(name, found):
    series = {}
    for (sample, labels), number in found.items():
        if sample == f"{name}_bucket":
            plain = dict(labels)
            bound = math.inf if plain["le"] == "+Inf" else float(plain["le"])
            rest = frozenset(item for item in labels if item[0] != "le")
            series.setdefault(rest, []).append((bound, number))
    assert series
    for rest, buckets in series.items():
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts), f"{name}: buckets are not cumulative"
        assert max(buckets)[0] == math.inf
        assert max(buckets)[1] == found[f"{name}_count", rest]
