"""How to reach one inference endpoint."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from protosonic.inference.contract import PATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["IMAGE_SUFFIX", "EndpointOptions"]

IMAGE_SUFFIX = "_image"
"""What the image form of a model is called: the name of the model and this."""


@dataclass(frozen=True)
class EndpointOptions:
    """How to reach a model at an endpoint that speaks the KServe v2 gRPC protocol, and how hard it may be used.

    Attributes
    ----------
    url
        ``grpc://HOST:PORT``, or ``grpcs://`` for TLS.
    model, version
        Name and version in the server's repository; an empty version leaves the choice to the server.
    weight
        Share of the requests, relative to those of other endpoints.
    ca_file
        PEM file of the authorities that the server's certificate is checked with; those of gRPC by default.
    cert_file, key_file
        PEM files of the client's own certificate and key, where the server asks for them.
    token_file, token_env
        File or environment variable that holds a bearer token.
    headers
        More gRPC metadata for every call; nothing secret, because they are recorded.
    compression
        What gRPC does to requests; sparse patches shrink to about a tenth, at the cost of CPU time.
    connect_timeout_s
        Deadline of every health and metadata call, in seconds.
    request_timeout_s
        Deadline of every inference request, in seconds.
    request_bytes
        Most bytes of tensors in one request; a patch has 9,216. The server's ``max_batch_size`` may lower it.
    payload
        What is sent: ``patches``; ``image``, plane images and places of hits, some hundred times smaller, to the model
        that is served as ``<model>_image``; or ``auto``, the image where that is served.
    request_hits
        Most hits in one request of images: the more, the fewer bytes a hit, and the longer a request takes.
    max_in_flight
        Most requests that may wait for an answer at the same time.
    latency_target_s
        The number of requests in flight is lowered while answers take longer, in seconds.
    """

    url: str
    model: str = "emtrkmichel"
    version: str = ""
    weight: float = 1.0
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    token_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: Literal["none", "gzip", "deflate"] = "none"
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 120.0
    request_bytes: int = 512 * PATCH_BYTES
    payload: Literal["auto", "patches", "image"] = "patches"
    request_hits: int = 4096
    max_in_flight: int = 8
    latency_target_s: float = 2.0

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return self.url.partition("://")[2]

    @property
    def uses_tls(self) -> bool:
        """Whether the channel is encrypted."""
        return self.url.startswith("grpcs://")

    @property
    def request_patches(self) -> int:
        """Most patches in one request."""
        return max(self.request_bytes // PATCH_BYTES, 1)

    def alternatives(self) -> tuple[EndpointOptions, ...]:
        """Give what to try in turn: the image form of the model, the model itself, or both."""
        image = replace(self, model=f"{self.model}{IMAGE_SUFFIX}")
        return {"patches": (self,), "image": (image,), "auto": (image, self)}[self.payload]

    def __str__(self) -> str:
        version = f" version {self.version}" if self.version else ""
        return f"{self.url} model {self.model}{version}"
