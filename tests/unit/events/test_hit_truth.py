"""From the class of every sample to the class of every hit, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protosonic.events.hit_truth import hit_truth_from_samples, samples_of_hits
from protosonic.events.truth import HitTruth

from .builders import W_CHANNEL, make_hits, make_waveforms

TRACK, EM, NONE, MICHEL, UNKNOWN = 0, 1, 2, 3, -1


def hits_at(*peaks: float, rms: float = 1.0, wire: int = 0):
    hits = make_hits([(1, 2, wire, peak) for peak in peaks])
    return replace(hits, rms=np.full(len(peaks), rms, np.float32))


@pytest.mark.parametrize(
    ("labels", "label", "fraction"),
    [
        ([TRACK, TRACK, TRACK, TRACK, TRACK], TRACK, 1.0),
        ([EM, TRACK, EM, EM, EM], EM, 0.9),  # 1 of the 10 within ± 1 tick is a track's
        ([EM, MICHEL, TRACK, MICHEL, EM], TRACK, 0.6),
        ([TRACK, TRACK, UNKNOWN, TRACK, TRACK], UNKNOWN, np.nan),
        ([UNKNOWN, UNKNOWN, NONE, UNKNOWN, UNKNOWN], NONE, 0.6),
    ],
)
def test_a_hit_has_the_class_of_most_of_its_charge(labels, label, fraction):
    waveforms = make_waveforms({W_CHANNEL: {10: [50, 1, 6, 3, 50]}})
    truth = hit_truth_from_samples(hits_at(12.0), waveforms, np.array(labels, np.int8))
    assert truth.label.tolist() == [label]
    np.testing.assert_allclose(truth.charge_fraction, [fraction], rtol=1e-6)
    assert truth.particle.tolist() == [-1]


def test_of_equal_shares_the_first_class_wins():
    waveforms = make_waveforms({W_CHANNEL: {10: [2, 2]}})
    truth = hit_truth_from_samples(hits_at(10.5), waveforms, np.array([EM, TRACK], np.int8))
    assert (truth.label.tolist(), truth.charge_fraction.tolist()) == ([TRACK], [0.5])


def test_charge_below_zero_counts_for_nobody():
    waveforms = make_waveforms({W_CHANNEL: {10: [-9, 2, -9]}})
    truth = hit_truth_from_samples(hits_at(11.0), waveforms, np.array([TRACK, EM, TRACK], np.int8))
    assert (truth.label.tolist(), truth.charge_fraction.tolist()) == ([EM], [1.0])


def test_a_narrow_hit_has_the_sample_nearest_to_its_peak():
    waveforms = make_waveforms({W_CHANNEL: {10: [1, 1, 1]}})
    truth = hit_truth_from_samples(hits_at(10.6, rms=0.01), waveforms, np.array([0, 1, 2], np.int8))
    assert truth.label.tolist() == [EM]


@pytest.mark.parametrize("hits", [hits_at(50.0), hits_at(11.0, wire=1), hits_at(11.0, wire=5)])
def test_a_hit_on_no_charge_is_of_unknown_class(hits):
    waveforms = make_waveforms({W_CHANNEL: {10: [1, 1, 1]}, W_CHANNEL + 1: {}})
    truth = hit_truth_from_samples(hits, waveforms, np.zeros(3, np.int8))
    assert truth.label.tolist() == [UNKNOWN]
    assert np.isnan(truth.charge_fraction).all()


def test_no_hits_and_no_waveforms_have_no_truth():
    assert len(hit_truth_from_samples(hits_at(), make_waveforms({}), np.empty(0, np.int8)).label) == 0
    assert hit_truth_from_samples(hits_at(1.0), make_waveforms({}), np.empty(0, np.int8)).label.tolist() == [
        -1
    ]


def test_hits_beyond_every_time_have_no_samples():
    waveforms = make_waveforms({W_CHANNEL: {10: [1, 1, 1]}})
    hits = hits_at(-1e30, 1e30, -5.0, rms=3e30)
    assert hit_truth_from_samples(hits, waveforms, np.zeros(3, np.int8)).label.tolist() == [TRACK] * 3
    narrow = replace(hits, rms=np.ones(3, np.float32))
    assert hit_truth_from_samples(narrow, waveforms, np.zeros(3, np.int8)).label.tolist() == [UNKNOWN] * 3


@given(st.data())
def test_each_hit_gets_the_shares_that_a_loop_over_its_samples_gives(data):
    charges = data.draw(st.lists(st.integers(-3, 9), min_size=12, max_size=12))
    labels = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=12, max_size=12)), np.int8)
    waveforms = make_waveforms(
        {W_CHANNEL: {3: charges[:4], 9: charges[4:7]}, W_CHANNEL + 2: {0: charges[7:]}}, 20
    )
    places = data.draw(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 20)), max_size=5))
    rms = data.draw(st.floats(0, 5, width=32))
    hits = make_hits([(1, 2, wire, time) for wire, time in places])
    hits = replace(hits, rms=np.full(len(places), rms, np.float32))
    truth = hit_truth_from_samples(hits, waveforms, labels)
    first, end = samples_of_hits(hits, waveforms)
    channel = waveforms.channel[waveforms.sample_waveform]
    for row in range(len(places)):
        time, width = float(hits.peak_time[row]), float(hits.rms[row])
        distance = np.abs(waveforms.sample_tick - time)
        near = (distance <= width) | (waveforms.sample_tick == np.rint(time))
        members = np.flatnonzero((channel == hits.channel[row]) & near)
        assert list(range(first[row], end[row])) == members.tolist()
        shares = {k: sum(max(charges[i], 0) for i in members if labels[i] == k) for k in (0, 1, 2, 3, -1)}
        best = max(shares, key=shares.__getitem__)
        assert truth.label[row] == (best if shares[best] > 0 else HitTruth.UNKNOWN)
        if truth.label[row] != HitTruth.UNKNOWN:
            assert truth.charge_fraction[row] == pytest.approx(shares[best] / sum(shares.values()))
