"""A win rate without an interval, or the best of twenty tries without a correction, makes a winner of luck."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.metrics import adjust_p_values, wilson_interval, win_rate
from aigc_helpers.metrics.multiple_testing import METHODS

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=20)
methods = st.sampled_from(METHODS)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_ties_do_not_move_the_rate(wins: int, losses: int, ties: int) -> None:
    if not wins + losses:
        return
    result = win_rate(["win"] * wins + ["loss"] * losses + ["tie"] * ties)
    assert result.rate == wilson_interval(wins, wins + losses)
    assert (result.wins, result.losses, result.ties) == (wins, losses, ties)
    assert result.rate.low <= result.rate.mean <= result.rate.high
    mirrored = win_rate(["loss"] * wins + ["win"] * losses)
    assert mirrored.p_value == pytest.approx(result.p_value)


def test_nine_of_ten_and_six_of_ten() -> None:
    # Two-sided sign test: 2 (1 + 10) / 2¹⁰, and for 6 of 10 nothing to speak of.
    assert win_rate(["win"] * 9 + ["loss"]).p_value == pytest.approx(22 / 1024)
    assert win_rate(["win"] * 6 + ["loss"] * 4).p_value > 0.7


@settings(deadline=None)
@given(p_lists, methods)
def test_a_correction_lowers_no_p_value_and_keeps_the_order(p_values: list[float], method: str) -> None:
    adjusted = adjust_p_values(p_values, method)
    assert all(after >= before - 1e-12 for before, after in zip(p_values, adjusted, strict=True))
    assert max(adjusted) <= 1
    order = numpy.argsort(p_values, kind="stable")
    assert (numpy.diff(numpy.array(adjusted)[order]) >= -1e-12).all()


@settings(deadline=None)
@given(p_lists)
def test_holm_is_at_least_as_strict_as_benjamini_hochberg(p_values: list[float]) -> None:
    strict, lenient = (adjust_p_values(p_values, method) for method in METHODS)
    assert all(one >= other - 1e-9 for one, other in zip(strict, lenient, strict=True))


def test_corrections_by_hand() -> None:
    assert adjust_p_values([0.01, 0.04, 0.03], "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p_values([0.01, 0.04, 0.03], "benjamini-hochberg") == pytest.approx([0.03, 0.04, 0.04])
    assert adjust_p_values([0.02]) == [0.02]


def test_of_twenty_comparisons_of_nothing_holm_lets_hardly_any_through() -> None:
    generator = numpy.random.default_rng(0)
    families = generator.random((500, 20))
    by_luck = (families < 0.05).any(axis=1).mean()
    corrected = numpy.mean([min(adjust_p_values(family)) < 0.05 for family in families])
    assert by_luck == pytest.approx(1 - 0.95**20, abs=0.06)
    assert corrected < 0.08
