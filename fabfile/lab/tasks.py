"""``inv lab.up``, ``lab.status`` and ``lab.down``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from fabfile.errors import EvenkeelError


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn our errors into one line and an exit code, Ctrl-C into 130."""
    try:
        yield
    except EvenkeelError as error:
        detail = "".join(f"\n  | {line}" for line in error.detail.splitlines())
        raise Exit(f"lab: {error}{detail}", error.exit_code) from None
    except KeyboardInterrupt:
        raise Exit("lab: interrupted; `inv lab.up` goes on from where it stands", 130) from None


@task(
    help={
        "web": "how many application hosts (as many as there are; 3 in a new lab)",
        "edge": "how many balancer hosts (as many as there are; 2 in a new lab)",
    }
)
def up(_: Context, web: str = "", edge: str = "") -> None:
    """Build or repair the lab: real hosts, balancers and a registry on this machine."""
    with plain_errors():
        from fabfile.lab.console import Progress, show
        from fabfile.lab.model import MOST_EDGE, MOST_WEB, parse_count
        from fabfile.lab.status import closing_words
        from fabfile.lab.up import up as bring_up

        counts = parse_count("--web", web, MOST_WEB), parse_count("--edge", edge, MOST_EDGE)
        say = Progress()
        lab = bring_up(say, web=counts[0], edge=counts[1])
        say(f"the lab {lab.name} is up")
        show(closing_words(lab))


@task
def status(_: Context) -> None:
    """Show the lab's hosts; exit code 1 unless all of them run."""
    with plain_errors():
        from fabfile.lab.console import show
        from fabfile.lab.status import look, table

        rows = look()
        show(table(rows))
        if not all(row.well for row in rows):
            raise Exit("lab: not all of it runs; `inv lab.up` mends that", 1)


@task(help={"images": "remove the images too: the next lab.up starts from nothing"})
def down(_: Context, images: bool = False) -> None:
    """Remove the lab's containers, network and volumes."""
    with plain_errors():
        from fabfile.lab.console import Progress
        from fabfile.lab.down import down as take_down

        take_down(Progress(), with_images=images)


ns = Collection("lab", up, status, down)
