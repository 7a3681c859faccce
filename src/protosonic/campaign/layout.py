"""Where a campaign keeps its files, below its working directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from protosonic.errors import ConfigError

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The paths of a campaign.

    Attributes
    ----------
    name
        Name of the campaign.
    workdir
        The working directory; the workflow runs in it, so there it is the default.
    """

    name: str
    workdir: Path = Path()

    @property
    def results(self) -> Path:
        """What the campaign is for: dataset, accounting, ``campaign.json`` and report."""
        return self.workdir / "results" / self.name

    @property
    def work(self) -> Path:
        """What stages hand to each other."""
        return self.workdir / "work" / self.name

    @property
    def hits(self) -> Path:
        """Folder of the hits dataset."""
        return self.results / "hits"

    @property
    def accounting(self) -> Path:
        """Parquet file of the accounting."""
        return self.results / "accounting.parquet"

    @property
    def campaign(self) -> Path:
        """JSON file of the provenance; written last."""
        return self.results / "campaign.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.results / "report.html"

    @property
    def catalog(self) -> Path:
        """Folder of the catalog's block files."""
        return self.work / "catalog"

    @property
    def plan(self) -> Path:
        """JSON file of the plan."""
        return self.work / "plan.json"

    @property
    def model(self) -> Path:
        """JSON record of the model; the ONNX file stands beside it."""
        return self.work / "model" / "model.json"

    @property
    def units(self) -> Path:
        """Folder of the units, HDF5, which are removed when they are scored."""
        return self.work / "units"

    @property
    def failures(self) -> Path:
        """Folder of the records that failed jobs leave."""
        return self.work / "failures"

    @property
    def logs(self) -> Path:
        """Folder of the logs of jobs."""
        return self.work / "logs"

    @property
    def closed(self) -> Path:
        """JSON record of a campaign that was closed with known failures."""
        return self.work / "closed.json"

    @property
    def last_run(self) -> Path:
        """JSON record of the last run."""
        return self.work / "run.json"

    @property
    def lock(self) -> Path:
        """File that a run holds locked; empty unless a run lasts or was killed."""
        return self.work / "run.lock"

    @property
    def pilot(self) -> Path:
        """JSON record of what the pilot partitions measured."""
        return self.work / "pilot.json"

    @property
    def published(self) -> Path:
        """JSON record of where the dataset was published."""
        return self.work / "published.json"

    def settings(self, digest: str) -> Path:
        """JSON file of the checked configuration, named by its content."""
        return self.work / "settings" / f"{digest}.json"

    def descriptor(self, partition: str) -> Path:
        """JSON descriptor of a partition."""
        return self.work / "partitions" / f"{partition}.json"

    def scores(self, partition: str) -> Path:
        """Parquet file of the scores of a partition."""
        return self.work / "scores" / f"{partition}.parquet"

    def status(self, partition: str) -> Path:
        """JSON status of a partition."""
        return self.work / "status" / f"{partition}.json"

    def bundle(self, name: str) -> Path:
        """JSON record of a bundle of partitions."""
        return self.work / "bundles" / f"{name}.json"

    def bundle_scores(self, name: str) -> Path:
        """Parquet file of the scores of a bundle."""
        return self.work / "bundles" / f"{name}.parquet"

    def benchmark(self, stage: str, partition: str) -> Path:
        """JSON lines file of what Snakemake measured of a job of a partition."""
        return self.work / "benchmarks" / stage / f"{partition}.jsonl"

    @classmethod
    def of_workdir(cls, workdir: Path, name: str | None = None) -> Layout:
        """Find the finished campaign in a working directory.

        Raises
        ------
        ConfigError
            There is none, or several and none is named.
        """
        found = {path.parent.name for path in workdir.glob("results/*/campaign.json")}
        return cls(
            _choose(found, workdir, name, "finished campaign", "results/<campaign>/campaign.json"), workdir
        )

    @classmethod
    def of_started(cls, workdir: Path, name: str | None = None) -> Layout:
        """Find the campaign in a working directory, whether it is finished or not.

        Raises
        ------
        ConfigError
            There is none, or several and none is named.
        """
        found = {path.parent.name for path in workdir.glob("results/*/campaign.json")}
        found |= {path.parent.name for path in workdir.glob("work/*/settings")}
        return cls(_choose(found, workdir, name, "campaign", "work/<campaign>/"), workdir)


def _choose(found: set[str], workdir: Path, name: str | None, what: str, expected: str) -> str:
    names = ", ".join(sorted(found))
    if not found:
        raise ConfigError(f"no {what} is here", file=workdir, expected=expected)
    if name is None and len(found) > 1:
        raise ConfigError(
            "the working directory holds several campaigns",
            file=workdir,
            found=names,
            hint="Choose one with --campaign",
        )
    if name is not None and name not in found:
        raise ConfigError(f"there is no {what} '{name}' here", file=workdir, found=names)
    return name or min(found)
