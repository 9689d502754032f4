"""Decayed counts, by hand."""

import numpy as np
import pytest

from models.memory.decayed_counts import DecayedCounts

HOUR = 3_600_000
START = 1_700_000_000_000


def test_counts_halve_each_half_life():
    counts = DecayedCounts([1.0, np.inf], 3)
    counts.add(np.array([1, 1]), np.ones(2), np.array([START, START + HOUR]))
    assert counts.at(START + HOUR)[1].tolist() == pytest.approx([1.5, 2.0])
    assert counts.at(START + 3 * HOUR)[1].tolist() == pytest.approx([0.375, 2.0])
    assert counts.at(START)[2].tolist() == [0.0, 0.0]


def test_ten_years_later_nothing_overflows():
    counts = DecayedCounts([0.25, 1.0, np.inf], 2)
    for year in range(10):
        counts.add(np.array([1]), np.ones(1), np.array([START + year * 8_766 * HOUR]))
    now = counts.at(START + 9 * 8_766 * HOUR)[1]
    assert now.tolist() == pytest.approx([1.0, 1.0, 10.0])


def test_a_late_event_weighs_what_is_left_of_it():
    counts = DecayedCounts([1.0], 2)
    counts.add(np.array([1]), np.ones(1), np.array([START]))
    counts.add(np.array([1]), np.ones(1), np.array([START - HOUR]))
    assert counts.at(START)[1, 0] == pytest.approx(1.5)
