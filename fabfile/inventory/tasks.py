"""``inv init``. Everything heavy is imported when the task runs."""

from __future__ import annotations

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task


@task(
    help={
        "hosts": "Where it runs: web1=10.0.0.11,web2=deploy@10.0.0.12:2222 (or names of --from)",
        "balancers": "Hosts of HAProxy, likewise; self: one on each host; none",
        "image": "Repository, without a tag: registry.example.com/shop",
        "service": "What it is called (app)",
        "instances": "Containers on each host (2)",
        "port": "Port inside the container (8080)",
        "publish": "First port on the host (3001)",
        "user": "Who logs in (as ssh_config says)",
        "template": "fab provision is to write HAProxy's configuration; otherwise yours stays",
        "from": "Read hosts and groups from this ssh_config or Ansible inventory (INI or YAML)",
        "output": "Where to write it (hosts.yaml)",
        "force": "Replace a file that is there",
    },
    auto_shortflags=False,
)
def init(
    _: Context,
    hosts: str = "",
    balancers: str = "",
    image: str = "",
    service: str = "",
    instances: str = "",
    port: str = "",
    publish: str = "",
    user: str = "",
    template: bool = False,
    from_: str = "",
    output: str = "",
    force: bool = False,
) -> None:
    """Write a commented hosts.yaml, from flags or from questions, and check it."""
    from fabfile.errors import EvenkeelError
    from fabfile.inventory import asking

    flags = asking.Flags(
        hosts, balancers, image, instances, port, publish, service, user, from_, template, force,
        output,
    )  # fmt: skip
    try:
        asking.init(flags)
    except EvenkeelError as error:
        raise Exit(str(error), error.exit_code) from None
    except KeyboardInterrupt:
        raise Exit("\nnothing was written: interrupted", 130) from None
