"""The site file: what differs between clusters and users, and is no part of a campaign."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Site"]

_Name = Annotated[str, Field(pattern=r"^[\w.@,+-]+$")]
_Amount = Annotated[int, Field(strict=True)]


class Site(BaseModel):
    """What a site asks for; everything may be left out, and then the profile's word counts.

    Attributes
    ----------
    account, partition, qos
        Those of SLURM.
    extra
        More options of ``sbatch``.
    jobs
        Most jobs that are submitted at a time.
    gpu_clients, wan_mbps
        Most clients of the inference endpoint, and their bandwidth in Mb/s, over all running jobs of a campaign.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    account: _Name | None = None
    partition: _Name | None = None
    qos: _Name | None = None
    extra: str | None = None
    jobs: _Amount | None = Field(None, ge=1)
    gpu_clients: _Amount | None = Field(None, ge=1)
    wan_mbps: _Amount | None = Field(None, ge=1)
