from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from integration.faults.proxy import ADDRESS, FaultProxy
from integration.serving import HANGS_AFTER_S, await_true


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that gives back what it gets."""
    listener = socket.create_server((ADDRESS, 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=[connection]))
            threads[-1].start()

    threads: list[threading.Thread] = []
    server = threading.Thread(target=serve)
    server.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    server.join()
    for thread in threads:
        thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[FaultProxy]:
    with FaultProxy(echo) as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((ADDRESS, proxy.port), timeout=HANGS_AFTER_S)


def receive(connection: socket.socket, n: int) -> bytes:
    """Read `n` bytes, or less when the connection ends before."""
    data = b""
    while len(data) < n and (part := connection.recv(n - len(data))):
        data += part
    return data


def echoed(connection: socket.socket, data: bytes) -> bytes:
    """Send and receive at the same time: more than what the buffers on the way hold."""
    sender = threading.Thread(target=connection.sendall, args=[data])
    sender.start()
    answer = receive(connection, len(data))
    sender.join()
    return answer


def test_it_passes_everything_and_counts_it(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 40_000
    with connect(proxy) as first, connect(proxy) as second:
        assert echoed(first, data) == data
        assert echoed(second, b"other") == b"other"
    assert proxy.connections == 2
    assert proxy.bytes_up == proxy.bytes_down == len(data) + 5


def test_a_delay_counts_each_way_and_does_not_limit_the_bandwidth(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echoed(connection, b"now") == b"now"
        proxy.behave(delay_s=0.2)
        start = time.monotonic()
        assert echoed(connection, bytes(1_000_000)) == bytes(1_000_000)
        assert time.monotonic() - start >= 0.4
        proxy.behave()
        assert echoed(connection, b"again") == b"again"


def test_a_bandwidth_is_kept(proxy: FaultProxy) -> None:
    proxy.behave(bytes_per_s=1_000_000)
    with connect(proxy) as connection:
        start = time.monotonic()
        assert echoed(connection, bytes(500_000)) == bytes(500_000)
        assert time.monotonic() - start >= 0.5


def test_a_black_hole_tells_nobody_and_gives_everything_back_later(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echoed(connection, b"before") == b"before"
        proxy.behave(hold=True)
        connection.sendall(b"held")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        with connect(proxy) as other:
            other.sendall(b"held as well")
            connection.settimeout(HANGS_AFTER_S)
            proxy.behave()
            assert receive(connection, 4) == b"held"
            assert receive(other, 12) == b"held as well"


def test_a_connection_is_cut_after_so_many_more_bytes(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echoed(connection, b"before") == b"before"
        proxy.behave(close_after=1010)
        connection.sendall(bytes(1000))
        assert receive(connection, 1000) == bytes(10)
        assert connection.recv(1) == b""


def test_a_reset_ends_every_connection_with_an_error(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echoed(connection, b"before") == b"before"
        proxy.behave(reset=True)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(1)
    proxy.behave()
    with connect(proxy) as connection:
        assert echoed(connection, b"after") == b"after"


def test_connections_are_refused_until_it_listens_again_on_the_same_port(proxy: FaultProxy) -> None:
    proxy.behave(listen=False, reset=True)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.behave()
    with connect(proxy) as connection:
        assert echoed(connection, b"after") == b"after"


def test_with_nobody_behind_it_connections_end(proxy: FaultProxy) -> None:
    with socket.socket() as holder:
        holder.bind((ADDRESS, 0))
        with FaultProxy(holder.getsockname()[1]) as lonely:
            with suppress(ConnectionResetError), connect(lonely) as connection:
                assert connection.recv(1) == b""
            await_true(lambda: lonely.connections == 1)
            assert lonely.bytes_up == lonely.bytes_down == 0
