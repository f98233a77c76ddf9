"""The prober against a server that misbehaves in every way the report can name."""

from __future__ import annotations

import threading
import time

import pytest

from fabfile.checks.events import Began, Second, Seen, SocketEnded
from fabfile.checks.lanes import DownloadLane, FastLane, LongLane, StickyLane
from fabfile.checks.prober import Probe
from fabfile.checks.sockets import WebSocketLane
from fabfile.checks.summary import CRITICAL, OK, UNKNOWN, WARNING, judge
from fabfile.errors import BadInput


def probe(*urls, seconds=0.1, rate=120, **options):
    run = Probe([FastLane(tuple(urls), rate=rate, **options)], duration=seconds)
    run.start()
    assert run.wait(10)
    return run.summary()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/500", "HTTP 5xx"),
        ("/404", "HTTP 4xx"),
        ("/close", "closed without answer"),
        ("/half-head", "closed without answer"),
        ("/reset", "reset"),
        ("/truncated", "incomplete body"),
        ("/chunked-cut", "incomplete body"),
        ("/garbage", "other"),
        ("/hang", "read timeout"),
        ("/stall", "read timeout"),
    ],
)
def test_each_way_to_fail_is_named_and_its_request_is_never_sent_again(server, path, kind):
    figures = probe(server.url(path), timeout=0.2).overall

    assert figures.kinds == {kind: 12}
    assert figures.requests == figures.failures == 12
    assert server.asked[path] == 12
    assert len(figures.examples) == 3
    assert figures.examples[0].url == server.url(path)


def test_a_service_that_is_down_is_refused_and_critical(closed_port):
    summary = probe(f"http://127.0.0.1:{closed_port}/")

    assert summary.overall.kinds == {"connect refused": 12}
    assert judge(summary).exit_code == CRITICAL


def test_a_connection_that_nobody_accepts_is_a_connect_timeout():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        time.sleep(0.05)
        figures = probe(f"http://127.0.0.1:{port}/", timeout=0.2, rate=60).overall
        for filler in fillers:
            filler.close()

    assert figures.kinds == {"connect timeout": 6}


@pytest.mark.parametrize("path", ["/ok", "/chunked", "/until-close", "/redirect"])
def test_good_answers_of_every_framing_are_good(server, path):
    summary = probe(server.url(path))

    assert summary.overall.failures == 0
    assert summary.overall.good == server.asked[path] == 12
    assert judge(summary).exit_code == OK
    assert server.asked.total() == 12, "a redirect was followed"


def test_half_of_the_requests_open_their_own_connection(server):
    probe(server.url("/ok"), rate=100, seconds=0.4)

    assert server.asked["/ok"] == 40
    kept = server.connections - 20
    assert 4 <= kept <= 10, "20 fresh ones, and 4 kept ones that take turns (more when stalled)"


def test_kept_connections_only(server):
    probe(server.url("/ok"), rate=100, seconds=0.4, connections="kept")

    assert 4 <= server.connections <= 15


def test_a_kept_connection_closed_while_idle_is_no_failure(server):
    figures = probe(server.url("/idle-close"), connections="kept", rate=20, seconds=0.5).overall

    assert figures.failures == 0
    assert figures.requests == server.asked["/idle-close"] == 10
    assert server.connections == 10


def test_a_request_dropped_on_a_kept_connection_is_a_failure_and_not_sent_again(server):
    figures = probe(server.url("/second-dropped"), connections="kept", rate=40, seconds=0.5).overall

    assert figures.requests == server.asked["/second-dropped"] == 20
    assert figures.kinds["closed without answer"] > 5
    assert "as request 2 of a kept connection" in figures.examples[0].detail


def test_a_slow_service_does_not_slow_the_schedule(server):
    began = time.monotonic()
    figures = probe(server.url("/slow"), rate=60, seconds=0.5, slow_after=0.1).overall

    assert figures.requests == figures.slow == 30
    assert time.monotonic() - began < 1.5
    assert judge(probe(server.url("/slow"), slow_after=0.1)).exit_code == WARNING


def test_urls_take_turns_and_have_gaps_of_their_own(server, closed_port):
    dead = f"http://127.0.0.1:{closed_port}/"
    figures = probe(server.url("/ok"), dead, rate=40, seconds=0.5).overall

    assert server.asked["/ok"] == 10
    assert figures.kinds == {"connect refused": 10}
    assert figures.gaps[dead].seconds == pytest.approx(0.5, abs=0.1)
    assert figures.gap.seconds < 0.3


