"""``lab.down``: nothing of the lab is left but this checkout's keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from fabfile.lab import engine, hosts, images, model
from fabfile.lab.model import LABEL
from fabfile.lab.shell import Say
from fabfile.lab.up import alone


def down(say: Say, *, with_images: bool = False) -> None:
    """Remove containers, network and volumes of the lab, and with ``with_images`` its images.

    An image that another lab uses stays.
    """
    name = model.lab_name()
    docker = engine.find()
    if docker is None:
        say("no Docker engine answers here, so there is no lab to remove")
        return
    with alone(name, say):
        found = hosts.present(docker, name)
        with ThreadPoolExecutor(32) as pool:
            list(pool.map(lambda container: hosts.remove(docker, container), found))
        mine = ("--quiet", "--filter", f"label={LABEL}={name}")
        for volume in docker("volume", "ls", *mine).split():
            docker("volume", "rm", "--force", volume)
        for network in docker("network", "ls", *mine).split():
            docker("network", "rm", network)
        say(f"removed {len(found)} containers of {name}, its network and its volumes")
        if with_images:
            say(f"removed {images.remove_all(docker)} images")
