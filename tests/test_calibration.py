"""A calibrated model has no calibration error but chance's, and the temperature undoes what a factor did."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import softmax

from aigc_helpers.metrics import calibration_error, fit_temperature, reliability_bins


def calibrated(count: int, seed: int = 0) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return logits, and labels drawn with the probabilities that these state."""
    generator = numpy.random.default_rng(seed)
    logits = generator.normal(0, 2, (count, 2))
    return logits, (generator.random(count) < softmax(logits, axis=1)[:, 1]).astype(int)


def test_bins_hold_every_answer_once_and_say_what_is_in_them() -> None:
    bins = reliability_bins([[0.95, 0.05], [0.05, 0.95], [0.65, 0.35], [1.0, 0.0]], [0, 0, 0, 0])
    assert [one.count for one in bins] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 3]
    assert bins[9].accuracy == pytest.approx(2 / 3)
    assert bins[9].confidence == pytest.approx((0.95 + 0.95 + 1) / 3)
    assert numpy.isnan(bins[0].accuracy)


def test_the_error_is_the_weighed_gap_by_hand() -> None:
    rows, labels = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]], [0, 1, 1, 1]
    # 0.9 sure and right in half; 0.6 sure and always right.
    assert calibration_error(rows, labels) == pytest.approx((0.4 + 0.4) / 2)


@settings(deadline=None)
@given(st.floats(0.3, 4))
def test_the_temperature_finds_the_factor(factor: float) -> None:
    logits, labels = calibrated(4000)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-2)


def test_what_was_calibrated_stays_so_and_what_was_not_becomes_so() -> None:
    logits, labels = calibrated(4000)
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.1)
    too_sure = logits * 3
    before = calibration_error(softmax(too_sure, axis=1), labels)
    after = calibration_error(softmax(too_sure / fit_temperature(too_sure, labels), axis=1), labels)
    assert after < 0.03 < before
