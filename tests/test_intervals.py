"""Every figure of the book comes with an interval: it must cover what it claims, and repeat with its seed."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics import accuracy_interval, bootstrap_interval, compare_paired, mcnemar, wilson_interval


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = numpy.random.default_rng(0)
    covered = 0
    for seed in range(200):
        interval = bootstrap_interval(generator.random(200) < 0.8, resamples=400, seed=seed)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = numpy.random.default_rng(1).random(50)
    assert bootstrap_interval(scores, seed=3) == bootstrap_interval(scores, seed=3)
    assert bootstrap_interval(scores, seed=3) != bootstrap_interval(scores, seed=4)


def test_equal_scores_have_an_interval_of_no_width() -> None:
    interval = accuracy_interval([1, 0, 1], [1, 0, 1])
    assert (interval.low, interval.mean, interval.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, math.nan], [math.inf, 0.0]])
def test_scores_that_give_no_interval_are_refused(scores: list[float]) -> None:
    with pytest.raises(ReaderError):
        bootstrap_interval(scores)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=500), st.floats(min_value=0, max_value=1))
def test_a_share_solves_the_equation_of_wilson(count: int, fraction: float) -> None:
    hits = round(fraction * count)
    interval = wilson_interval(hits, count)
    assert interval.mean == hits / count
    for end in (interval.low, interval.high):
        # The ends are the shares from which the one seen lies 1.96 standard errors away.
        assert (interval.mean - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / count, rel=1e-5, abs=1e-9)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ReaderError, match="at least one example"):
        wilson_interval(0, 0)


def test_mcnemar_agrees_with_the_binomial_by_hand() -> None:
    references = [1] * 10
    base = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    tuned = [0, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    comparison = compare_paired(base, tuned, references)
    assert (comparison.only_base_right, comparison.only_tuned_right) == (1, 7)
    # Two-sided: P(X <= 1) + P(X >= 7) of eight coin tosses.
    assert comparison.p_value == pytest.approx(2 * (1 + 8) / 2**8)
    assert comparison.difference.mean == pytest.approx(0.6)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test_of_a_fair_coin(one: int, other: int) -> None:
    tosses = one + other
    tail = sum(math.comb(tosses, heads) for heads in range(min(one, other) + 1)) / 2**tosses
    assert mcnemar(one, other) == pytest.approx(min(1.0, 2 * tail))
    if tosses:
        assert mcnemar(one, other) == pytest.approx(binomtest(one, tosses, 0.5, alternative="two-sided").pvalue)


def test_a_count_below_0_is_refused() -> None:
    with pytest.raises(ReaderError, match="-1 examples are not possible"):
        mcnemar(-1, 3)


@settings(deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=2, max_size=40))
def test_swapping_the_models_mirrors_the_comparison(rows: list[tuple[int, int, int]]) -> None:
    base, tuned, references = zip(*rows, strict=True)
    one, other = compare_paired(base, tuned, references), compare_paired(tuned, base, references)
    assert one.p_value == pytest.approx(other.p_value)
    assert one.difference.mean == pytest.approx(-other.difference.mean)


def test_equal_models_do_not_differ() -> None:
    assert compare_paired([1, 0], [1, 0], [1, 1]).p_value == 1.0
