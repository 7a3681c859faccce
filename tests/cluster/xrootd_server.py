"""A real XRootD server (Debian's xrootd-server) on this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self


class XRootDServer:
    """A server with a folder of its own; it refuses to run as root and then runs as ``nobody``."""

    def __init__(self, *, with_key: bool = False) -> None:
        # pytest's folders are closed to other users.
        self.root = Path(tempfile.mkdtemp(prefix="xrootd-"))
        self.root.chmod(0o755)
        self.data = self.root / "data"
        self._admin = self.root / "admin"
        for folder in (self.data, self._admin):
            folder.mkdir()
        self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        if self._user:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._admin, nobody.pw_uid, nobody.pw_gid)
        self.port = _free_port()
        self._config = self.root / "xrootd.cfg"
        self._config.write_text(
            f"all.export /\noss.localroot {self.data}\nxrd.port {self.port}\nall.adminpath {self._admin}\n"
            f"all.pidpath {self._admin}\nxrootd.chksum adler32\n"
        )
        self.key = self.root / "sss.keytab"
        if with_key:
            # Simple shared secrets, the one login of XRootD that needs no authority.
            subprocess.run(
                ["xrdsssadmin", "-u", "anybody", "-g", "usrgroup", "add", str(self.key)],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            copy = shutil.copy(self.key, self._admin / "sss.keytab")
            if self._user:
                os.chown(copy, nobody.pw_uid, nobody.pw_gid)
            with self._config.open("a") as file:
                file.write(f"xrootd.seclib libXrdSec.so\nsec.protocol sss -s {self._admin / 'sss.keytab'}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"root://127.0.0.1:{self.port}//"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        shutil.rmtree(self.root)

    def start(self) -> None:
        command = ["xrootd", "-c", str(self._config), "-l", str(self._admin / "log")]
        self._process = subprocess.Popen(command, cwd=self._admin, **self._user)  # type: ignore[call-overload]
        while True:
            assert self._process.poll() is None, (self._admin / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it stand still: it keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def add(self, source: Path, name: str | None = None) -> str:
        """Give it a copy of a file; returns the URL."""
        target = self.data / (name or source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o644)
        return self.url + str(target.relative_to(self.data))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
