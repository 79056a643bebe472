"""FID and KID are what their formulas say where the answer is known, and FID's bias and KID's lack of it are real."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.metrics import fid, frechet_distance, kid, kid_interval

generators = st.integers(0, 2**32).map(numpy.random.default_rng)


def normal(generator: numpy.random.Generator, count: int, width: int) -> numpy.ndarray:
    return generator.normal(size=(count, width))


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2, *[st.floats(0, 4)] * 2), min_size=1, max_size=6))
def test_gaussians_with_diagonal_covariances_have_a_closed_form(rows: list[tuple[float, ...]]) -> None:
    mean, other_mean, deviation, other_deviation = map(numpy.array, zip(*rows, strict=True))
    # Dowson & Landau (1982): coordinate by coordinate, (m - m')² + (s - s')².
    expected = ((mean - other_mean) ** 2 + (deviation - other_deviation) ** 2).sum()
    found = frechet_distance(mean, numpy.diag(deviation**2), other_mean, numpy.diag(other_deviation**2))
    assert found == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(generators, st.integers(2, 5))
def test_covariances_that_do_not_commute_agree_with_the_root_of_the_product(generator, width: int) -> None:
    from scipy.linalg import sqrtm

    roots = [normal(generator, width, width) for _ in range(2)]
    first, second = (root @ root.T + numpy.eye(width) for root in roots)
    expected = numpy.trace(first + second - 2 * sqrtm(first @ second).real)
    nowhere = numpy.zeros(width)
    assert frechet_distance(nowhere, first, nowhere, second) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(generators, st.integers(2, 12), st.integers(1, 6))
def test_a_set_is_at_no_distance_from_itself_and_order_does_not_matter(generator, count: int, width: int) -> None:
    pictures = normal(generator, count, width)
    assert fid(pictures, pictures[::-1]) == pytest.approx(0, abs=1e-6)
    other = normal(generator, count, width) + 1
    assert fid(pictures, other) == pytest.approx(fid(other, pictures), abs=1e-6)
    assert kid(pictures, other) == pytest.approx(kid(other, pictures), abs=1e-9)


@settings(deadline=None)
@given(generators, st.floats(-3, 3))
def test_a_shift_adds_its_square_to_fid(generator, shift: float) -> None:
    pictures = normal(generator, 20, 4)
    assert fid(pictures, pictures + shift) == pytest.approx(4 * shift**2, abs=1e-6)


def test_kid_is_the_double_sum_of_the_paper() -> None:
    first, second = (normal(numpy.random.default_rng(seed), count, 3) for seed, count in ((0, 5), (1, 7)))

    def kernel(left: numpy.ndarray, right: numpy.ndarray) -> float:
        return (left @ right / 3 + 1) ** 3

    def within(some: numpy.ndarray) -> float:
        pairs = [(a, b) for a in range(len(some)) for b in range(len(some)) if a != b]
        return sum(kernel(some[a], some[b]) for a, b in pairs) / len(pairs)

    across = sum(kernel(left, right) for left in first for right in second) / 35
    assert kid(first, second) == pytest.approx(within(first) + within(second) - 2 * across)


def test_with_few_pictures_fid_is_too_high_and_kid_is_not() -> None:
    generator = numpy.random.default_rng(0)
    values = {count: [] for count in (20, 200)}
    for count, found in values.items():
        for _ in range(30):
            first, second = (normal(generator, count, 16) for _ in range(2))
            found.append((fid(first, second), kid(first, second)))
    means, errors = ({n: numpy.array(v).mean(0) for n, v in values.items()}, numpy.std(values[20], axis=0) / 30**0.5)
    assert means[20][0] > 3 * means[200][0] > 0.3  # The true distance is 0.
    assert abs(means[20][1]) < 3 * errors[1]


def test_the_interval_of_kid_covers_the_truth() -> None:
    generator = numpy.random.default_rng(1)
    covered = 0
    for seed in range(40):
        first, second = normal(generator, 100, 4), normal(generator, 100, 4) + 0.5
        interval = kid_interval(first, second, size=40, subsets=60, seed=seed)
        assert interval.low <= interval.mean <= interval.high
        assert interval.mean == kid(first, second)
        covered += interval.low <= TRUE_KID <= interval.high
    assert covered >= 34
    assert kid_interval(first, second, seed=3, size=40) == kid_interval(first, second, seed=3, size=40)


def _true_kid() -> float:
    """Return the distance of the two Gaussians above, from sets too large for an interval to matter."""
    generator = numpy.random.default_rng(2)
    pairs = [(normal(generator, 2000, 4), normal(generator, 2000, 4) + 0.5) for _ in range(5)]
    return float(numpy.mean([kid(*pair) for pair in pairs]))


TRUE_KID = _true_kid()
