"""What is done to hosts, balancers and the registry, and what is put back afterwards.

Every strike acts from outside of the product: through the machine's own Docker engine, which no
fault touches. Those that last for a while last that long by themselves; nothing here waits for the
rollout.
"""

from __future__ import annotations

import time
from typing import Any

from .world import World

Event = dict[str, Any]
HELD = 8.0
"""Seconds that a host is paused, or without an sshd."""

KILL_COMPOSE = """
name=$1
running() { docker ps -q --filter label=com.docker.compose.service=$name | grep -q .; }
# The new container is created beside the old one; the moment that one is gone is the worst.
for _ in $(seq 1 1500); do
    pgrep -x docker-compose >/dev/null && ! running && pkill -9 -x docker-compose && exit 0
    sleep 0.01
done
exit 1
"""
RESTART_ENGINE = """
pkill -TERM -x dockerd
while pgrep -x dockerd >/dev/null; do sleep 0.1; done
start-engine </dev/null >/dev/null 2>&1
"""
SMALL_DISK = """
set -e
pkill -TERM -x dockerd || true
while pgrep -x dockerd >/dev/null; do sleep 0.1; done
used=$(du -sxm /var/lib/docker | cut -f 1)
mkdir -p /mnt/small
mount -t tmpfs -o size=$((used + 200))m small /mnt/small
cp -a /var/lib/docker/. /mnt/small/
mount --bind /mnt/small /var/lib/docker
start-engine </dev/null >/dev/null 2>&1
echo ready
"""
LARGE_DISK = """
set -e
pkill -TERM -x dockerd || true
while pgrep -x dockerd >/dev/null; do sleep 0.1; done
pkill -x containerd && sleep 0.5
grep -q "^small /var/lib/docker " /proc/mounts
umount -l /var/lib/docker
# What was made on the small disk has to be there afterwards, and what was removed must not.
find /var/lib/docker -xdev -mindepth 1 -delete
cp -a /mnt/small/. /var/lib/docker/
umount /mnt/small
start-engine </dev/null >/dev/null 2>&1
echo ready
"""
FILL = """
dd if=/dev/zero of=/var/lib/docker/fill bs=1M 2>/dev/null
dd if=/dev/zero of=/var/lib/docker/fill bs=1k oflag=append conv=notrunc 2>/dev/null
df -k /var/lib/docker | tail -n 1
"""
FAKE_CLOCK = r"""
set -e
dpkg -s libfaketime >/dev/null 2>&1 || {
    apt-get update && apt-get install -y --no-install-recommends libfaketime
} >/dev/null 2>&1
library=$(ls /usr/lib/*/faketime/libfaketime.so.1)
# Every session that sshd opens, and whatever it runs: date, stat and touch agree with each other.
cat >/etc/ssh/sshd_config.d/clock.conf <<EOF
SetEnv LD_PRELOAD=$library FAKETIME="$1" FAKETIME_DONT_FAKE_MONOTONIC=1
EOF
# It would shift what touch writes as well as what stat reads: a file touched now must be of now.
printf '#!/bin/sh\nunset LD_PRELOAD\nexec /usr/bin/touch "$@"\n' >/usr/local/bin/touch
chmod 0755 /usr/local/bin/touch
pkill -x sshd || true
while ss -Hltn 'sport = :22' | grep -q .; do sleep 0.1; done
start-sshd >/dev/null 2>&1
echo ready
"""
TRUE_CLOCK = """
rm -f /etc/ssh/sshd_config.d/clock.conf /usr/local/bin/touch
pkill -x sshd
while ss -Hltn 'sport = :22' | grep -q .; do sleep 0.1; done
start-sshd >/dev/null 2>&1
"""


class Missed(Exception):
    """The fault could not be made, so the row proves nothing."""


def nothing(_world: World, _event: Event) -> None:
    """The version itself is the fault."""


