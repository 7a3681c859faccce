"""Publishing a finished dataset: copies with checksums, and what catalogs and archives want to know of it."""

from __future__ import annotations
