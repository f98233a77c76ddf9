"""What several tests of the lab use."""

import subprocess

from fabfile.lab.engine import Docker


def quiet(_):
    """A place for lines of progress that nobody reads."""


def login(lab, node, script, **options):
    """Run ``script`` on a host of the lab over SSH, as its inventory says."""
    state = options.pop("state", lab.state)
    argv = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    argv += ["-o", "IdentitiesOnly=yes", "-o", f"UserKnownHostsFile={state}/known_hosts"]
    argv += ["-i", f"{state}/id_ed25519", "-p", str(node.ssh_port), "deploy@127.0.0.1", script]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, **options)


def container_ids(docker: Docker, lab):
    """Name and id of every container of the lab."""
    form = "{{.Names}} {{.ID}}"
    label = f"label=evenkeel.lab={lab.name}"
    return set(docker("ps", "--filter", label, "--format", form).splitlines())
