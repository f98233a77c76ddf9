"""If these fail, sshd refuses commands, or a command waits for ever."""

import threading

from fabfile.remote.slots import Slots


def test_no_more_sessions_are_open_than_the_server_allows() -> None:
    slots = Slots(2)
    assert [slots.try_take() for _ in range(3)] == [True, True, False]
    slots.release()
    assert slots.try_take()


def test_who_waits_gets_the_next_free_slot() -> None:
    slots = Slots(1)
    slots.take()
    got = threading.Event()
    threading.Thread(target=lambda: (slots.take(), got.set()), daemon=True).start()
    assert not got.wait(0.05)
    slots.release()
    assert got.wait(5)


def test_a_server_that_allows_less_is_believed() -> None:
    slots = Slots(7)
    assert all(slots.try_take() for _ in range(3))
    assert slots.refused()  # two others are open: two it is
    assert not slots.try_take()
    slots.release()
    assert slots.try_take()


def test_a_server_that_allows_nothing_is_not_waited_for() -> None:
    slots = Slots(7)
    slots.take()
    assert not slots.refused()


def test_what_is_urgent_finds_a_slot_that_nobody_else_may_take() -> None:
    slots = Slots(3, reserved=1)
    assert [slots.try_take() for _ in range(3)] == [True, True, False]
    assert slots.try_take(urgent=True)
    assert not slots.try_take(urgent=True)


def test_what_is_urgent_goes_before_all_that_waits() -> None:
    slots = Slots(1, reserved=1)
    slots.take()
    order: list[str] = []

    def wait(name: str, urgent: bool) -> None:
        slots.take(urgent=urgent)
        order.append(name)
        slots.release()

    first = threading.Thread(target=wait, args=("patient", False), daemon=True)
    first.start()
    second = threading.Thread(target=wait, args=("urgent", True), daemon=True)
    second.start()
    while not slots._urgent:
        second.join(0.001)
    slots.release()
    second.join(5)
    first.join(5)
    assert order == ["urgent", "patient"]


def test_a_server_that_allows_a_single_session_is_shared() -> None:
    slots = Slots(1, reserved=1)
    assert slots.try_take()
    assert not slots.try_take(urgent=True)
    slots.release()
    assert slots.try_take(urgent=True)