def test_names_of_server_and_version_come_from_headers_or_the_body(server):
    run = Probe([FastLane((server.url("/ok"), server.url("/until-close")), rate=40)], duration=0.3)
    run.start()
    run.wait(5)
    seen = {(e.server, e.version) for e in run.drain() if isinstance(e, Seen)}

    assert seen == {("web1/app_1", "0.0.1"), ("web9", "0.0.7")}
    assert set(run.summary().overall.versions) == {"0.0.1", "0.0.7"}


def test_a_server_that_changes_its_version_is_told_once_for_each(server):
    run = Probe([FastLane((server.url("/ok"),), rate=50)], duration=0.6, expect_version="0.0.2")
    run.start()
    time.sleep(0.25)
    server.version = "0.0.2"
    run.wait(5)

    assert [e.version for e in run.drain() if isinstance(e, Seen)] == ["0.0.1", "0.0.2"]
    assert judge(run.summary()).exit_code == OK


def test_the_old_version_still_answering_at_the_end_is_critical(server):
    run = Probe([FastLane((server.url("/ok"),), rate=50)], duration=0.3, expect_version="0.0.2")
    run.start()
    run.wait(5)
    verdict = judge(run.summary())

    assert verdict.exit_code == CRITICAL
    assert verdict.reasons == ("the last answers are not all of version 0.0.2",)
    assert run.summary().overall.kinds == {"wrong version": 1}


def test_a_run_can_end_on_its_own_once_the_new_version_is_steady(server, monkeypatch):
    monkeypatch.setattr("fabfile.checks.prober.STEADY_SECONDS", 1)
    server.version = "0.0.2"
    run = Probe([FastLane((server.url("/ok"),), rate=20)], duration=20, until_version="0.0.2")
    run.start()

    assert run.wait(6)
    assert judge(run.summary()).exit_code == OK


def test_stopping_waits_for_requests_under_way(server):
    run = Probe([LongLane((server.url("/slow"),), rate=20)])
    run.start()
    time.sleep(0.2)
    summary = run.stop()

    assert summary.overall.requests == server.asked["/slow"]
    assert summary.overall.failures == 0


def test_giving_up_does_not_wait_for_a_service_that_hangs(server):
    run = Probe([LongLane((server.url("/hang"),), rate=20)])
    run.start()
    time.sleep(0.2)
    began = time.monotonic()
    run.stop(at_once=True)

    assert time.monotonic() - began < 1


def test_sticky_clients_keep_their_own_cookies(server):
    run = Probe([StickyLane((server.url("/cookie"),), rate=30, clients=3)], duration=0.5)
    run.start()
    run.wait(5)

    assert server.cookies.count("") == 3, "each client is given a cookie once"
    assert {c for c in server.cookies if c} == {"SRV=s1", "SRV=s2", "SRV=s3"}


def test_a_cookie_taken_back_is_not_sent_again(server):
    run = Probe([StickyLane((server.url("/forgets-cookie"),), rate=20, clients=1)], duration=0.4)
    run.start()
    run.wait(5)

    assert server.cookies == ["", "yes"] * 4


@pytest.mark.parametrize(
    ("path", "expect", "failures"),
    [
        ("/ok", 4, 0),
        ("/ok", 5, 4),
        ("/chunked", None, 0),
        ("/chunked-cut", None, 4),
        ("/until-close", None, 4),
    ],
)
def test_a_download_must_arrive_whole(server, path, expect, failures):
    run = Probe([DownloadLane((server.url(path),), rate=20, expect_bytes=expect)], duration=0.2)
    run.start()
    run.wait(5)

    assert run.summary().overall.requests == 4
    assert run.summary().overall.kinds.get("incomplete body", 0) == failures


def websocket(server, path, seconds=0.5, **options):
    lane = WebSocketLane((server.url(path),), every=0.1, **options)
    run = Probe([lane], duration=seconds)
    run.start()
    assert run.wait(10)
    return run.summary(), [e for e in run.drain() if isinstance(e, SocketEnded)]


def test_a_websocket_lives_as_long_as_the_run(server):
    summary, ended = websocket(server, "/ws")

    assert server.asked["/ws"] == 1
    assert summary.overall.failures == 0
    assert summary.overall.requests >= 5
    assert summary.overall.sockets == ()
    assert [(e.by_us, e.server) for e in ended] == [(True, "web1/app_1")]


