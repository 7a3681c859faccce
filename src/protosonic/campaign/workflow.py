"""What the Snakefile asks: the checked configuration, the catalog blocks, the partitions and the size of jobs."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protosonic import __version__
from protosonic.campaign.bundles import bundles_of
from protosonic.campaign.inputs import blocks_of_inputs, find_inputs, read_block, write_blocks
from protosonic.campaign.layout import Layout
from protosonic.campaign.partitioning import memory_of_scoring
from protosonic.campaign.records import Partition, PilotRecord, Plan, PlannedPartition, read_record
from protosonic.config import check_settings
from protosonic.config.model import BUNDLED
from protosonic.publish import publish_json, sha256_of_json
from protosonic.remote.urls import is_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protosonic.campaign.inputs import InputFile

__all__ = ["SETTINGS_VARIABLE", "CampaignWorkflow"]

SETTINGS_VARIABLE = "PROTOSONIC_SETTINGS"
"""Environment variable that tells jobs where the checked configuration is."""

HITS_PER_MINUTE = 60_000
"""A slow core; sizes the run time that is asked for where no pilot has measured it."""
START_MINUTES = 10
"""Run time that is asked for beyond the work."""
TIME_MARGIN = 2.0
MEMORY_MARGIN = 1.3
"""Nodes differ, and so do events; what was measured is not the worst."""
LEAST_MEM_MB = 200
SNAKEMAKE_MEM_MB = 400
"""A job on a node is two processes of Snakemake besides the work; 177 MB each were measured on SLURM."""
MEM_PER_CATALOG = 10
"""Records in memory, per byte in the catalog's files; a million events took 2 GB, and 237 MB as JSON."""
MAX_THREADS = 8
"""Most threads of a job unless the configuration says more: few large events must not hold back all others."""


