"""The workflow without ``protosonic run``: with plain Snakemake, and as a module of another workflow."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from protosonic.campaign.launch import workflow_folder
from protosonic.errors import ConfigError
from support.campaign import BIN, CPU_ONLY, CampaignRun, assert_same_hits, clean_environment, protosonic

SNAKEFILE = workflow_folder() / "workflow" / "Snakefile"
OUTER = f"""
configfile: "outer.yaml"


module hits:
    snakefile:
        {str(SNAKEFILE)!r}
    config:
        config["protosonic"]


use rule * from hits as hits_*


rule all:
    default_target: True
    input:
        rules.hits_all.input,
    output:
        "published",
    shell:
        "ls results/inner/hits > {{output}}"
"""


def snakemake(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        [str(BIN / "snakemake"), "--cores", "2", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=clean_environment(),
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


@pytest.fixture
def config(simulated: Path, linear_model: Path) -> dict[str, object]:
    return {
        "campaign": {"name": "inner"},
        "inputs": [{"path": f"{simulated}/*.h5"}],
        "model": {"path": str(linear_model)},
        "inference": CPU_ONLY,
    }


def test_plain_snakemake_makes_the_same_dataset(
    config: dict[str, object], linear: CampaignRun, tmp_path: Path
) -> None:
    campaign = CampaignRun(tmp_path, {}, name="inner")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    snakemake(tmp_path, "--snakefile", str(SNAKEFILE), "--configfile", "config.yaml")
    assert_same_hits(campaign.hits(), linear.hits())
    campaign.verify()


def test_another_workflow_uses_it_as_a_module(
    config: dict[str, object], linear: CampaignRun, tmp_path: Path
) -> None:
    campaign = CampaignRun(tmp_path, {}, name="inner")
    (tmp_path / "Snakefile").write_text(OUTER)
    (tmp_path / "outer.yaml").write_text(yaml.safe_dump({"protosonic": config}))
    snakemake(tmp_path)
    assert_same_hits(campaign.hits(), linear.hits())
    assert (tmp_path / "published").read_text().split() == [
        path.name for path in sorted(campaign.results.glob("hits/*.parquet"))
    ]
    campaign.verify()
    assert "Nothing to be done" in snakemake(tmp_path)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(make_campaign, simulated: Path) -> None:
    campaign = make_campaign(inputs=[{"path": f"{simulated}/*.h5"}])
    output = campaign.run("--dry-run")
    assert re.search(r"^catalog +3$", output, flags=re.MULTILINE), output
    assert "This was a dry-run" in output
    assert "hits/s" not in output
    assert not campaign.results.exists()
    refusal = protosonic("verify", str(campaign.workdir), expect=ConfigError.exit_code)
    assert "no finished campaign is here" in refusal


def test_report_of_snakemake_holds_that_of_the_campaign_with_captions(linear, tmp_path):
    page = tmp_path / "snakemake.html"
    config = linear.write_config()
    snakemake(
        linear.workdir, "--snakefile", str(SNAKEFILE), "--configfile", str(config), "--report", str(page)
    )
    text = page.read_text(encoding="utf-8")
    for caption in ("report", "campaign", "workflow"):
        words = (SNAKEFILE.parent / f"report/{caption}.rst").read_text(encoding="utf-8").split()
        assert " ".join(words[:6]) in text
    own = (linear.results / "report.html").read_bytes()
    # Snakemake embeds files as they are, in Base64 that begins anywhere.
    assert base64.b64encode(own[: len(own) // 3 * 3]).decode() in text
