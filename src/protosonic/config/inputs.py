"""The sections ``inputs`` and ``remote``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from protosonic.config.section import Section
from protosonic.detectors import detector_names
from protosonic.remote.urls import is_url, problem_with, without_secrets

__all__ = ["Input", "Remote"]

InputFormat = Literal["auto", "native", "wirecell-archive", "wirecell-hdf5", "numl"]
_Prefix = Annotated[str, Field(min_length=1)]


class Input(Section):
    """One set of input files and how to read them."""

    path: str = Field(
        min_length=1,
        description="File, glob (** descends), folder, URL (root://, https://, s3://; see docs/remote.md) or @list.txt "
        "(one path or URL a line). Relative paths start at the working directory.",
    )
    format: InputFormat = Field(
        "auto", description="auto looks at the content of each file, never at its name."
    )
    detector: str | None = Field(
        None, description="Needed where the file does not say it (Wire-Cell, numl); must agree where it does."
    )
    charge_scale: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Stored charge times this = recob::Wire units. Needed for Wire-Cell inputs, which carry no unit: "
        "1e-3 for ProtoDUNE electrons, 5e-3 for some simulation; elsewhere the default is 1.",
    )
    run: int = Field(0, ge=0, le=2**32 - 1, description="Run number where the format has none.")
    tag: str = Field(
        "gauss",
        min_length=1,
        description="Wire-Cell frame tag; matches by prefix (gauss finds gauss1 of anode 1).",
    )
    ticks_per_bin: int = Field(
        1, ge=1, le=64, description="Readout ticks per stored Wire-Cell bin; 4 for the FD truth frames."
    )
    hit_threshold: float = Field(
        0.6,
        gt=0,
        allow_inf_nan=False,
        description="Hit finder threshold for inputs without hits, in recob::Wire units (GausHitFinder RoiThreshold).",
    )

    @field_validator("path")
    @classmethod
    def _usable_url(cls, path: str) -> str:
        if is_url(path) and (problem := problem_with(path)):
            raise ValueError(problem)
        return path

    @field_validator("detector")
    @classmethod
    def _known_detector(cls, name: str | None) -> str | None:
        if name is not None and name not in detector_names():
            msg = f"unknown detector '{name}'; allowed: {', '.join(detector_names())}"
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _scale_is_stated(self) -> Self:
        if self.format.startswith("wirecell") and self.charge_scale is None:
            msg = "charge_scale is needed for Wire-Cell inputs: their files carry no unit (ProtoDUNE electrons: 1e-3)"
            raise ValueError(msg)
        return self


class Remote(Section):
    """How files of other machines are read; it changes no result."""

    fetch: Literal["auto", "copy", "stream"] = Field(
        "auto",
        description="How the events of a partition come: copy takes the whole file to scratch ($TMPDIR) and proves its "
        "checksum; stream reads parts over the network; auto streams HDF5 files of which the partition needs little.",
    )
    replicas: dict[_Prefix, tuple[_Prefix, ...]] = Field(
        {},
        description="Prefix of a URL: list of prefixes that hold the same files. They are used in this order where the "
        "first fails.",
    )
    attempts: int = Field(
        4, ge=1, le=20, description="How often a file is tried at each replica before the job gives up."
    )
    timeout_s: float = Field(
        60.0, ge=1, le=3600, allow_inf_nan=False, description="Time for each answer of a server, in seconds."
    )

    @field_validator("replicas")
    @classmethod
    def _usable_prefixes(cls, replicas: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for prefix, others in replicas.items():
            for text in (prefix, *others):
                problem = problem_with(f"{text}file") if is_url(text) else "a replica is a prefix of a URL"
                if problem:
                    raise ValueError(problem)
                if not text.endswith("/"):
                    msg = f"a prefix must end in '/'; found {without_secrets(text)}"
                    raise ValueError(msg)
        return replicas
