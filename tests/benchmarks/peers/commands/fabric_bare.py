"""`fabric_bare.py fleet.json COMMAND…`: Fabric's Connections, 32 hosts at a time."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fabric import Config, Connection
from paramiko import RejectPolicy

fleet = json.loads(Path(sys.argv[1]).read_text())
config = Config(overrides={"load_ssh_configs": False})


def connect(address):
    patience = {"banner_timeout": 60, "auth_timeout": 60}
    kwargs = {"key_filename": fleet["key"], "look_for_keys": False, "allow_agent": False}
    connection = Connection(
        address,
        user="deploy",
        port=fleet["port"],
        config=config,
        connect_timeout=60,
        connect_kwargs={**kwargs, **patience},
    )
    connection.client.load_host_keys(fleet["known_hosts"])
    connection.client.set_missing_host_key_policy(RejectPolicy())
    connection.open()
    return connection


with ThreadPoolExecutor(32) as pool:
    connections = list(
        pool.map(connect, (at for name, at in fleet["hosts"].items() if name != "lb1"))
    )
    for command in sys.argv[2:]:
        list(pool.map(lambda c, what=command: c.run(what, hide=True, in_stream=False), connections))
    list(pool.map(lambda c: c.close(), connections))
