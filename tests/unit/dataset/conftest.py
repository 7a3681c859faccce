from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protosonic.campaign.bundles import bundles_of
from protosonic.campaign.inputs import blocks_of_inputs, find_inputs
from protosonic.campaign.layout import Layout
from protosonic.campaign.records import Plan, read_record
from protosonic.config import Settings, check_settings
from protosonic.dataset.schema import HITS_SCHEMA
from protosonic.dataset.scores import hits_table, parquet_writer
from protosonic.publish import sha256_of
from protosonic.simulation.files import simulate_files
from protosonic.stages.catalog import catalog_block
from protosonic.stages.collect import collect_bundle
from protosonic.stages.infer import infer_partition
from protosonic.stages.merge import merge_campaign
from protosonic.stages.model import prepare_model
from protosonic.stages.partition import partition_campaign
from protosonic.stages.preprocess import preprocess_partition

SCORES = ("track", "em", "none", "michel")
Key = tuple[int, int, int]


@dataclass(frozen=True)
class StagedCampaign:
    """A campaign whose stages are called one by one, as the workflow calls them."""

    workdir: Path
    settings: Settings

    @property
    def layout(self) -> Layout:
        return Layout(self.settings.campaign.name, self.workdir)

    @property
    def results(self) -> Path:
        return self.layout.results

    def plan(self) -> Plan:
        """Catalog and partition."""
        with contextlib.chdir(self.workdir):
            layout = Layout(self.settings.campaign.name)
            outputs = []
            for block, files in blocks_of_inputs(find_inputs(self.settings)).items():
                outputs.append(layout.catalog / f"{block}.json")
                catalog_block(files, outputs[-1])
            return partition_campaign(outputs, self.settings, layout.work / "partitions", layout.plan)

    def score(self, plan: Plan) -> None:
        """Prepare the model, then prepare and score every partition."""
        with contextlib.chdir(self.workdir):
            layout = Layout(self.settings.campaign.name)
            model = layout.model.with_name("model.onnx")
            prepare_model(self.settings, model, layout.model)
            for partition in plan.partitions:
                name, unit = partition.id, layout.work / "unit.h5"
                preprocess_partition(layout.descriptor(name), self.settings.preprocess, unit)
                infer_partition(
                    unit,
                    layout.descriptor(name),
                    model,
                    layout.model,
                    self.settings,
                    layout.scores(name),
                    layout.status(name),
                    threads=2,
                )
            model.unlink()
            unit.unlink()

    def collect(self, **sections: dict[str, Any]) -> int:
        """Merge the scores of every bundle; give their number."""
        with contextlib.chdir(self.workdir):
            settings = check_settings(self.settings.model_dump() | sections)
            layout = Layout(settings.campaign.name)
            partitions = [partition.id for partition in read_record(layout.plan, Plan).partitions]
            bundles = bundles_of(partitions, settings.merge.bundle_partitions)
            for name in bundles:
                collect_bundle(layout, settings.merge, name)
        return len(bundles)

    def merge(self, **sections: dict[str, Any]) -> dict[str, Any]:
        with contextlib.chdir(self.workdir):
            settings = check_settings(self.settings.model_dump() | sections)
            return merge_campaign(Layout(settings.campaign.name), settings)

    def hits(self) -> pa.Table:
        return pa.concat_tables(pq.read_table(path) for path in sorted(self.layout.hits.iterdir()))

    def rewrite(self, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Change a Parquet file of the results, and campaign.json so that it describes the changed file."""
        path = self.results / name
        table = change(pq.read_table(path))
        pq.write_table(table, path)
        with self.edited_campaign() as content:
            dataset = content["dataset"]
            [entry] = [e for e in [*dataset["files"], dataset["accounting"]] if e["file"] == name]
            entry["sha256"] = sha256_of(path)
            if "rows" in entry:
                entry["rows"] = len(table)

    @contextlib.contextmanager
    def edited_campaign(self):
        """Change the content of campaign.json."""
        content = json.loads(self.layout.campaign.read_text())
        yield content
        self.layout.campaign.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StagedCampaign:
    """A finished campaign: two files of two events, one of them with a NaN, and a file that is empty."""
    workdir = tmp_path_factory.mktemp("finished")
    paths = list(
        simulate_files(workdir / "data", detector="protodune-sp", files=2, events=2, hits=120, seed=1)
    )
    with h5py.File(paths[1], "r+") as file:
        file["values/charge"][-1] = np.nan
    (workdir / "data" / "empty.h5").touch()
    settings = check_settings(
        {
            "campaign": {"name": "tiny"},
            "inputs": [{"path": "data/*.h5"}],
            "partition": {"target_hits": 400},
            "preprocess": {"planes": [2]},
            "inference": {"policy": "cpu-only"},
            "merge": {"target_rows": 60, "row_group_rows": 25},
        }
    )
    campaign = StagedCampaign(workdir, settings)
    campaign.score(campaign.plan())
    campaign.merge()
    return campaign


@pytest.fixture
def campaign(finished: StagedCampaign, tmp_path: Path) -> StagedCampaign:
    """A copy of the finished campaign to change."""
    workdir = tmp_path / "campaign"
    shutil.copytree(finished.workdir, workdir)
    return StagedCampaign(workdir, finished.settings)


@pytest.fixture(scope="session")
def make_table() -> Callable[..., pa.Table]:
    """Make the rows of an event; everything but its numbers and the number of hits is random."""

    def make(key: Key, n: int, **columns: Any) -> pa.Table:
        rng = np.random.default_rng(key)
        hits: dict[str, Any] = {
            "hit": np.arange(n),
            "cryostat": np.zeros(n),
            "tpc": rng.integers(0, 12, n),
            "plane": rng.integers(0, 3, n),
            "wire": rng.integers(0, 1148, n),
            "channel": rng.integers(0, 15360, n),
            "in_wire_space": rng.random(n) < 0.5,
            "in_fiducial": rng.random(n) < 0.5,
            "duplicate_patch": rng.random(n) < 0.1,
        }
        hits |= {name: rng.random(n) for name in ("peak_time", "rms", "peak_amplitude", "integral")}
        backend = np.where(rng.random(n) < 0.5, "triton", "onnxruntime").astype(object)
        scores = rng.random((n, 4)).astype(np.float32)
        table = hits_table(key, hits, scores, SCORES, backend, "f" * 16)
        for name, values in columns.items():
            index = table.schema.get_field_index(name)
            table = table.set_column(
                index, table.schema.field(name), pa.array(values, table.schema.field(name).type)
            )
        return table

    return make


@pytest.fixture(scope="session")
def write_scores() -> Callable[[Path, Sequence[pa.Table]], Path]:
    """Write a scores file from tables; each becomes a row group."""

    def write(path: Path, tables: Sequence[pa.Table]) -> Path:
        with parquet_writer(path, HITS_SCHEMA, {}) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=max(len(table), 1))
        return path

    return write
