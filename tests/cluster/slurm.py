"""A real SLURM cluster on this host: munge, slurmctld, several slurmd, and slurmdbd with MariaDB for accounting.

Everything lies in one temporary folder and on free ports, runs as the present user, and is stopped at the end; nothing of a
SLURM that the host may belong to is touched. It needs the Debian packages slurm-wlm, slurmdbd, mariadb-server and munge.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
ACCOUNT = "hits"
NODES = ("n1", "n2", "n3", "n4")
NODE_MEM_MB = 6000
WAIT_S = 60

SLURM_CONF = """
ClusterName=protosonic
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldDebug=info
SlurmctldParameters=idle_on_node_suspend
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=5
ReturnToService=2
SlurmdTimeout=15
KillWait=2
MinJobAge=600
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
{accounting}
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{node_ports}] CPUs=1 RealMemory={node_mem_mb} State=UNKNOWN
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
"""


class SlurmCluster(AbstractContextManager["SlurmCluster"]):
    """A cluster of four nodes with one CPU each.

    Parameters
    ----------
    accounting
        With slurmdbd and MariaDB, so that ``sacct`` answers.
    """

    def __init__(self, *, accounting: bool = True) -> None:
        self.accounting = accounting
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._database: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find this cluster."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), PATH]),
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            logs = [
                f"{log.name}: {log.read_text(errors='replace')[-2000:]}" for log in self.folder.glob("*.log")
            ]
            self._stack.close()
            raise AssertionError("the cluster did not start\n" + "\n".join(logs)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self) -> None:
        ports = _free_ports(7)
        facts = {
            "folder": self.folder,
            "host": socket.gethostname().split(".")[0],
            "user": getpass.getuser(),
            "ctld_port": ports[0],
            "dbd_port": ports[1],
            "sql_port": ports[2],
            "node_ports": ",".join(str(port) for port in ports[3:]),
            "node_mem_mb": NODE_MEM_MB,
            "password": secrets.token_hex(8),
        }
        accounting = "AccountingStorageType=accounting_storage/none"
        if self.accounting:
            accounting = (
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
                f"AccountingStoragePort={ports[1]}\nAccountingStoreFlags=job_comment\n"
                f"AccountingStoragePass={self.folder}/munge.socket"
            )
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**facts, accounting=accounting))
        (self.folder / "state").mkdir()
        (self.folder / "plugstack.conf").touch()
        self._write_srun()
        self._start_munge()
        if self.accounting:
            self._start_database(facts)
        self.start("slurmctld", "slurmctld", "-D")
        self.wait_for("slurmctld", lambda: self.call("scontrol", "ping", check=False).count("UP") > 0)
        for node in NODES:
            self.start_node(node)
        self.wait_for("idle nodes", lambda: set(self.node_states().values()) == {"IDLE"})

    def _write_srun(self) -> None:
        """Tell srun where the configuration is: in jobs SLURM_CONF is not set, as real ones have a file in /etc."""
        srun = self.folder / "bin" / "srun"
        srun.parent.mkdir()
        program = shutil.which("srun")
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {program} "$@"\n')
        srun.chmod(0o755)

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        names = {
            "socket": "munge.socket",
            "pid-file": "munge.pid",
            "log-file": "munge.log",
            "seed-file": "munge.seed",
        }
        options = [f"--{option}={self.folder / name}" for option, name in names.items()]
        self.start("munged", "munged", "--foreground", "--force", f"--key-file={key}", *options)
        self.wait_for("munge", (self.folder / "munge.socket").exists)

    def _start_database(self, facts: dict[str, object]) -> None:
        data, unix = self.folder / "mariadb", self.folder / "mariadb.socket"
        options = ["--no-defaults", f"--datadir={data}", f"--user={facts['user']}"]
        self.run("mariadb-install-db", *options, "--auth-root-authentication-method=normal", "--skip-test-db")
        self.start(
            "mariadbd",
            "mariadbd",
            *options,
            f"--socket={unix}",
            f"--port={facts['sql_port']}",
            "--bind-address=127.0.0.1",
            f"--pid-file={self.folder / 'mariadb.pid'}",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=64M",
            "--innodb-lock-wait-timeout=900",
            "--innodb-flush-log-at-trx-commit=0",
        )
        client = ["mariadb", "--no-defaults", f"--socket={unix}", "--user=root", "--execute"]
        self.wait_for(
            "MariaDB",
            lambda: (
                subprocess.run(
                    [*client, "SELECT 1"], capture_output=True, check=False, env=self._environment()
                ).returncode
                == 0
            ),
        )
        self.run(
            *client,
            "CREATE DATABASE slurm_acct; "
            f"CREATE USER slurm@localhost IDENTIFIED BY '{facts['password']}'; "
            f"CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{facts['password']}'; "
            "GRANT ALL ON slurm_acct.* TO slurm@localhost; GRANT ALL ON slurm_acct.* TO slurm@'127.0.0.1'",
        )
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(SLURMDBD_CONF.format(**facts))
        conf.chmod(0o600)
        self.start("slurmdbd", "slurmdbd", "-D")
        self.wait_for("slurmdbd", lambda: "Cluster" in self.call("sacctmgr", "list", "cluster", check=False))
        self.call("sacctmgr", "-i", "add", "cluster", "protosonic")
        self.call("sacctmgr", "-i", "add", "account", ACCOUNT, "cluster=protosonic")
        self.call("sacctmgr", "-i", "add", "user", str(facts["user"]), f"account={ACCOUNT}")

    def start_node(self, node: str) -> None:
        self.start(node, "slurmd", "-D", "-N", node)

    def kill(self, daemon: str) -> None:
        """SIGKILL a daemon; jobs of a killed slurmd go on, as their slurmstepd is a process of its own."""
        process = self.daemons.pop(daemon)
        process.kill()
        process.wait()

    def start(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground, in a session of its own."""
        log = (self.folder / f"{name}.out.log").open("ab")
        with log:
            process = subprocess.Popen(
                command,
                env=self._environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if name not in self.daemons:
            self._stack.callback(self._stop, name)
        self.daemons[name] = process

    def _stop(self, name: str) -> None:
        process = self.daemons.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _environment(self) -> dict[str, str]:
        return os.environ | self.environment

    def run(self, *command: str) -> None:
        subprocess.run(command, env=self._environment(), check=True, capture_output=True)

    def call(self, *command: str, check: bool = True) -> str:
        """Run a SLURM command and return what it printed."""
        process = subprocess.run(
            command, env=self._environment(), capture_output=True, text=True, check=False
        )
        if check and process.returncode:
            raise AssertionError(f"{command}: {process.stderr or process.stdout}")
        return process.stdout

    def wait_for(self, what: str, condition: Callable[[], bool], seconds: float = WAIT_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not after {seconds:.0f} s")
            dead = [name for name, process in self.daemons.items() if process.poll() is not None]
            if dead:
                raise AssertionError(f"{what}: {', '.join(dead)} ended")
            time.sleep(0.1)

    def node_states(self) -> dict[str, str]:
        lines = self.call("sinfo", "--Node", "--noheader", "--format=%N %T", check=False).splitlines()
        return {name: state.upper() for name, state in (line.split() for line in lines)}

    def queue(self, *options: str) -> list[dict[str, str]]:
        """Jobs that have not ended: id, state, name, comment."""
        lines = self.call("squeue", "--noheader", "--format=%i|%T|%j|%k", *options).splitlines()
        return [dict(zip(("id", "state", "name", "comment"), line.split("|"), strict=True)) for line in lines]

    def history(self, *names: str) -> list[dict[str, str]]:
        """All jobs that there were, from accounting."""
        fields = names or (
            "JobIDRaw",
            "JobName",
            "State",
            "ExitCode",
            "Comment",
            "Start",
            "End",
            "NodeList",
            "ReqMem",
            "TimelimitRaw",
            "ReqCPUS",
        )
        output = self.call(
            "sacct",
            "-X",
            "--parsable2",
            "--noheader",
            "--duplicates",
            "--starttime=now-1days",
            "--format=" + ",".join(fields),
        )
        return [dict(zip(fields, line.split("|"), strict=True)) for line in output.splitlines()]

    def cancel_all(self) -> None:
        """Cancel what is left of a test."""
        self.call("scancel", f"--user={getpass.getuser()}", check=False)
        self.wait_for("an empty queue", lambda: not self.queue())


def _free_ports(count: int) -> Sequence[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process that leads a session, and all of it: a login node that is switched off."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
