"""What is planned: events, clients, servers, network and prices, as a YAML file that is checked as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveFloat, PositiveInt

from protosonic.config.load import check_section, load_section
from protosonic.config.render import commented_yaml
from protosonic.config.section import Section
from protosonic.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = [
    "BYTES_PER_HIT",
    "Clients",
    "Cost",
    "Network",
    "Scenario",
    "Server",
    "Workload",
    "load_scenario",
    "parse_settings",
    "scenario_yaml",
]

Payload = Literal["image", "patches"]
NotNegative = Annotated[float, Field(ge=0)]

BYTES_PER_HIT = {"patches": 9216.0, "image": 29.0}
"""What a client sends for a hit. A patch is 48 x 48 FP32; for images what was measured on a ProtoDUNE-HD anode plane
assembly (docs/benchmarks.md)."""
SCORE_BYTES = 16.0
"""What comes back for a hit: four FP32."""


class Workload(Section):
    """The events, and what a job does with one beside asking the endpoint."""

    events: PositiveInt = Field(100_000, description="Events of the campaign.")
    hits_per_event: PositiveFloat = Field(
        50_000, description="Hits of an event in the planes that are scored."
    )
    prepare_s: NotNegative = Field(
        1.0, description="CPU seconds of a job for an event to prepare requests, start-up included."
    )
    other_s: NotNegative = Field(
        0.0,
        description="CPU seconds of a job for an event beside that, such as the rest of the reconstruction.",
    )
    spread: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.2, description="Standard deviation of both over their mean; for the simulation."
    )
    cpu_hits_per_s: PositiveFloat = Field(
        6_000, description="Hits that one core scores in a second where no endpoint does."
    )


class Clients(Section):
    """The jobs that ask the endpoint at the same time, one core each."""

    number: PositiveInt | None = Field(
        None, description="Jobs at the same time, of all sites together; null plans for as many as the knee."
    )
    requests: Literal["adaptive", "blocking"] = Field(
        "adaptive",
        description="adaptive keeps several requests under way, blocking waits for each answer as NuSONIC does.",
    )
    payload: Payload = Field("image", description="What is sent: image or patches.")
    hits_per_request: PositiveInt = Field(4096, description="Hits of a request.")
    bytes_per_hit: PositiveFloat | None = Field(
        None, description="Bytes sent for a hit; by default 29 for images and 9216 for patches."
    )

    @property
    def sent_per_hit(self) -> float:
        """Bytes sent for a hit."""
        return BYTES_PER_HIT[self.payload] if self.bytes_per_hit is None else self.bytes_per_hit


class Server(Section):
    """The endpoint: GPUs behind one address."""

    gpus: PositiveInt = Field(1, description="GPUs.")
    hits_per_s: PositiveFloat = Field(
        400_000, description="Hits that a GPU scores in a second when its batches are large."
    )
    request_overhead_ms: NotNegative = Field(
        0.0, description="Time of a GPU for a call of the model, beside that for the hits in it."
    )
    dynamic_batching: bool = Field(True, description="Requests that wait are computed together.")
    max_batch_hits: PositiveInt = Field(65_536, description="Most hits of such a batch.")
    max_queue: PositiveInt | None = Field(
        None, description="Requests that may wait before others are refused; null sets no limit."
    )
    ingress_gbps: PositiveFloat | None = Field(
        None, description="What all servers together can receive; null is not a limit."
    )


class Network(Section):
    """The way from the jobs to the endpoint."""

    sites: PositiveInt = Field(1, description="Sites that the jobs run at, in equal shares.")
    site_gbps: PositiveFloat | None = Field(100.0, description="What a site can send; null is not a limit.")
    client_gbps: PositiveFloat | None = Field(None, description="What a job can send; null is not a limit.")
    round_trip_ms: NotNegative = Field(12.0, description="Round trip between job and endpoint.")


class Cost(Section):
    """Prices; the currency is yours."""

    gpu_hour: NotNegative | None = Field(None, description="Price of a GPU for an hour.")
    core_hour: NotNegative | None = Field(None, description="Price of a CPU core for an hour.")


class Scenario(Section):
    """Everything that the planner needs to know; each key has a default."""

    workload: Workload = Field(Workload(), description="The events, and what a job does with one.")
    clients: Clients = Field(Clients(), description="The jobs.")
    server: Server = Field(Server(), description="The endpoint.")
    network: Network = Field(Network(), description="The way between them.")
    cost: Cost = Field(Cost(), description="Prices.")

    def with_changes(self, changes: Mapping[str, Any]) -> Scenario:
        """Give a scenario with other values, of keys as ``server.gpus``.

        Raises
        ------
        ConfigError
            There is no such key, or a value is not possible.
        """
        content = self.model_dump()
        for key, value in changes.items():
            section, _, name = key.partition(".")
            content.setdefault(section, {})[name] = value
        return check_section(content, Scenario, "the scenario")

    # What one event needs, in the order of the way that its hits take.

    @property
    def requests_per_event(self) -> float:
        """Requests of an event; a part of one counts as such."""
        return max(self.workload.hits_per_event / self.clients.hits_per_request, 1.0)

    @property
    def bits_per_event(self) -> float:
        """Bits that are sent for an event."""
        return 8 * self.clients.sent_per_hit * self.workload.hits_per_event

    @property
    def cpu_only_s(self) -> float:
        """Core seconds of an event without an endpoint."""
        work = self.workload
        return work.prepare_s + work.other_s + work.hits_per_event / work.cpu_hits_per_s


def load_scenario(path: Path) -> Scenario:
    """Read and check a YAML file.

    Raises
    ------
    ConfigError
        As those of :func:`protosonic.config.load_settings`.
    """
    return load_section(path, Scenario, "the scenario", example="server: {gpus: 4}")


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read words as ``server.gpus=4``; the values are YAML.

    Raises
    ------
    ConfigError
        A word has no such form.
    """
    values: dict[str, Any] = {}
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or "." not in key:
            raise ConfigError("not a setting", where="--set", expected="section.key=value", found=word)
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError("not a value", where=f"--set {key}", expected="YAML", found=value) from error
    return values


def scenario_yaml() -> str:
    """Render the default scenario with every key explained."""
    return commented_yaml(Scenario())
