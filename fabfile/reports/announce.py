"""What a webhook is told of a rollout: that it began, how it ended, or that it could not begin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from fabfile.inventory.model import Moment, WebhookKind
from fabfile.reports.console import counted
from fabfile.rollout.events import RolloutFinished, RolloutStarted

MOST = 2900
"""Slack refuses a block of more than 3,000 characters."""


@dataclass(frozen=True)
class Message:
    """One moment of a rollout."""

    moment: Moment
    text: str
    """One line."""
    facts: Mapping[str, object] = field(default_factory=dict)

    def body(self, kind: WebhookKind) -> bytes:
        """As ``kind`` wants it; both hold ``text``, which Slack and its likes show."""
        if kind == "slack":
            return json.dumps(_slack(self)).encode()
        return json.dumps({"text": self.text, "event": self.moment, **self.facts}).encode()


def started(event: RolloutStarted, mode: str) -> Message:
    """The first batch is next. ``mode``: what a person called for, such as ``deploy``."""
    what = f"{event.changing} of {event.total} instances on {', '.join(event.hosts)}"
    text = f"{event.service}: {mode} {event.rollout} to {event.version} begins: {what}"
    facts = {
        "mode": mode,
        "service": event.service,
        "rollout": event.rollout,
        "version": event.version,
        "hosts": list(event.hosts),
        "changing": event.changing,
        "instances": event.total,
    }
    return Message("started", text, facts)


def ended(service: str, event: RolloutFinished, mode: str, seconds: float, code: int) -> Message:
    """It is over; ``code`` is what ``fab`` ends with."""
    what = f"{event.verdict}: {counted(event)}, after {seconds:.0f} s"
    if code:
        why = f"; because {event.reason}" if event.reason else ""
        repair = f"; needs repair: {', '.join(event.broken)}" if event.broken else ""
        what = f"FAILED (exit code {code}), {what}{why}{repair}"
    text = f"{service}: {mode} {event.rollout} to {event.version} {what}"
    facts = {
        "mode": mode,
        "service": service,
        "rollout": event.rollout,
        "version": event.version,
        "verdict": event.verdict,
        "exit_code": code,
        "seconds": round(seconds, 3),
        "upgraded": event.upgraded,
        "current": event.current,
        "restored": event.restored,
        "untouched": event.untouched,
        "broken": list(event.broken),
        "reason": event.reason,
    }
    return Message("failed" if code else "finished", _one_line(text), facts)


def stopped(service: str, rollout: str, mode: str, why: str, *, began: bool) -> Message:
    """It ended without a verdict: refused before the first change, or broken off."""
    verdict = "unfinished" if began else "refused"
    said = "was broken off" if began else "did not begin"
    text = _one_line(f"{service}: {mode} {rollout} FAILED: it {said}: {why}")
    facts = {
        "mode": mode,
        "service": service,
        "rollout": rollout,
        "verdict": verdict,
        "reason": why,
    }
    return Message("failed", text, facts)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _slack(message: Message) -> dict[str, object]:
    """Text for notifications, and a block in which the service stands out."""
    plain = _escaped(message.text)
    service, _, rest = plain.partition(": ")
    block = {"type": "mrkdwn", "text": _cut(f"*{service}*: {rest}")}
    return {"text": _cut(plain), "blocks": [{"type": "section", "text": block}]}


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[:MOST]}..."


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
