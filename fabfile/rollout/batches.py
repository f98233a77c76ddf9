"""Which hosts are upgraded at the same time, and how many may fail.

The meaning of ``serial`` and ``max_fail_percentage`` is Ansible's, with two differences that are
on purpose: percentages are computed in whole numbers (29% of 100 hosts is 29), and a host that
can't be reached counts as failed.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabfile.inventory.model import Count


def size_of(count: Count, total: int) -> int:
    """How many hosts ``count`` means out of ``total``.

    A percentage is of all selected hosts, truncated, at least 1; 0 or less means all of them.
    """
    if count.value <= 0:
        return max(total, 1)
    if count.percent:
        return max(count.value * total // 100, 1)
    return count.value


def batches(hosts: Sequence[str], serial: Sequence[Count]) -> tuple[tuple[str, ...], ...]:
    """Cut ``hosts`` into batches; the last entry of ``serial`` repeats.

    Raises ``ValueError`` when ``serial`` is empty.
    """
    if not serial:
        raise ValueError("serial is empty")
    found: list[tuple[str, ...]] = []
    start = 0
    while start < len(hosts):
        count = serial[min(len(found), len(serial) - 1)]
        end = start + size_of(count, len(hosts))
        found.append(tuple(hosts[start:end]))
        start = end
    return tuple(found)


def over_budget(failed: int, size: int, max_fail_percentage: int) -> bool:
    """Whether a batch of ``size`` hosts with ``failed`` of them failed stops the rollout.

    The budget is exceeded strictly above the percentage; a batch that failed whole always stops.
    """
    if failed == 0:
        return False
    return failed >= size or failed * 100 > max_fail_percentage * size