@pytest.mark.parametrize(
    ("path", "how", "code"),
    [
        ("/ws-going-away", "close frame 1001", 1001),
        ("/ws-cut", "closed without a close frame", None),
    ],
)
def test_a_websocket_ended_by_the_service_is_reported_and_opened_again(server, path, how, code):
    summary, ended = websocket(server, path, seconds=0.7)

    assert server.asked[path] > 1
    assert summary.overall.failures == 0
    assert {(e.how, e.code) for e in summary.overall.sockets} == {(how, code)}
    assert ended[0].lived > 0.05


def test_an_echo_that_stays_away_is_a_failure(server):
    summary, _ = websocket(server, "/ws-mute", timeout=0.1, seconds=0.25)

    assert summary.overall.kinds["read timeout"] >= 1


def test_a_handshake_that_is_no_websocket_is_a_failure(server):
    assert websocket(server, "/ok")[0].overall.kinds["other"] > 0
    assert websocket(server, "/500")[0].overall.kinds["HTTP 5xx"] > 0


def test_lanes_run_side_by_side_and_have_figures_of_their_own(server):
    lanes = [
        FastLane((server.url("/ok"),), rate=50),
        LongLane((server.url("/slow"),), rate=5),
        WebSocketLane((server.url("/ws"),), every=0.1),
    ]
    run = Probe(lanes, duration=0.6)
    run.start()
    run.wait(5)
    summary = run.summary()

    assert summary.lanes["fast"].requests == server.asked["/ok"] == 30
    assert summary.lanes["long"].requests == server.asked["/slow"] == 3
    assert summary.overall.requests == sum(lane.requests for lane in summary.lanes.values())
    assert summary.overall.failures == 0


def test_every_second_of_every_lane_is_told_even_when_nothing_happened(server):
    lanes = [FastLane((server.url("/ok"),), rate=20), LongLane((server.url("/slow"),), rate=0.1)]
    run = Probe(lanes, duration=1.1)
    run.start()
    run.wait(5)
    events = run.drain()
    seconds = [e for e in events if isinstance(e, Second)]

    assert isinstance(events[0], Began)
    assert [(e.t, e.lane) for e in seconds] == [(t, n) for t in (0, 1) for n in ("fast", "long")]
    assert sum(e.requests for e in seconds) == run.summary().overall.requests
    assert seconds[0].versions == {"0.0.1": 20}


def test_a_prober_that_was_starved_says_so_and_blames_nobody(server):
    """A blocked event loop is what a starved process looks like from inside."""
    run = Probe([FastLane((server.url("/ok"),), rate=50)], duration=0.6)
    run.start()
    time.sleep(0.1)
    assert run._loop is not None
    run._loop.call_soon_threadsafe(time.sleep, 0.3)
    run.wait(5)
    summary = run.summary()

    assert summary.overall.failures == 0
    assert summary.overall.late > 5
    assert judge(summary).exit_code == UNKNOWN


def test_requests_beyond_the_open_file_limit_are_ours_and_no_failure(server, monkeypatch):
    monkeypatch.setattr("fabfile.checks.prober.max_running", lambda: 3)
    figures = probe(server.url("/slow")).overall

    assert figures.failures == 0
    assert figures.requests == server.asked["/slow"] == 3
    assert figures.unsent == 9


def test_figures_can_be_read_while_it_runs(server):
    with Probe([FastLane((server.url("/ok"),), rate=50)]) as run:
        time.sleep(0.3)
        assert run.summary().overall.requests > 5


def test_a_finished_run_leaves_no_thread_behind(server):
    run = Probe([FastLane((server.url("/ok"),), rate=50, connections="fresh")], duration=0.1)
    run.start()
    run.wait(5)
    run.stop()
    run._thread.join(5)

    assert not any(t.name == run._thread.name for t in threading.enumerate())


@pytest.mark.parametrize(
    "url",
    ["", "web1", "ftp://web1/", "http:///x", "http://a b/", "http://h:99999/", "http://u:p@h/"],
)
def test_a_url_that_cannot_work_is_refused_before_anything_is_sent(url):
    with pytest.raises(BadInput):
        Probe([FastLane((url,), rate=1)]).start()


def test_a_name_without_an_address_is_refused_before_anything_is_sent():
    with pytest.raises(BadInput, match=r"no address for nosuch\.invalid"):
        Probe([FastLane(("http://nosuch.invalid/",), rate=1)]).start()
