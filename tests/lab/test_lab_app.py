"""The sample application behaves as its versions promise; everything else is measured by it."""

import asyncio
import json
import subprocess
import time

import aiohttp
import pytest
import requests
from lab_tools import quiet

from fabfile.lab.images import Images

# Fresh connections, as fast as they go, from inside the application's own network: each is
# refused, or answered in full. Anything else is a request that was accepted and dropped.
HAMMER = """
import collections, json, socket, sys, threading, time
seen = collections.Counter()
def visit(end):
    while time.monotonic() < end:
        try:
            link = socket.create_connection(("127.0.0.1", 3000), 5)
        except ConnectionRefusedError:
            seen["refused"] += 1
            return
        try:
            link.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            data = b""
            while piece := link.recv(65536):
                data += piece
            seen["answered" if b" 200 OK" in data and data.endswith(b"}\\n") else "dropped"] += 1
        except OSError:
            seen["dropped"] += 1
        link.close()
threads = [threading.Thread(target=visit, args=(time.monotonic() + 8,)) for _ in range(16)]
[t.start() for t in threads]
print("started", flush=True)
[t.join() for t in threads]
print(json.dumps(seen))
"""


@pytest.fixture
def start(spare, docker):
    """Start versions of the application with ``start(version, KEY=value)``; they go afterwards."""
    images = Images(docker, spare.logs, quiet)
    started = []

    def starter(version, image="challenge", **env):
        settings = [part for pair in env.items() for part in ("--env", "=".join(pair))]
        where = ("--network", spare.network, "--publish", "127.0.0.1::3000")
        tag = images.ensure(image, version)
        name = docker("run", "--detach", *where, *settings, tag).strip()
        started.append(name)
        if image != "challenge":
            return name, ""
        return name, "http://" + docker("port", name, "3000").split()[0]

    yield starter
    docker("rm", "--force", *started)


def get(url, **options):
    return requests.get(url, timeout=10, **options)


def await_up(url, seconds=5.0):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return get(url + "/ping")
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "the application does not listen"
            time.sleep(0.02)


def test_it_says_who_it_is_and_never_its_secret(start):
    _, url = start("0.0.2", INSTANCE="app_2", HOST="web1", GREETING="hi", API_KEY="s3cret")
    await_up(url)
    reply = get(url)
    said = {"version": "0.0.2", "host": "web1", "instance": "app_2", "greeting": "hi"}
    assert reply.json() == said | {"api_key_set": True}
    assert (reply.headers["X-Version"], reply.headers["X-Instance"]) == ("0.0.2", "app_2")
    assert "s3cret" not in reply.text


def test_it_answers_again_after_its_container_was_stopped_and_started(start, docker):
    name, url = start("0.0.1")
    await_up(url)
    docker("stop", name)
    docker("start", name)
    # The port is a new one after every start.
    await_up("http://" + docker("port", name, "3000").split()[0])


def test_ping_follows_the_database(start, docker):
    database, _ = start("", image="valkey")
    address = docker(
        "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", database
    )
    _, url = start("0.0.1", DATABASE=f"{address.strip()}:6379")
    reply = await_up(url)
    assert (reply.status_code, reply.text) == (200, "pong\n")
    docker("kill", database)
    assert get(url + "/ping").status_code == 503
    assert get(url).status_code == 200


def test_0_0_3_never_gets_healthy(start):
    _, url = start("0.0.3")
    assert await_up(url).status_code == 500
    assert get(url).status_code == 200


@pytest.mark.slow
def test_0_0_4_listens_after_20_seconds(start):
    begin = time.monotonic()
    _, url = start("0.0.4")
    assert await_up(url, 25).status_code == 200
    assert 19 < time.monotonic() - begin < 24


def test_0_0_5_is_healthy_but_fails_a_fifth_of_the_requests(start):
    _, url = start("0.0.5")
    await_up(url)
    codes = [get(url).status_code for _ in range(50)]
    assert codes.count(500) == 10
    assert {get(url + "/ping").status_code for _ in range(10)} == {200}


def test_0_0_6_has_to_be_killed(start, docker):
    name, url = start("0.0.6")
    await_up(url)
    docker("stop", "--time", "1", name)
    assert docker("inspect", "-f", "{{.State.ExitCode}}", name).strip() == "137"


def test_running_requests_finish_after_sigterm_and_then_it_exits(start, docker):
    name, url = start("0.0.1", INSTANCE="app_1")
    await_up(url)

    async def scene():
        async with aiohttp.ClientSession() as session:
            slow = asyncio.create_task(session.get(f"{url}/slow?s=2"))
            load = asyncio.create_task(session.get(f"{url}/download?mb=2&rate=1"))
            async with session.ws_connect(f"{url}/ws") as ws:
                await ws.send_str("hello")
                assert await ws.receive_str() == "hello"
                await asyncio.sleep(0.3)
                docker("kill", "--signal", "TERM", name)
                closing = await ws.receive(timeout=2)
                assert (closing.type, closing.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            assert (await (await slow).text()) == "0.0.1 app_1 after 2 s\n"
            assert len(await (await load).read()) == 2_000_000

    begin = time.monotonic()
    asyncio.run(scene())
    assert docker("wait", name).strip() == "0"
    assert time.monotonic() - begin < 4


def test_no_request_is_accepted_and_then_dropped_at_sigterm(start, docker, spare):
    images = Images(docker, spare.logs, quiet)
    name, url = start("0.0.1")
    await_up(url)
    argv = [*docker.prefix, "run", "--rm", "-i", "--network", f"container:{name}"]
    argv += [images.tag("challenge", "0.0.1"), "python3", "-c", HAMMER]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as hammer:
        assert hammer.stdout.readline() == "started\n"
        time.sleep(1)
        docker("stop", name)
        seen = json.loads(hammer.stdout.readline())
    assert seen["answered"] > 200
    assert seen.get("refused") == 16
    assert "dropped" not in seen
