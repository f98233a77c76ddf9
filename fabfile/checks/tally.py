"""Counts samples as they come, and turns the counts into figures at any moment."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fabfile.checks.events import Event, Failed, Second, Seen, SocketEnded
from fabfile.checks.figures import GapMeter, Histogram, percentile
from fabfile.checks.sample import Failure, Sample
from fabfile.checks.summary import Figures, Presence, Summary

EXAMPLES = 3
"""Failures of each kind that are told one by one."""

FINAL_SECONDS = 1.0
FINAL_ANSWERS = 5
"""An expected version is looked for in the answers to what was sent in the last second, or in
the last 5 answers where there were fewer."""


@dataclass
class _Presences:
    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def add(self, name: str | None, moment: float) -> None:
        if name is None:
            return
        self.counts[name] += 1
        self.first.setdefault(name, moment)
        self.last[name] = moment

    def freeze(self) -> dict[str, Presence]:
        return {
            name: Presence(count, round(self.first[name], 3), round(self.last[name], 3))
            for name, count in self.counts.items()
        }


@dataclass
class Counts:
    """The running figures of one lane, or of all."""

    name: str
    slow_after: float = float("inf")
    latencies: Histogram = field(default_factory=Histogram)
    requests: int = 0
    slow: int = 0
    late: int = 0
    unsent: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[Failed] = field(default_factory=list)
    meter: GapMeter = field(default_factory=GapMeter)
    meters: dict[str, GapMeter] = field(default_factory=dict)
    versions: _Presences = field(default_factory=_Presences)
    servers: _Presences = field(default_factory=_Presences)
    sockets: list[SocketEnded] = field(default_factory=list)

    def add(self, sample: Sample, *, slow: bool, gaps: bool) -> Failed | None:
        """Count one sample; what is returned is worth telling."""
        self.requests += 1
        self.late += sample.late
        if gaps:
            self.meter.add(sample.finished, good=sample.good)
            meter = self.meters.setdefault(sample.url, GapMeter())
            meter.add(sample.finished, good=sample.good)
        if sample.failure is not None:
            return self.fail(sample, sample.failure, sample.detail)
        self.slow += slow
        self.latencies.add(sample.latency)
        self.versions.add(sample.version, sample.finished)
        self.servers.add(sample.server, sample.finished)
        return None

    def fail(self, sample: Sample, kind: Failure, detail: str) -> Failed | None:
        """Count a failure; the first few of its kind are kept and returned."""
        self.kinds[kind] += 1
        if self.kinds[kind] > EXAMPLES:
            return None
        moment = round(sample.finished, 3)
        example = Failed(moment, sample.lane, sample.url, kind.value, detail)
        self.examples.append(example)
        return example

    def freeze(self, seconds: float, end: float) -> Figures:
        """The figures of a run that sent for ``seconds`` and whose gaps end at ``end``."""
        return Figures(
            name=self.name,
            requests=self.requests,
            failures=self.kinds.total(),
            kinds={str(kind): count for kind, count in self.kinds.items()},
            examples=tuple(self.examples),
            slow=self.slow,
            late=self.late,
            unsent=self.unsent,
            seconds=seconds,
            p50=self.latencies.percentile(50),
            p99=self.latencies.percentile(99),
            max=self.latencies.max,
            gap=self.meter.longest(end),
            gaps={url: meter.longest(end) for url, meter in self.meters.items()},
            row=self.meter.worst_row,
            versions=self.versions.freeze(),
            servers=self.servers.freeze(),
            sockets=tuple(self.sockets),
        )


@dataclass
class _Bucket:
    """One second of one lane."""

    latencies: list[float] = field(default_factory=list)
    requests: int = 0
    slow: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample, *, slow: bool) -> None:
        self.requests += 1
        if sample.failure is not None:
            self.kinds[sample.failure.value] += 1
            return
        self.slow += slow
        self.latencies.append(sample.latency)
        if sample.version is not None:
            self.versions[sample.version] += 1
        if sample.server is not None:
            self.servers[sample.server] += 1

    def freeze(self, second: int, lane: str, running: int) -> Second:
        ordered = sorted(self.latencies)
        return Second(
            t=second,
            lane=lane,
            requests=self.requests,
            failures=self.kinds.total(),
            slow=self.slow,
            p50=round(percentile(ordered, 50), 6),
            p99=round(percentile(ordered, 99), 6),
            max=round(ordered[-1], 6) if ordered else 0.0,
            versions=dict(self.versions),
            servers=dict(self.servers),
            kinds=dict(self.kinds),
            running=running,
        )


@dataclass(frozen=True)
class LaneTraits:
    """What the tally has to know of a lane."""

    name: str
    slow_after: float
    gaps: bool
    """Its requests are short and steady, so that an interval without an answer means something."""


class Tally:
    """Everything that happened in one run. One thread only."""

    def __init__(self, lanes: list[LaneTraits], tell: Callable[[Event], None]) -> None:
        self._traits = {lane.name: lane for lane in lanes}
        self._lanes = {lane.name: Counts(lane.name) for lane in lanes}
        self._overall = Counts("all")
        self._buckets = {lane.name: _Bucket() for lane in lanes}
        self._latest: dict[str | None, tuple[str | None, float]] = {}
        self._recent: deque[Sample] = deque(maxlen=5000)
        self._tell = tell
        self.last_finished = 0.0
        """When the last sample came in."""

    def add(self, sample: Sample) -> None:
        """Count one sample. They come in order of ``finished``."""
        traits = self._traits[sample.lane]
        slow = sample.good and sample.latency > traits.slow_after
        self.last_finished = sample.finished
        self._lanes[sample.lane].add(sample, slow=slow, gaps=traits.gaps)
        example = self._overall.add(sample, slow=slow, gaps=traits.gaps)
        self._buckets[sample.lane].add(sample, slow=slow)
        if example is not None:
            self._tell(example)
        if sample.good:
            self._note_server(sample)
            if traits.gaps:
                self._recent.append(sample)

    def unsent(self, lane: str, count: int = 1) -> None:
        """Count requests the prober owed and did not send."""
        self._lanes[lane].unsent += count
        self._overall.unsent += count

    def socket_ended(self, ended: SocketEnded) -> None:
        """Note the end of a WebSocket."""
        self._tell(ended)
        if not ended.by_us:
            self._lanes[ended.lane].sockets.append(ended)
            self._overall.sockets.append(ended)

    def close_second(self, second: int, running: dict[str, int]) -> dict[str, Second]:
        """Tell what completed on each lane since the last call, even where nothing did."""
        closed = {}
        for lane, bucket in self._buckets.items():
            closed[lane] = bucket.freeze(second, lane, running.get(lane, 0))
            self._buckets[lane] = _Bucket()
            self._tell(closed[lane])
        return closed

    def freeze(self, seconds: float, expect_version: str | None = None) -> Summary:
        """The figures so far, of a run that sent for ``seconds``."""
        end = max(seconds, self.last_finished)
        lanes = {name: counts.freeze(seconds, end) for name, counts in self._lanes.items()}
        return Summary(self._overall.freeze(seconds, end), lanes, expect_version)

    def check_version(self, expected: str, end: float) -> bool:
        """Whether all of the last answers are of ``expected``; those that are not are failures.

        For a server that says its name only its latest answer counts: it may have been upgraded
        a moment ago. ``end`` is when sending stopped. Call it once.
        """
        by_start = sorted(self._recent, key=lambda sample: sample.started)
        since = end - FINAL_SECONDS
        final = [sample for sample in by_start if sample.started >= since]
        if len(final) < FINAL_ANSWERS:
            final = by_start[-FINAL_ANSWERS:]
        newest = {sample.server: sample for sample in final}
        wrong = [s for s in final if s.server is None or newest[s.server] is s]
        wrong = [sample for sample in wrong if sample.version != expected]
        for sample in wrong:
            detail = f"{sample.server or 'a server'} answers with {sample.version or 'no version'}"
            self._lanes[sample.lane].fail(sample, Failure.WRONG_VERSION, detail)
            example = self._overall.fail(sample, Failure.WRONG_VERSION, detail)
            if example is not None:
                self._tell(example)
        return bool(final) and not wrong

    def _note_server(self, sample: Sample) -> None:
        """Tell a server's first answer and its first with another version.

        An answer to a request that began before the server's newer version was first seen is a
        straggler of the old one, not a change back.
        """
        if sample.server is None and sample.version is None:
            return
        known = self._latest.get(sample.server)
        if known is not None and (known[0] == sample.version or sample.started < known[1]):
            return
        if sample.server is None and known is not None:
            # Several servers without a name share this entry: only a version never seen is news.
            seen = self._overall.versions.counts
            if sample.version is not None and seen[sample.version] > 1:
                return
        self._latest[sample.server] = (sample.version, sample.finished)
        moment = round(sample.finished, 3)
        self._tell(Seen(moment, sample.lane, sample.url, sample.server, sample.version))
