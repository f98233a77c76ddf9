"""Sends recorded commands through plain Fabric: `bare.py REPLAY.json`; says what went otherwise."""

import base64
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fabric import Config, Connection
from paramiko import RejectPolicy

WORKERS = 64
"""Commands at a time, all hosts together."""
CONNECTS = 32
SESSIONS = 8
"""Commands at a time on one host: sshd allows 10."""
LOOK = 0.05
SHOW = "echo 'show stat shop 4 -1' | socat - UNIX-CONNECT:/run/haproxy/admin.sock"


class Look:
    """One reading of the balancer for all that wait for something there."""

    def __init__(self, run):
        self.run = run
        self.guard = threading.Lock()
        self.taken = 0.0
        self.rows = {}

    def until(self, servers, good):
        asked = time.monotonic()
        while servers:
            with self.guard:
                if self.taken < asked:
                    self.taken = time.monotonic()
                    lines = self.run("lb1", SHOW)[1].splitlines()
                    self.rows = {row[1]: row for line in lines if len(row := line.split(",")) > 17}
                rows = self.rows
            if all(good(rows[server]) for server in servers):
                return
            time.sleep(LOOK)
            asked = time.monotonic()


class Hosts:
    """A connection to each."""

    def __init__(self, replay):
        self.replay = replay
        self.inputs = {name: base64.b64decode(data) for name, data in replay["inputs"].items()}
        config = Config(overrides={"load_ssh_configs": False})
        self.connections = {
            name: Connection(
                address,
                user="deploy",
                port=replay["port"],
                config=config,
                connect_timeout=60,
                connect_kwargs={
                    "key_filename": replay["key"],
                    "look_for_keys": False,
                    "allow_agent": False,
                    "banner_timeout": 60,
                    "auth_timeout": 60,
                },
            )
            for name, address in replay["hosts"].items()
        }
        self.slots = {name: threading.Semaphore(SESSIONS) for name in self.connections}
        self.look = Look(self.run)
        with ThreadPoolExecutor(CONNECTS) as pool:
            list(pool.map(self.open, self.connections.values()))

    def open(self, connection):
        connection.client.load_host_keys(self.replay["known_hosts"])
        connection.client.set_missing_host_key_policy(RejectPolicy())
        connection.open()

    def run(self, host, script, stdin=""):
        with self.slots[host]:
            if stdin:
                return self.feed(self.connections[host], script, self.inputs[stdin])
            done = self.connections[host].run(
                script, hide=True, warn=True, in_stream=False, pty=False
            )
            return done.exited, done.stdout

    def feed(self, connection, script, data):
        """Fabric itself hands stdin over a character at a time."""
        stdin, stdout, _ = connection.client.exec_command(script)
        stdin.channel.sendall(data)
        stdin.channel.shutdown_write()
        said = stdout.read().decode()
        return stdout.channel.recv_exit_status(), said

    def close(self):
        with ThreadPoolExecutor(CONNECTS) as pool:
            list(pool.map(lambda connection: connection.close(), self.connections.values()))


class Stage:
    """Commands with what each has to wait for."""

    def __init__(self, hosts, commands):
        self.hosts = hosts
        self.commands = commands
        self.missing = [len(command["after"]) for command in commands]
        self.followers = [[] for _ in commands]
        for number, command in enumerate(commands):
            for earlier in command["after"]:
                self.followers[earlier].append(number)
        self.guard = threading.Lock()
        self.left = len(commands)
        self.over = threading.Event()
        self.wrong = []

    def run(self):
        if self.commands:
            with ThreadPoolExecutor(WORKERS) as pool:
                for number, missing in enumerate(self.missing):
                    if not missing:
                        pool.submit(self.one, number, pool)
                self.over.wait()
        return self.wrong

    def one(self, number, pool):
        command = self.commands[number]
        try:
            code, _ = self.hosts.run(command["host"], command["script"], command["stdin"])
            if code != command["code"]:
                self.wrong.append(f"{command['host']} {command['label']}: {code}")
            self.hosts.look.until(command["until_idle"], lambda row: row[4] == "0")
            self.hosts.look.until(command["until_up"], lambda row: row[17] == "UP")
        except Exception as error:
            self.wrong.append(f"{command['host']} {command['label']}: {error!r}")
        with self.guard:
            self.left -= 1
            ready = []
            for follower in self.followers[number]:
                self.missing[follower] -= 1
                if not self.missing[follower]:
                    ready.append(follower)
            if not self.left:
                self.over.set()
        for follower in ready:
            pool.submit(self.one, follower, pool)


def main():
    replay = json.loads(Path(sys.argv[1]).read_text())
    began = time.monotonic()
    hosts = Hosts(replay)
    connected = time.monotonic() - began
    wrong, took = [], []
    for stage in replay["stages"]:
        start = time.monotonic()
        wrong += Stage(hosts, stage["commands"]).run()
        took.append(round(time.monotonic() - start, 3))
    hosts.close()
    print(json.dumps({"wrong": wrong, "connect": connected, "stages": took}))


if __name__ == "__main__":
    main()
