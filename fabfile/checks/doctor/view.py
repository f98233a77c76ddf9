"""A diagnosis as text for people, and as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict

from fabfile.checks.doctor.judge import Diagnosis


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """What is well, then each finding with what to write instead; the verdict comes last."""
    for area, text in diagnosis.well:
        yield f"{'ok':8} {area}: {text}"
    for finding in diagnosis.findings:
        yield f"{finding.severity:8} {finding.code}  {finding.where}: {finding.text}"
        yield f"{'':8} -> {finding.mend}"
    yield diagnosis.headline


def as_json(diagnosis: Diagnosis) -> str:
    """One object."""
    return json.dumps(
        {
            "exit_code": diagnosis.exit_code,
            "headline": diagnosis.headline,
            "findings": [{**asdict(f), "area": f.area} for f in diagnosis.findings],
            "well": dict(diagnosis.well),
        },
        ensure_ascii=False,
    )


def show(diagnosis: Diagnosis, *, as_object: bool) -> None:
    """Print it, as lines or as one object."""
    try:
        for line in [as_json(diagnosis)] if as_object else lines(diagnosis):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
