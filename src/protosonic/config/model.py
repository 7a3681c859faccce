"""The configuration model: the one description of every key, its type, default and meaning.

``config/config.yaml``, ``config/schema.json`` and ``protosonic config explain`` are made from it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from protosonic.config.inputs import Input, Remote
from protosonic.config.results import Acceptance, Merge, Report
from protosonic.config.section import Section as _Section
from protosonic.images.profiles import profile_names
from protosonic.publish import sha256_of_json

__all__ = [
    "BUNDLED",
    "Acceptance",
    "Campaign",
    "Endpoint",
    "Inference",
    "Input",
    "Merge",
    "Model",
    "Partition",
    "Pilot",
    "Preprocess",
    "Remote",
    "Report",
    "Settings",
    "Training",
    "demo_settings",
]

BUNDLED = "bundled"
"""Value of ``model.path`` that means the model that comes with protosonic."""

Policy = Literal["endpoint-first", "endpoint-only", "cpu-only", "cooperative"]
_FilePath = Annotated[str, Field(min_length=1)] | None

_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Metadata that carries secrets; settings travel into the provenance and the Parquet footers."""
_PATCH_BYTES = 48 * 48 * 4


class Campaign(_Section):
    """The name of the campaign and its seed."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = Field(
        "demo", description="Names the output folder results/<name>; letters, digits, '.', '_' and '-'."
    )
    seed: int = Field(
        1, ge=0, description="Seeds everything random (training and the events that it simulates)."
    )


class Partition(_Section):
    """How events are grouped into jobs."""

    target_hits: int = Field(
        200_000,
        ge=1,
        description="A partition is closed when the next event would take it past this many hits.",
    )
    target_minutes: float = Field(
        30.0,
        gt=0,
        le=1440,
        description="After run --pilot a partition gets as many hits as take this long (15 to 60 are good), in place "
        "of target_hits.",
    )
    stop_after_failed: int = Field(
        20,
        ge=1,
        description="A run stops when so many partitions failed for good and none was done: the cause concerns all.",
    )
    max_mem_mb: int = Field(
        1500, ge=300, description="No job may need more memory than this; an event that would is quarantined."
    )
    most_at_once: int = Field(
        10_000,
        ge=1,
        description="Partitions that Snakemake plans at the same time; a larger campaign runs in slices.",
    )


class Pilot(_Section):
    """When the partitions of ``run --pilot`` let the rest of the campaign go."""

    max_failed_fraction: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The campaign stops after its pilot when more of the pilot's events are not done.",
    )


class Preprocess(_Section):
    """How plane images and patches are made."""

    profile: str = Field(
        "protodune-sp-2021", description="Named set of preprocessing constants; see docs/physics.md."
    )
    planes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="Planes to classify (0 U, 1 V, 2 W); hits of others are left out.",
    )
    duplicate_patches: Literal["correct", "larsoft"] = Field(
        "correct",
        description="larsoft repeats its blank patch for a hit in the same wire and drift bin as the hit before it.",
    )

    @field_validator("profile")
    @classmethod
    def _known_profile(cls, name: str) -> str:
        if name not in profile_names():
            msg = f"unknown preprocessing profile '{name}'; allowed: {', '.join(profile_names())}"
            raise ValueError(msg)
        return name

    @field_validator("planes")
    @classmethod
    def _sorted_planes(cls, planes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(planes)) != len(planes):
            msg = f"a plane is listed twice: {list(planes)}"
            raise ValueError(msg)
        return tuple(sorted(planes))


class Model(_Section):
    """The network."""

    path: str = Field(
        BUNDLED, min_length=1, description="'bundled', or any ONNX file that meets the model contract."
    )
    name: str = Field("emtrkmichel", min_length=1, description="Model name at the endpoint.")
    version: str = Field(
        "1", description="Model version at the endpoint; '' leaves the choice to the server."
    )


class Endpoint(_Section):
    """One inference server that speaks the KServe v2 gRPC protocol."""

    url: str = Field(description="grpc://HOST:PORT, or grpcs://HOST:PORT with TLS.")
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Share of the requests, relative to the other endpoints."
    )
    ca_file: _FilePath = Field(
        None,
        description="PEM file of the authorities that the server's certificate is checked with; those of gRPC by "
        "default.",
    )
    cert_file: _FilePath = Field(
        None,
        description="PEM file of the client's certificate, where the server asks for one; with key_file.",
    )
    key_file: _FilePath = Field(None, description="PEM file of the key of the client's certificate.")
    token_file: _FilePath = Field(
        None, description="File that holds a bearer token and nothing else; read again when it changes."
    )
    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        None, description="Environment variable that holds a bearer token, in place of token_file."
    )
    headers: dict[str, str] = Field(
        default={},
        description="More metadata of every call; nothing secret, because the configuration is recorded with the "
        "dataset.",
    )
    compression: Literal["none", "gzip", "deflate"] = Field(
        "none",
        description="gRPC compression of requests: fewer bytes on a narrow network, for CPU time here and there.",
    )

    @field_validator("url")
    @classmethod
    def _grpc_url(cls, url: str) -> str:
        # A user or password would end up in the provenance, so there is no place for them.
        parts = re.fullmatch(r"grpcs?://(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", url, re.ASCII)
        if parts is None or not 0 < int(parts[1]) < 2**16:
            msg = f"'{url}' is not of the form grpc://HOST:PORT or grpcs://HOST:PORT"
            raise ValueError(msg)
        return url

    @field_validator("headers")
    @classmethod
    def _harmless_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name.lower() in _SECRET_HEADERS:
                msg = (
                    f"'{name}' carries a secret, and the configuration is recorded with the dataset; "
                    "use token_file or token_env"
                )
                raise ValueError(msg)
            if re.fullmatch(r"[a-z0-9_-]+", name) is None:
                msg = f"'{name}' is no name of gRPC metadata: lower case letters, digits, '_' and '-'"
                raise ValueError(msg)
            if name.startswith("grpc-") or name.endswith("-bin"):
                msg = f"'{name}' is kept for gRPC itself (grpc-…) or for binary values (…-bin)"
                raise ValueError(msg)
            if re.fullmatch(r"[\x20-\x7e]*", value) is None:
                msg = f"the value of '{name}' is not printable ASCII"
                raise ValueError(msg)
        return headers

    @model_validator(mode="after")
    def _files_make_sense_together(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            msg = "cert_file and key_file are given together or not at all"
            raise ValueError(msg)
        tls_files = [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, name) is not None]
        if tls_files and not self.url.startswith("grpcs://"):
            msg = f"{', '.join(tls_files)}: TLS needs a url that begins with grpcs://"
            raise ValueError(msg)
        if self.token_file is not None and self.token_env is not None:
            msg = "a token comes from token_file or from token_env, not from both"
            raise ValueError(msg)
        return self


class Inference(_Section):
    """Where scores are computed."""

    policy: Policy = Field(
        "endpoint-first",
        description="endpoint-first: the endpoints, else the CPU; endpoint-only: never the CPU; cpu-only: never an "
        "endpoint; cooperative: the job's own cores work from the other end of the queue while the endpoints serve.",
    )
    endpoints: tuple[Endpoint, ...] = Field(
        (Endpoint(url="grpc://127.0.0.1:8001"),),
        description="Inference servers; requests are spread over those that serve.",
    )
    payload: Literal["auto", "patches", "image"] = Field(
        "auto",
        description="What is sent: patches; image, plane images and the places of hits, some hundred times smaller, to "
        "the model that is served as <name>_image; auto, the image where it is served.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=256,
        description="CPU threads of one inference job; by default the cores of this machine are spread over the "
        "partitions, and a job on a cluster has one.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Patches per call of ONNX Runtime on the CPU; by default the published network is evaluated on "
        "plane images, several times as fast, and for any other network the best size is measured once per machine.",
    )
    precision: Literal["exact", "fast"] = Field(
        "exact",
        description="fast lets the CPU compute dense layers in 8 bits, and is refused where that changes a figure of "
        "merit by more than 0.1 %; the published network has an engine that is faster than that, and exact.",
    )
    request_bytes: int = Field(
        512 * _PATCH_BYTES,
        ge=4 * _PATCH_BYTES,
        le=64 * 2**20,
        description="Bytes per request to an endpoint, at most; a patch has 9,216.",
    )
    request_hits: int = Field(
        4096,
        ge=1,
        le=65536,
        description="Hits per request of images, at most: the more, the fewer bytes a hit, and the longer it takes.",
    )
    max_in_flight: int = Field(
        8,
        ge=1,
        le=64,
        description="Requests under way to one endpoint, at most; the number follows the endpoint's latency.",
    )
    latency_target_s: float = Field(
        2.0,
        gt=0,
        le=600,
        description="Fewer requests are sent while answers take longer; equal for all clients of an endpoint, so "
        "that they share it fairly.",
    )
    connect_timeout_s: float = Field(
        5.0, ge=0.1, le=600, description="Deadline of every health and metadata call."
    )
    request_timeout_s: float = Field(
        120.0,
        ge=0.1,
        le=3600,
        description="Deadline of every inference request; well above the longest latency of a healthy endpoint.",
    )
    patience_s: float = Field(
        300.0,
        ge=0,
        le=86400,
        description="How long a job waits for an endpoint that is overloaded, or, with endpoint-only, for one that "
        "has served it and is away.",
    )
    retries: int = Field(
        4, ge=0, le=100, description="How often one request is tried again, over all endpoints."
    )
    tolerance: float = Field(
        1e-5,
        gt=0,
        le=0.1,
        description="Largest difference between scores of an endpoint and of the local model on the patches that "
        "prove the endpoint.",
    )
    wan_mbps: int = Field(
        100, ge=0, description="Bandwidth one client takes; the profile's wan_mbps caps the sum over jobs."
    )
    slots_folder: str | None = Field(
        None,
        description="Folder on a shared file system through which campaigns share the clients that an endpoint takes: a "
        "job holds one of its slots while it uses endpoints. Give all of them the same folder and number of slots.",
    )
    slots: int = Field(32, ge=1, le=10_000, description="Clients of all campaigns that share slots_folder.")
    slot_patience_s: float = Field(
        900.0,
        ge=0,
        le=86400,
        description="How long a job waits for a slot; then it goes on as where no endpoint can serve.",
    )

    @model_validator(mode="after")
    def _endpoints_where_needed(self) -> Self:
        if self.policy != "cpu-only" and not self.endpoints:
            msg = f"policy {self.policy} needs at least one entry in endpoints"
            raise ValueError(msg)
        urls = [endpoint.url for endpoint in self.endpoints]
        if repeated := sorted({url for url in urls if urls.count(url) > 1}):
            msg = f"endpoints are given twice: {', '.join(repeated)}"
            raise ValueError(msg)
        return self


class Training(_Section):
    """How the target ``train`` trains a network; a campaign does not use it."""

    events: int = Field(40, ge=4, description="Simulated events to train on.")
    validation_events: int = Field(
        3, ge=1, description="Simulated events that stop and calibrate the training."
    )
    held_out_events: int = Field(4, ge=1, description="Simulated events that evaluate the result.")
    minutes: float = Field(25.0, gt=0, description="Wall time of the training, without the simulation.")
    steps: int | None = Field(
        None, ge=100, description="Batches; makes a run repeatable. null: as many as fit into minutes."
    )
    batch_size: int = Field(256, ge=1, description="Patches of a batch; 2048 suits a GPU.")
    learning_rate: float = Field(5e-4, gt=0, description="Largest rate of AdamW; 1e-3 suits batches of 2048.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where PyTorch finds one.")


class Settings(_Section):
    """The whole configuration."""

    campaign: Campaign = Field(default_factory=Campaign, description="The name of the campaign and its seed.")
    inputs: tuple[Input, ...] = Field(min_length=1, description="Sets of input files and how to read them.")
    remote: Remote = Field(default_factory=Remote, description="How files of other machines are read.")
    partition: Partition = Field(default_factory=Partition, description="How events are grouped into jobs.")
    pilot: Pilot = Field(
        default_factory=Pilot,
        description="When the partitions of run --pilot let the rest of the campaign go.",
    )
    preprocess: Preprocess = Field(
        default_factory=Preprocess, description="How plane images and patches are made."
    )
    model: Model = Field(default_factory=Model, description="The network.")
    inference: Inference = Field(default_factory=Inference, description="Where scores are computed.")
    merge: Merge = Field(default_factory=Merge, description="How the dataset is cut into files.")
    acceptance: Acceptance = Field(default_factory=Acceptance, description="When a campaign counts as good.")
    report: Report = Field(default_factory=Report, description="What the report shows.")
    training: Training = Field(
        default_factory=Training,
        description="How the target train trains a network; a campaign does not use it.",
    )

    def digest(self, *keys: str) -> str:
        """Return a short digest of some keys, such as ``"preprocess"`` or ``"inference.policy"``.

        Rules carry it as a parameter, so that Snakemake reruns a stage when, and only when, what the stage depends on
        has changed.
        """
        values: dict[str, Any] = {}
        for key in keys:
            value: Any = self.model_dump(mode="json")
            for part in key.split("."):
                value = value[part]
            values[key] = value
        return sha256_of_json(values)[:16]


def demo_settings() -> Settings:
    """Give the settings of the demonstration campaign, which ``config/config.yaml`` spells out."""
    return Settings(inputs=(Input(path="data/*.h5", detector="protodune-sp", charge_scale=1.0),))
