"""Input files on other machines: XRootD, HTTP and S3, with retries and replicas."""

from __future__ import annotations
