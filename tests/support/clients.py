"""The client library in tests."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from integration.faults.scripted_server import ScriptedServer
from protosonic.inference import EndpointOptions
from protosonic.inference.contract import PATCH_BYTES

PAGE = Path(__file__).parents[2] / "docs/client.md"


def options_for(server: ScriptedServer, **changes: object) -> EndpointOptions:
    """How to reach a scripted server; small requests, so that few patches make several."""
    return EndpointOptions(server.url, version="1", request_bytes=20 * PATCH_BYTES, **changes)


def assert_scores_equal(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


class Gate:
    """Holds answers back until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, answer: object) -> object:
        assert self.open.wait(60)
        return answer


def run_example(folder: Path, *arguments: object) -> str:
    """Run the script of docs/client.md, where every warning is an error, and return what it printed."""
    [script] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "example.py").write_text(script)
    command = [sys.executable, "-W", "error", "example.py", *map(str, arguments)]
    process = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert process.returncode == 0, process.stdout
    return process.stdout
