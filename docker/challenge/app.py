"""The sample application of the lab: small enough to read, honest about how it stops.

Settings come from the environment: PORT, INSTANCE, HOST, DATABASE (``host:port``), GRACE (seconds
a running request gets after SIGTERM), GREETING, and a secret, API_KEY, whose value is never shown.

VERSION also picks the behaviour, so that a rollout has something to fail on:

======  ====================================================
0.0.3   never healthy: ``/ping`` answers 500
0.0.4   starts to listen only after 20 s
0.0.5   healthy, but answers 500 to every fifth ``/``
0.0.6   ignores SIGTERM
======  ====================================================
"""

import asyncio
import itertools
import json
import os
import signal
import socket
import weakref

from aiohttp import WSCloseCode, web

VERSION = os.environ.get("VERSION", "0.0.0")
INSTANCE = os.environ.get("INSTANCE", "app_1")
HOST = os.environ.get("HOST") or socket.gethostname()
DATABASE = os.environ.get("DATABASE", "")
GRACE = float(os.environ.get("GRACE", "9"))
WHO = {"X-Version": VERSION, "X-Instance": INSTANCE, "X-Host": HOST}

count = itertools.count(1)
sockets: "weakref.WeakSet[web.WebSocketResponse]" = weakref.WeakSet()


async def index(_: web.Request) -> web.Response:
    broken = VERSION == "0.0.5" and next(count) % 5 == 0
    answer = {
        "version": VERSION,
        "host": HOST,
        "instance": INSTANCE,
        "greeting": os.environ.get("GREETING", ""),
        "api_key_set": bool(os.environ.get("API_KEY")),
    }
    if broken:
        answer["error"] = "this version fails every fifth request"
    return web.Response(
        text=json.dumps(answer) + "\n",
        content_type="application/json",
        status=500 if broken else 200,
    )


async def ping(_: web.Request) -> web.Response:
    if VERSION == "0.0.3":
        return web.Response(status=500, text="this version never gets healthy\n")
    problem = await database_problem()
    if problem:
        return web.Response(status=503, text=f"database: {problem}\n")
    return web.Response(text="pong\n")


async def database_problem() -> str:
    """Ask the database for its PONG; an empty answer means that all is well, or none is set."""
    if not DATABASE:
        return ""
    name, _, port = DATABASE.rpartition(":")
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(name, int(port))
            try:
                writer.write(b"PING\r\n")
                reply = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        return "no answer within 1 s"
    except (OSError, ValueError) as error:
        return str(error)
    return "" if reply.startswith(b"+PONG") else f"unexpected answer {reply!r}"


def number(request: web.Request, key: str, default: float, most: float) -> float:
    try:
        value = float(request.query.get(key, default))
    except ValueError:
        raise web.HTTPBadRequest(text=f"{key}: not a number\n") from None
    if not 0 <= value <= most:
        raise web.HTTPBadRequest(text=f"{key}: 0 to {most:g}\n")
    return value


async def slow(request: web.Request) -> web.Response:
    seconds = number(request, "s", 1, 3600)
    await asyncio.sleep(seconds)
    return web.Response(text=f"{VERSION} {INSTANCE} after {seconds:g} s\n")


async def download(request: web.Request) -> web.StreamResponse:
    """Stream ``mb`` megabytes at ``rate`` megabytes a second (0: as fast as it goes)."""
    size = int(number(request, "mb", 1, 10_000) * 1_000_000)
    rate = number(request, "rate", 0, 10_000) * 1_000_000
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    response.content_length = size
    await response.prepare(request)
    chunk = bytes(int(min(65536, max(1024, rate / 20))) if rate else 65536)
    start, sent = asyncio.get_running_loop().time(), 0
    while sent < size:
        piece = chunk[: size - sent]
        await response.write(piece)
        sent += len(piece)
        if rate:
            ahead = start + sent / rate - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, ahead))
    await response.write_eof()
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    sockets.add(ws)
    async for message in ws:
        if message.type is web.WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is web.WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


async def say_who(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(WHO)


async def close_sockets(_: web.Application) -> None:
    """A WebSocket ends only when somebody ends it, so on the way out that is us."""
    await asyncio.gather(
        *(ws.close(code=WSCloseCode.GOING_AWAY, message=b"going away") for ws in set(sockets)),
        return_exceptions=True,
    )


class Door:
    """The listening socket, closed only after everybody who stood before it was let in.

    asyncio's own server closes a socket with connections still in the kernel's queue, and the
    kernel resets them: requests lost that no balancer was told about.
    """

    def __init__(self, server: web.Server, port: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = server
        self.socket = socket.create_server(("", port), backlog=1024)
        self.socket.setblocking(False)
        self.tasks: set[asyncio.Task[object]] = set()
        self.loop.add_reader(self.socket, self.let_in)

    def let_in(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self.loop.create_task(self.loop.connect_accepted_socket(self.server, connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def close(self) -> None:
        self.loop.remove_reader(self.socket)
        self.let_in()
        self.socket.close()


async def serve() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number_ in (signal.SIGTERM, signal.SIGINT):
        if VERSION == "0.0.6" and number_ == signal.SIGTERM:
            signal.signal(number_, signal.SIG_IGN)
        else:
            loop.add_signal_handler(number_, stop.set)

    app = web.Application()
    app.add_routes(
        [
            web.get("/", index),
            web.get("/ping", ping),
            web.get("/slow", slow),
            web.get("/download", download),
            web.get("/ws", echo),
        ]
    )
    app.on_response_prepare.append(say_who)
    app.on_shutdown.append(close_sockets)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GRACE, keepalive_timeout=75)
    await runner.setup()

    if VERSION == "0.0.4":
        print("warming up for 20 s", flush=True)
        try:
            await asyncio.wait_for(stop.wait(), 20)
        except TimeoutError:
            pass
        else:
            return
    assert runner.server is not None
    door = Door(runner.server, int(os.environ.get("PORT", "3000")))
    print(f"challenge {VERSION} {INSTANCE} listens", flush=True)
    await stop.wait()
    print("stopping: no new connections, running requests finish", flush=True)
    door.close()
    # What was just let in has its request in the socket's buffer: let it be read before idle
    # connections are told from busy ones.
    await asyncio.sleep(0.02)
    await runner.cleanup()


def main() -> None:
    asyncio.run(serve())
    # Nothing is left to tidy up; the interpreter's own farewell takes 50 ms.
    os._exit(0)


if __name__ == "__main__":
    main()
