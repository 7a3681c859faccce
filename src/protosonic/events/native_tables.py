"""The tables of the native format, which its reader and its writer share; docs/formats.md describes them."""

from __future__ import annotations

import numpy as np

from protosonic.events.model import HIT_FIELDS
from protosonic.events.truth import PARTICLE_FIELDS

__all__ = [
    "COLUMNS",
    "EVENTS",
    "EVENT_OFFSETS",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MAX_EVENTS",
    "TRUTH_COLUMNS",
]

FORMAT_NAME = "protosonic-native"
FORMAT_VERSION = 1
MAX_EVENTS = 10_000_000

# Column → type, by table. Offsets of a table have one element more than the table that they cut.
EVENTS: dict[str, type[np.generic]] = {
    "run": np.int64,
    "subrun": np.int64,
    "event": np.int64,
    "n_ticks": np.int32,
    "has_waveforms": np.uint8,
}
EVENT_OFFSETS = ("hit_offset", "waveform_offset", "bad_channel_offset")
COLUMNS: dict[str, dict[str, type[np.generic]]] = {
    "events": EVENTS | dict.fromkeys(EVENT_OFFSETS, np.int64),
    "hits": HIT_FIELDS | {"in_wire_space": np.uint8},
    "waveforms": {"channel": np.int32, "n_samples": np.int32, "roi_offset": np.int64},
    "rois": {"start": np.int32, "value_offset": np.int64},
    "values": {"charge": np.float32},
    "bad_channels": {"channel": np.int32},
}
TRUTH_COLUMNS: dict[str, dict[str, type[np.generic]]] = {
    "truth": {
        "hit_label": np.int8,
        "hit_particle": np.int32,
        "hit_charge_fraction": np.float32,
        "sample_label": np.int8,
        "particle_offset": np.int64,
    },
    "particles": PARTICLE_FIELDS,
}
"""Written together. Files by other programs may leave them out; where there is truth, ``hit_label`` has to be there."""
