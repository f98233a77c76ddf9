"""`ours.py hosts.yaml COMMAND…`: our own door to hosts."""

import sys
from pathlib import Path

from fabfile.inventory import loader
from fabfile.remote.base import Command
from fabfile.remote.pool import Remotes

inventory = loader.load(Path(sys.argv[1]))
hosts = inventory.services["shop"].hosts
failed = 0
with Remotes(inventory) as remotes:
    failed += len(remotes.connect(hosts))
    for script in sys.argv[2:]:
        running = [remotes.get(host).start(Command(script)) for host in hosts]
        failed += sum(not one.wait().ok for one in running)
sys.exit(failed > 0)
