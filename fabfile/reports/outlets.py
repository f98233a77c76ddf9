"""Who hears of a rollout beside the one who runs it: figures for Prometheus, and webhooks.

Nothing in here may fail, hold up or slow down a rollout: what goes wrong is a notice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fabfile.errors import EvenkeelError
from fabfile.files import replace_file
from fabfile.inventory.model import Service
from fabfile.reports import announce, metrics
from fabfile.reports.announce import Message
from fabfile.reports.console import as_facts
from fabfile.reports.outbox import Outbox
from fabfile.reports.story import Story, Teller
from fabfile.reports.webhook import Parcel
from fabfile.rollout.events import Event, Notice, RolloutFinished, RolloutStarted

PATIENCE = 5.0
"""Seconds for which the end of a rollout waits for webhooks and the Pushgateway, all together."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def watching(
    service: Service, rollout: str, out: Callable[[Event], None], mode: str = "deploy"
) -> Iterator[Watcher]:
    """A receiver of events for the time of a rollout; notices about itself go to ``out``.

    Its last words come when the context is left; that takes at most :data:`PATIENCE` seconds.
    """
    watcher = Watcher(service, rollout, out, mode)
    try:
        yield watcher
    except BaseException as error:
        watcher.stopped(error)
        raise
    finally:
        watcher.close()


class Watcher:
    """Receives events; what they come to is told when the rollout is over."""

    def __init__(
        self,
        service: Service,
        rollout: str,
        out: Callable[[Event], None],
        mode: str = "deploy",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``mode``: what a person called for; ``clock``: seconds since 1970."""
        self._service, self._rollout, self._clock = service, rollout, clock
        self._out, self._mode = out, mode
        self._teller = Teller()
        self._began: RolloutStarted | None = None
        self._ended: RolloutFinished | None = None
        self._hooks = [(hook, Outbox(hook.url, self._say)) for hook in service.notify]
        push = service.metrics.pushgateway
        self._push = Outbox(push, self._say) if push else None
        self._wanted = bool(self._hooks or self._push or service.metrics.textfile)

    def __call__(self, event: Event) -> None:
        """Take ``event`` in."""
        if not self._wanted:
            return
        self._teller.take(as_facts(event, self._clock()))
        if isinstance(event, RolloutStarted):
            self._began = event
            self._announce(announce.started(event, self._mode), "that it began")
        elif isinstance(event, RolloutFinished):
            self._ended = event

    def ended(self, code: int) -> None:
        """It is over; ``code`` is what ``fab`` ends with."""
        if self._ended is not None:
            self._last_words(lambda story: self._verdict(story, code))

    def stopped(self, error: BaseException) -> None:
        """It ended with ``error``, before its verdict or in what comes after it."""
        if self._ended is not None:
            self.ended(error.exit_code if isinstance(error, EvenkeelError) else 1)
        else:
            self._last_words(lambda story: self._broken_off(story, error))

    def close(self) -> None:
        """Wait a little for what is still on its way."""
        boxes = [box for _, box in self._hooks] + ([self._push] if self._push else [])
        for box in boxes:
            box.close()
        ends = time.monotonic() + PATIENCE
        for box in boxes:
            try:
                box.wait(ends - time.monotonic())
            except KeyboardInterrupt:  # somebody does not want to wait: the rollout is over
                ends = 0.0
                box.wait(0.0)

    def _last_words(self, tell: Callable[[Story], None]) -> None:
        if not self._wanted:
            return
        self._wanted = False  # they are said once
        try:
            tell(self._teller.finish())
        except Exception as error:  # nothing that is said of a rollout may change what came of it
            self._say(f"metrics and webhooks: {type(error).__name__}: {error}")

    def _verdict(self, story: Story, code: int) -> None:
        if self._began and self._ended:  # what ran already is worth a figure, but no message
            seconds = story.end - story.start
            message = announce.ended(self._service.name, self._ended, self._mode, seconds, code)
            self._announce(message, "how it ended")
        self._figures(story, success=code == 0)

    def _broken_off(self, story: Story, error: BaseException) -> None:
        began = self._began is not None
        why = str(error) if isinstance(error, EvenkeelError) else type(error).__name__
        if isinstance(error, KeyboardInterrupt | SystemExit):
            why = "interrupted"
        name = self._began.rollout if self._began else self._rollout
        message = announce.stopped(self._service.name, name, self._mode, why, began=began)
        self._announce(message, "how it ended")
        if began:  # a refusal says nothing about the rollout before, whose figures stay
            self._figures(story, success=False)

    def _say(self, text: str) -> None:
        self._out(Notice(text))

    def _announce(self, message: Message, what: str) -> None:
        for hook, box in self._hooks:
            if message.moment in hook.on:
                box.put(what, Parcel(message.body(hook.kind)))

    def _figures(self, story: Story, *, success: bool) -> None:
        name = self._service.name
        if self._push:
            text = metrics.exposition(story, metrics.Outcome(name, success))
            # PUT replaces all that is known of the service; POST leaves the last success there.
            method = "PUT" if success else "POST"
            path = f"/metrics/job/{metrics.JOB}/service/{name}"
            self._push.put("the figures", Parcel(text.encode(), method, TEXT, path))
        if self._service.metrics.textfile:
            self._write(self._service.metrics.textfile, story, success=success)

    def _write(self, folder: Path, story: Story, *, success: bool) -> None:
        name = self._service.name
        path = folder / f"{metrics.JOB}_{name}.prom"
        before = None if success else _last_success(path, name)
        text = metrics.exposition(story, metrics.Outcome(name, success, before))
        try:
            replace_file(path, text, 0o644)
        except OSError as error:
            self._say(f"metrics.textfile: {folder}: not written: {error.strerror}")


def _last_success(path: Path, service: str) -> float | None:
    try:
        return metrics.last_success(path.read_text(encoding="utf-8"), service)
    except (OSError, ValueError):
        return None