class CampaignWorkflow:
    """A campaign as the workflow sees it; the workflow runs in the campaign's working directory.

    Parameters
    ----------
    config
        Snakemake's ``config`` dictionary.
    is_job
        Whether this process runs one job of a workflow that another process leads. Each job reads the Snakefile again;
        it takes the inputs from what the leading process wrote down, and lists none itself.

    Raises
    ------
    ConfigError
        The configuration is wrong.
    """

    def __init__(self, config: Mapping[str, Any], *, is_job: bool = False) -> None:
        self._is_job = is_job
        self.settings = check_settings(dict(config))
        self.layout = Layout(self.settings.campaign.name)
        self._mem_mb_beside = 0

    def remove_scored_units(self) -> None:
        """Remove the units whose partitions are scored; for the end of a workflow.

        Snakemake removes them itself, unless it was killed after a job had published its scores and before that.
        """
        for unit in self.layout.units.glob("*.h5"):
            status = self.layout.status(unit.stem)
            if status.exists() and status.stat().st_mtime_ns > unit.stat().st_mtime_ns:
                unit.unlink()

    def prepare_jobs(self, *, are_here: bool = True) -> None:
        """Write the checked configuration for the jobs and tell them where it is.

        Parameters
        ----------
        are_here
            Whether they are processes of this machine. Elsewhere a Snakemake of their own shares their memory.

        The file is named by its content, so changing the configuration never touches jobs that run. The environment
        carries its name, because as a parameter of the rules it would make every change rerun everything; what a
        stage depends on is in the digest among its parameters. ``protosonic`` is put on the path where the
        environment of snakemake is not activated.
        """
        self._mem_mb_beside = 0 if are_here else SNAKEMAKE_MEM_MB
        content = self.settings.model_dump(mode="json")
        path = self.layout.settings(sha256_of_json(content)[:16])
        if not path.exists():
            publish_json(path, content)
        os.environ[SETTINGS_VARIABLE] = str(path)
        if shutil.which("protosonic") is None:
            os.environ["PATH"] = os.pathsep.join(
                [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
            )

    @cached_property
    def blocks(self) -> dict[str, list[InputFile]]:
        """Catalog blocks: name → files. They are written down for the jobs."""
        blocks = blocks_of_inputs(find_inputs(self.settings))
        write_blocks(self.layout.inputs, blocks)
        return blocks

    @property
    def block_names(self) -> list[str]:
        """Names of the catalog blocks."""
        if self._is_job and (written := sorted(path.stem for path in self.layout.inputs.glob("*.json"))):
            return written
        return list(self.blocks)

    def _files_of(self, block: str) -> list[InputFile]:
        path = self.layout.inputs / f"{block}.json"
        return read_block(path) if self._is_job and path.exists() else self.blocks[block]

    def block_files(self, block: str) -> list[str]:
        """List the files of a block that Snakemake can watch: those that exist on this machine.

        The others become records of missing files. Remote files are left out, because Snakemake would ask the server
        for each of them whenever it starts.
        """
        paths = [file.path for file in self._files_of(block)]
        return [path for path in paths if not is_url(path) and Path(path).exists()]

    def block_digest(self, block: str) -> str:
        """Digest of what the record of a block depends on besides the files: which they are and what reads them."""
        files = [[file.path, file.spec.model_dump(mode="json")] for file in self._files_of(block)]
        return f"{__version__}-{sha256_of_json(files)[:16]}"

    @cached_property
    def pilot(self) -> PilotRecord | None:
        """What the pilot measured, where there was one that let the rest of the campaign go."""
        if not self.layout.pilot.exists():
            return None
        pilot = read_record(self.layout.pilot, PilotRecord)
        return pilot if pilot.released else None

    @property
    def pilot_option(self) -> str:
        """What ``protosonic partition`` is told of the pilot."""
        return f"--pilot {self.layout.pilot}" if self.pilot else ""

    @property
    def partition_digest(self) -> str:
        """Digest of what the partitions depend on besides the catalog."""
        digest = self.digest("partition.target_hits", "partition.max_mem_mb", "preprocess.planes")
        if self.pilot is None:
            return digest
        pilot = sha256_of_json(self.pilot.model_dump(mode="json"))[:16]
        return f"{digest}-{self.digest('partition.target_minutes')}-{pilot}"

    def digest(self, *keys: str) -> str:
        """Digest of configuration keys and the package version; changes exactly when a stage must run again."""
        return f"{__version__}-{self.settings.digest(*keys)}"

    @property
    def model_files(self) -> list[str]:
        """The model file, if one is configured; the bundled one comes with the package."""
        path = self.settings.model.path
        return [] if path == BUNDLED else [path]

    @property
    def report_options(self) -> str:
        """What ``protosonic report`` is told."""
        report = self.settings.report
        reference = [] if report.reference is None else ["--reference", report.reference]
        return shlex.join([*reference, "--events", str(report.events)])

    @property
    def training_options(self) -> str:
        """What ``protosonic model train`` is told."""
        training = self.settings.training
        options = {
            "events": training.events,
            "validation-events": training.validation_events,
            "minutes": training.minutes,
            "steps": training.steps,
            "batch-size": training.batch_size,
            "learning-rate": training.learning_rate,
            "device": training.device,
            "seed": self.settings.campaign.seed,
        }
        return " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)

    @cached_property
    def _partitions(self) -> dict[str, PlannedPartition]:
        return {partition.id: partition for partition in read_record(self.layout.plan, Plan).partitions}

    def partitions(self, plan: Path | str) -> list[str]:
        """List the planned partitions; `plan` proves that the checkpoint has run."""
        assert str(plan) == str(self.layout.plan)
        for name in ("_partitions", "bundles"):
            self.__dict__.pop(name, None)
        return list(self._partitions)

    def _planned(self, partition: str) -> PlannedPartition | Partition:
        """Give what is planned for a partition; a job on another node reads no more than its own descriptor."""
        if "_partitions" in self.__dict__:
            return self._partitions[partition]
        return read_record(self.layout.descriptor(partition), Partition)

    @cached_property
    def bundles(self) -> dict[str, list[str]]:
        """Bundles of a large campaign: name → partitions; the plan must be there."""
        return bundles_of(list(self._partitions), self.settings.merge.bundle_partitions)

    def threads(self, partition: str, cores: int | None) -> int:
        """Threads of an inference job: the jobs of all partitions share `cores`, and none takes more than its memory."""
        if self.settings.inference.threads is not None:
            return self.settings.inference.threads
        if cores is None or cores == 1:
            return 1
        share = min(cores // max(len(self._partitions), 1), MAX_THREADS)
        most_mb = self.settings.partition.max_mem_mb
        fitting = [n for n in range(2, share + 1) if self.mem_mb(partition, 1, n) <= most_mb]
        return max(fitting, default=1)

    def mem_mb(self, partition: str, attempt: int, threads: int | None = None) -> int:
        """Memory of the jobs of a partition, of those that score with so many threads; more on every attempt.

        It is estimated, and where a pilot has measured it the estimate is corrected.
        """
        scoring = 0 if threads is None else memory_of_scoring(self.settings.inference, threads)
        estimate = self._planned(partition).mem_mb + scoring
        ratio = self.pilot and self.pilot.memory_ratio.get("preprocess" if threads is None else "infer")
        if ratio:
            estimate = max(math.ceil(estimate * ratio * MEMORY_MARGIN), LEAST_MEM_MB)
        return estimate * attempt + self._mem_mb_beside

    @staticmethod
    def mem_mb_of_records(catalog: Iterable[str], attempt: int) -> int:
        """Memory of the jobs that hold what is known of every event of the campaign; more on every attempt."""
        sizes = [path.stat().st_size for path in map(Path, catalog) if path.exists()]
        return (1000 + MEM_PER_CATALOG * sum(sizes) // 2**20) * attempt

    def runtime(self, partition: str, attempt: int) -> int:
        """Minutes that the jobs of a partition may take; more on every attempt."""
        hits = self._planned(partition).hits
        if self.pilot and self.pilot.seconds_per_hit:
            minutes = math.ceil(hits * self.pilot.seconds_per_hit * TIME_MARGIN / 60)
        else:
            minutes = hits // HITS_PER_MINUTE
        return (START_MINUTES + minutes) * attempt

    @property
    def gpu_clients(self) -> int:
        """How many of the ``gpu_clients`` an inference job holds."""
        return 0 if self.settings.inference.policy == "cpu-only" else 1

    @property
    def wan_mbps(self) -> int:
        """How much of ``wan_mbps`` an inference job holds."""
        return self.settings.inference.wan_mbps * self.gpu_clients
