"""A real ``protosonic serve`` in tests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from numpy.typing import NDArray

from protosonic.config.model import Endpoint, Inference, Input, Model, Settings
from support.campaign import BIN, clean_environment

HANGS_AFTER_S = 300
"""Only keeps a broken test from hanging for ever; nothing is expected to come near it."""


class ServeProcess:
    """``protosonic serve`` on free ports, ready; ended with the test.

    Attributes
    ----------
    url
        What it printed.
    process
        The command.
    temporary
        Its folder for temporary files.
    tree
        The server and its helpers, as they were when it became ready.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self._errors = folder / "serve.err"
        ports = [f"--{kind}-port=0" for kind in ("grpc", "http", "metrics")]
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [str(BIN / "protosonic"), "serve", *ports, *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=clean_environment() | {"TMPDIR": str(self.temporary)},
            )
        assert self.process.stdout is not None
        self._output = self.process.stdout
        word, _, self.url = self._output.readline().strip().partition(" ")
        assert word == "ready", self.errors()
        self.tree = psutil.Process(self.process.pid).children(recursive=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(HANGS_AFTER_S)
        self._output.close()
        await_true(self.is_gone)

    @property
    def server(self) -> psutil.Process:
        """The Triton server itself."""
        return next(process for process in self.tree if process.name() == "tritonserver")

    def errors(self) -> str:
        """What was written to standard error."""
        return self._errors.read_text()

    def end(self) -> tuple[int, str]:
        """Wait until the command ends; return its exit code and what it printed since it became ready."""
        output = self._output.read()
        return self.process.wait(HANGS_AFTER_S), output

    def is_gone(self) -> bool:
        """Whether the server and its helpers are all gone."""
        return not any(map(is_running, self.tree))


def is_running(process: psutil.Process) -> bool:
    """Whether a process runs; one that waits to be buried by its parent does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS_AFTER_S
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


@contextmanager
def suspended(process: psutil.Process) -> Iterator[None]:
    """Stop a process for a while: it hangs, and its connections stay open."""
    process.suspend()
    try:
        await_true(lambda: process.status() == psutil.STATUS_STOPPED)
        yield
    finally:
        if is_running(process):
            process.resume()


def has_unread_bytes(url: str) -> bool:
    """Whether something was sent to the server at a URL that it has not read."""
    port = int(url.rpartition(":")[2])
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, queues, *_ = line.split()
            received = int(queues.rpartition(":")[2], 16)
            if int(local.rpartition(":")[2], 16) == port and state == "01" and received:
                return True
    return False


def sparse_patches(n: int, seed: int = 0) -> NDArray[np.float32]:
    """Patches as they come from a detector: about 3 % of the pixels hold charge, in the range of the images."""
    random = np.random.default_rng(seed)
    charge = random.uniform(-5, 15, (n, 48, 48))
    return np.where(random.random(charge.shape) < 0.03, charge, 0).astype(np.float32)


def settings(*urls: str, name: str = "emtrkmichel", version: str = "1", **inference: Any) -> Settings:
    """A configuration with these endpoints."""
    return Settings(
        inputs=(Input(path="none.h5"),),
        model=Model(name=name, version=version),
        inference=Inference(endpoints=tuple(Endpoint(url=url) for url in urls), **inference),
    )
