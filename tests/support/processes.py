"""Ending processes as accidents do."""

from __future__ import annotations

import signal
import subprocess

import psutil


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and everything below it, all at once."""
    try:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        tree = []
    for victim in tree:
        try:
            victim.send_signal(signal.SIGSTOP)
        except psutil.NoSuchProcess:
            continue
    for victim in tree:
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
