"""Precision falls for noise and recall for a collapsed set: one number for both would hide which it is."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.metrics import nearest, precision_and_recall

generators = st.integers(0, 2**32).map(numpy.random.default_rng)


@settings(deadline=None)
@given(generators, st.integers(4, 20))
def test_equal_sets_cover_each_other(generator, count: int) -> None:
    pictures = generator.normal(size=(count, 3))
    assert precision_and_recall(pictures, pictures[::-1]) == (1.0, 1.0)


@settings(deadline=None)
@given(generators)
def test_swapping_the_sets_swaps_the_figures(generator) -> None:
    first, second = generator.normal(size=(12, 2)), generator.normal(size=(15, 2))
    assert precision_and_recall(first, second) == precision_and_recall(second, first)[::-1]


def test_collapse_costs_recall_and_noise_costs_precision() -> None:
    generator = numpy.random.default_rng(0)
    real = generator.normal(size=(300, 2))
    collapsed = generator.normal(size=(300, 2)) * 0.1
    noisy = generator.normal(size=(300, 2)) * 8
    assert precision_and_recall(real, collapsed).precision > 0.95
    assert precision_and_recall(real, collapsed).recall < 0.1
    assert precision_and_recall(real, noisy).precision < 0.2


def test_balls_reach_to_the_neighbour_that_is_asked_for() -> None:
    real = numpy.array([[0.0], [1.0], [3.0]])
    # Radii to the first neighbour: 1, 1, 2. So 4.9 is within 2 of 3, and 5.1 is in no ball.
    assert precision_and_recall(real, numpy.array([[4.9], [5.1]]), neighbours=1).precision == 0.5


@settings(deadline=None)
@given(generators)
def test_a_copy_is_found_at_no_distance(generator) -> None:
    training = generator.integers(0, 256, (9, 4, 4, 3)).astype(numpy.uint8)
    numbers, distances = nearest(training[[7, 2]], training)
    assert distances == pytest.approx([0, 0], abs=1e-6)
    assert (training[numbers] == training[[7, 2]]).all()


def test_the_distance_is_the_root_of_the_mean_square() -> None:
    black = numpy.zeros((1, 2, 2, 3), numpy.uint8)
    numbers, distances = nearest(black, numpy.stack([numpy.full((2, 2, 3), 50), numpy.full((2, 2, 3), 30)]))
    assert numbers.tolist() == [1] and distances.tolist() == pytest.approx([30])
