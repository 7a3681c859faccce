"""Very large campaigns run in slices."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.bundles import bundles_of
from protosonic.campaign.records import Plan, PlannedPartition
from protosonic.campaign.slices import slices_of
from protosonic.config import check_settings


@given(st.integers(0, 120), st.integers(1, 60), st.integers(1, 12))
def test_slices_hold_every_bundle_once_in_order_and_few_partitions_each(n_partitions, most, mean):
    names = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(n_partitions)]
    plan = Plan(
        catalog=(),
        partitions=tuple(PlannedPartition(id=name, path="a", hits=1, mem_mb=1) for name in names),
        refused=(),
        refused_files=(),
    )
    settings = check_settings(
        {
            "inputs": [{"path": "a"}],
            "partition": {"most_at_once": most},
            "merge": {"bundle_partitions": mean},
        }
    )
    slices, bundles = slices_of(plan, settings), bundles_of(names, mean)
    if n_partitions <= most:
        assert slices == []
        return
    assert [name for part in slices for name in part] == list(bundles)
    for part in slices:
        assert len(part) == 1 or sum(len(bundles[name]) for name in part) <= most
