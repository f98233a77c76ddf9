"""Makes hosts far away: carries TCP connections, and everything on its way for a while.

Run as a program: ``relay.py SECONDS FROM:TO …`` listens on each port FROM of 127.0.0.1, carries on to
TO, and prints ``ready``. Nothing is lost and no bandwidth is limited; opening a connection takes no
longer than it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType


class Relay:
    """A relay in a process of its own. A context manager."""

    def __init__(self, one_way: float, ports: Mapping[int, int]) -> None:
        """``one_way`` in seconds; ``ports``: where to listen, and where to carry on to."""
        pairs = [f"{here}:{there}" for here, there in ports.items()]
        self._argv = [sys.executable, __file__, str(one_way), *pairs]

    def __enter__(self) -> Relay:
        self._process = subprocess.Popen(self._argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise RuntimeError("the relay did not begin")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way: float) -> None:
    """Write what comes in, ``one_way`` seconds after it came; its end, too."""
    clock = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            at, data = await under_way.get()
            await asyncio.sleep(at - clock.time())
            if not data:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)

    arriving = asyncio.create_task(arrive())
    data = b"-"
    while data:
        try:
            data = await reader.read(1 << 16)
        except OSError:
            data = b""
        under_way.put_nowait((clock.time() + one_way, data))
    await arriving


async def serve(one_way: float, ports: Mapping[int, int]) -> None:
    """Carry until somebody ends the program."""

    async def listen(here: int, there: int) -> None:
        async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            other, to_other = await asyncio.open_connection("127.0.0.1", there)
            ways = carry(reader, to_other, one_way), carry(other, writer, one_way)
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            to_other.close()

        await asyncio.start_server(met, "127.0.0.1", here)

    for here, there in ports.items():
        await listen(here, there)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    pairs = (pair.split(":") for pair in sys.argv[2:])
    asyncio.run(serve(float(sys.argv[1]), {int(here): int(there) for here, there in pairs}))
