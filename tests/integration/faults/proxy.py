"""A TCP proxy that can go wrong while connections live."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

ADDRESS = "127.0.0.1"
CHUNK = 16 * 1024
HELD_CHUNKS = 256
"""Chunks that are held in each direction of a connection before the sender is slowed down."""


@dataclass(frozen=True)
class Behaviour:
    """What the proxy does to the connections that live and to those that come.

    Attributes
    ----------
    delay_s
        Seconds that a byte takes each way.
    bytes_per_s
        Bandwidth of each connection, each way.
    hold
        A black hole: nothing passes, and nobody is told. What was held passes when it is over, as after a
        network failure that TCP survives.
    close_after
        Every connection is cut after so many more bytes, counted both ways.
    reset
        Every connection is reset.
    listen
        New connections are accepted.
    """

    delay_s: float = 0.0
    bytes_per_s: float | None = None
    hold: bool = False
    close_after: int | None = None
    reset: bool = False
    listen: bool = True


class FaultProxy:
    """Forwards connections on a free port of this machine to another, and misbehaves as told.

    Attributes
    ----------
    port, url
        Where it listens.
    connections
        Connections that were accepted.
    most_live
        Most of them that lived at the same time.
    bytes_up, bytes_down
        Bytes that were forwarded to the target and back.
    """

    def __init__(self, target_port: int) -> None:
        self.connections = 0
        self.most_live = 0
        self.bytes_up = 0
        self.bytes_down = 0
        self._target_port = target_port
        self._behaviour = Behaviour()
        self._live: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        # Held as long as the proxy lives, so that nobody else gets the port while it does not listen.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind((ADDRESS, 0))
        self.port: int = self._holder.getsockname()[1]
        self.url = f"grpc://{ADDRESS}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.behave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    def behave(self, **behaviour: Any) -> None:
        """Switch to a :class:`Behaviour`; without arguments, to a proxy that does nothing wrong.

        When it returns, all connections are treated so.
        """
        self._call(self._switch(Behaviour(**behaviour)))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _switch(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        if behaviour.listen and self._server is None:
            self._server = await asyncio.start_server(self._accept, ADDRESS, self.port, reuse_port=True)
        elif not behaviour.listen and self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._live):
            connection.switch(behaviour)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(reader, writer, self._behaviour, self._count)
        self._live.add(connection)
        self.most_live = max(self.most_live, len(self._live))
        try:
            await connection.run(self._target_port)
        finally:
            self._live.discard(connection)

    def _count(self, up: int, down: int) -> None:
        self.bytes_up += up
        self.bytes_down += down

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self._live):
            connection.cut(reset=True)
        while self._live:
            await asyncio.sleep(0.001)


class _Connection:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        behaviour: Behaviour,
        count: Callable[[int, int], None],
    ) -> None:
        self._client = (reader, writer)
        self._writers = [writer]
        self._count = count
        self._pumps: list[asyncio.Task[None]] = []
        self._free_at = {True: 0.0, False: 0.0}
        self._changed = asyncio.Event()
        self._cut = asyncio.Event()
        self._left: int | None = None
        self._behaviour = behaviour
        self.switch(behaviour)

    def switch(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._left = behaviour.close_after
        self._changed.set()
        self._changed = asyncio.Event()
        if behaviour.reset:
            self.cut(reset=True)

    def cut(self, *, reset: bool) -> None:
        """End the connection: with a reset, or as if the other side had closed it."""
        for writer in self._writers:
            if reset:
                linger = struct.pack("ii", 1, 0)
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()
        self._cut.set()

    async def run(self, target_port: int) -> None:
        try:
            if not self._cut.is_set():
                await self._forward(target_port)
        except OSError:
            self.cut(reset=True)  # nobody is behind the proxy
        finally:
            self.cut(reset=False)
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)
            for writer in self._writers:
                with suppress(OSError):
                    await writer.wait_closed()

    async def _forward(self, target_port: int) -> None:
        target = await asyncio.open_connection(ADDRESS, target_port)
        self._writers.append(target[1])
        reading, writing = [], []
        for up, source, sink in ((True, self._client, target), (False, target, self._client)):
            held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS)
            reading.append(asyncio.create_task(self._read(source[0], held)))
            writing.append(asyncio.create_task(self._write(sink[1], held, up=up)))
        cut = asyncio.create_task(self._wait_until_cut())
        self._pumps = [*reading, *writing, cut]
        # One side that has closed ends the connection, once all that it had sent is through.
        await asyncio.wait([*writing, cut], return_when=asyncio.FIRST_COMPLETED)

    async def _wait_until_cut(self) -> None:
        await self._cut.wait()

    async def _read(self, reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"not the end"
        while data:
            try:
                data = await reader.read(CHUNK)
            except OSError:
                data = b""
            await held.put((asyncio.get_running_loop().time(), data))

    async def _write(
        self, writer: asyncio.StreamWriter, held: asyncio.Queue[tuple[float, bytes]], *, up: bool
    ) -> None:
        while True:
            came, data = await held.get()
            await self._pass(came, len(data), up=up)
            if self._left is not None:
                data, end = data[: self._left], len(data) >= self._left
                self._left -= len(data)
            else:
                end = not data
            self._count(len(data) * up, len(data) * (not up))
            writer.write(data)
            with suppress(OSError):
                await writer.drain()
            if end:
                self.cut(reset=False)
                return

    async def _pass(self, came: float, size: int, *, up: bool) -> None:
        """Wait as long as the way takes; look again whenever the behaviour changes."""
        loop = asyncio.get_running_loop()
        # A chunk is sent when it has come and the one before is through: not when the last sleep happened to end, which
        # is a millisecond late and would halve the bandwidth.
        begun = max(came, self._free_at[up])
        while True:
            behaviour, changed = self._behaviour, self._changed
            if behaviour.hold:
                await changed.wait()
                begun = max(begun, loop.time())
                continue
            through = begun + (size / behaviour.bytes_per_s if behaviour.bytes_per_s is not None else 0.0)
            wait = through + behaviour.delay_s - loop.time()
            if wait <= 0:
                self._free_at[up] = through
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), wait)
