"""Many lanes, one trip to a balancer: nobody gets an answer from before its question."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fabfile.drivers.combiner import Combiner


def gather(combiner, requests):
    """Ask for all at once; answers or errors, in order."""
    with ThreadPoolExecutor(max(len(requests), 1)) as pool:
        futures = [pool.submit(combiner.ask, request) for request in requests]
        return [future.exception(timeout=10) or future.result() for future in futures]


def test_one_caller_gets_its_own_trip():
    trips = []
    combiner = Combiner(lambda batch: trips.append(list(batch)) or len(trips))
    assert [combiner.ask("a"), combiner.ask("b")] == [1, 2]
    assert trips == [["a"], ["b"]]


def test_requests_made_during_a_trip_share_the_next_one():
    trips, go = [], threading.Event()

    def trip(batch):
        trips.append(sorted(batch))
        go.wait(5)
        return len(trips)

    combiner = Combiner(trip)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(combiner.ask, 0)
        while not trips:
            time.sleep(0.001)
        rest = [pool.submit(combiner.ask, n) for n in range(1, 6)]
        while len(combiner._waiting) < 5:
            time.sleep(0.001)
        go.set()
        assert first.result(5) == 1
        assert [future.result(5) for future in rest] == [2] * 5
    assert trips == [[0], [1, 2, 3, 4, 5]]


def test_an_answer_is_never_older_than_its_question():
    clock = iter(range(10**9))

    def trip(_):
        began = next(clock)
        time.sleep(0.0005)
        return began

    combiner, wrong = Combiner(trip), []

    def caller(_):
        for _ in range(40):
            asked = next(clock)
            if combiner.ask(None) < asked:
                wrong.append(asked)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8), timeout=30))
    assert wrong == []


def test_every_request_is_carried_exactly_once():
    carried = []
    combiner = Combiner(lambda batch: carried.extend(batch))
    gather(combiner, list(range(50)))
    assert sorted(carried) == list(range(50))


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_what_goes_wrong_reaches_the_whole_batch_and_nobody_after_it(error):
    go, trips = threading.Event(), []

    def trip(batch):
        trips.append(batch)
        if len(trips) == 1:
            go.wait(5)
        if len(trips) == 2:
            raise error
        return len(trips)

    combiner, met = Combiner(trip), []

    def caller(n):
        try:
            met.append(combiner.ask(n))
        except BaseException as caught:
            met.append(caught)

    threads = [threading.Thread(target=caller, args=(0,))]
    threads[0].start()
    while not trips:
        time.sleep(0.001)
    threads += [threading.Thread(target=caller, args=(n,)) for n in (1, 2, 3)]
    for thread in threads[1:]:
        thread.start()
    while len(combiner._waiting) < 3:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive(), "it waits for ever"
    assert sorted(map(str, met)) == sorted(["1", *[str(error)] * 3])
    assert combiner.ask(9) == 3
    assert combiner._answers == {}, "nothing piles up"
