"""Bundles hold every partition once, in order, and stay as they are when files are added."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from protosonic.campaign.bundles import MOST, bundles_of


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


partitions = st.integers(0, 300).map(lambda n: [name(i) for i in range(n)])


@given(partitions, st.integers(1, 30))
def test_every_partition_is_in_one_bundle_in_order(names, mean):
    bundles = bundles_of(names, mean)
    if len(names) <= MOST * mean:
        assert bundles == {}
        return
    assert [partition for bundle in bundles.values() for partition in bundle] == names
    assert all(key == bundle[0] for key, bundle in bundles.items())
    assert max(map(len, bundles.values())) <= MOST * mean


@given(st.integers(0, 2000))
def test_adding_a_partition_changes_the_bundles_around_it_only(place):
    names = [name(number) for number in range(2000)]
    before = bundles_of(names, 10)
    after = bundles_of([*names[:place], name(-1), *names[place:]], 10)
    changed = [key for key, bundle in after.items() if before.get(key) != bundle]
    # A bundle that was cut for its size moves those behind it, up to the next that starts by its name.
    assert len(changed) <= 6


def test_bundles_are_of_about_the_size_that_is_asked_for():
    bundles = bundles_of([name(number) for number in range(10_000)], 100)
    assert 90 <= len(bundles) <= 160