def host_of(event: Event) -> str:
    """The host an event speaks of."""
    return str(event["instance"]).partition("/")[0]


def kill_compose(world: World, event: Event) -> None:
    """kill -9 of `docker compose` when the old container has stopped and no new one runs."""
    host, _, name = event["instance"].partition("/")
    argv = f"set -- {name}\n{KILL_COMPOSE}\n"
    if "exit 0" not in world.inside(host, f"( {argv} ) && echo exit 0"):
        raise Missed("no docker compose was caught in mid-recreate")


def kill_sshd(world: World, event: Event) -> None:
    """kill -9 of sshd and of every session; HELD seconds later it is back."""
    host = host_of(event)
    world.inside(host, "pkill -9 -x sshd; pkill -9 -f '^sshd: '")
    time.sleep(HELD)
    world.inside(host, "start-sshd >/dev/null 2>&1")


def pause_host(world: World, event: Event) -> None:
    """docker pause of the whole host; HELD seconds later it goes on."""
    container = world.container(host_of(event))
    world.docker("pause", container)
    time.sleep(HELD)
    world.docker("unpause", container)


def restart_engine(world: World, event: Event) -> None:
    """The host's dockerd is stopped, which stops its containers, and started."""
    world.inside(host_of(event), RESTART_ENGINE, timeout=90)


def stop_registry(world: World, _event: Event) -> None:
    """The registry is killed."""
    world.docker("kill", world.container("registry"))


def start_registry(world: World) -> None:
    """It is there again."""
    world.docker("start", world.container("registry"))


def small_disk(world: World) -> None:
    """/var/lib/docker of web2 moves to a file system of its own, 200 MiB larger than it."""
    if "ready" not in world.inside("web2", SMALL_DISK, timeout=120):
        raise Missed("no small disk could be made")


def fill_disk(world: World, event: Event) -> None:
    """That file system is filled to the last byte."""
    said = world.inside(host_of(event), FILL)
    if not said.split() or said.split()[3] != "0":
        raise Missed(f"the disk is not full: {said}")


def empty_disk(world: World) -> None:
    """There is room again."""
    world.inside("web2", "rm -f /var/lib/docker/fill")


def large_disk(world: World) -> None:
    """/var/lib/docker goes back to where it was."""
    if "ready" not in world.inside("web2", LARGE_DISK, timeout=120):
        raise Missed("the small disk could not be removed")


def reload_haproxy(world: World, _event: Event) -> None:
    """lb1's HAProxy is reloaded through its master."""
    said = world.inside("lb1", "echo reload | socat -t 10 - UNIX-CONNECT:/run/haproxy/master.sock")
    if "Success=1" not in said:
        raise Missed(f"no reload: {said}")


def restart_haproxy(world: World, _event: Event) -> None:
    """docker restart of lb1's HAProxy."""
    world.inside("lb1", "docker restart haproxy")


def kill_app_3(world: World, _event: Event) -> None:
    """docker kill of web2/app_3, which Docker does not start again by itself."""
    said = world.inside("web2", f"docker kill $({APP_3})")
    if not said.strip():
        raise Missed("web2/app_3 did not run")


def start_app_3(world: World) -> None:
    """Somebody starts it."""
    world.inside("web2", f"docker start $({APP_3.replace('ps -q', 'ps -aq')})")


APP_3 = "docker ps -q --filter label=com.docker.compose.service=app_3"


def clocks_off(world: World) -> None:
    """web2's clock is an hour ahead, lb2's an hour behind, for everything that comes over SSH."""
    for host, shift in (("web2", "+3600"), ("lb2", "-3600")):
        if "ready" not in world.inside(host, f"set -- {shift}\n{FAKE_CLOCK}", timeout=180):
            raise Missed(f"the clock of {host} could not be set")


def clocks_right(world: World) -> None:
    """Both are right again."""
    for host in ("web2", "lb2"):
        world.inside(host, TRUE_CLOCK)
