"""Each command is an operation."""

from pyinfra import host
from pyinfra.operations import server

for number, command in enumerate(host.data.commands):
    server.shell(name=f"command {number}", commands=[command])
