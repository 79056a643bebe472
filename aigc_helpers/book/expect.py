"""Checks that a chapter makes in its cells: each prints one stable ``✓`` line, or stops the chapter.

The measured value is left out of the line wherever it may differ in its last digit from one machine to the next,
so that the line can be compared with the one stored in the notebook.
"""

from __future__ import annotations

import math
from typing import Any

from aigc_helpers.profile import current_profile

PASSED = "✓"
NOT_BINDING = "○"
FAILED = "✗"


def expect(value: float, low: float, high: float, label: str) -> None:
    """Check that a measured number lies in ``[low, high]``.

    The ranges are stated for the embedded profile. The full profile loads other models, so there the line only shows
    the value beside the range.

    Args:
        value: a number, or anything that ``float`` takes (a numpy or torch scalar).
        low: the smallest value that passes.
        high: the largest value that passes.
        label: what was measured, for the printed line.

    Raises:
        AssertionError: embedded profile only: the value lies outside, or is not a number (NaN).
    """
    number = float(value)
    if current_profile().name != "embedded":
        print(f"{NOT_BINDING} {label}: {number:.3f} (range stated for the embedded profile: {low}–{high})")
    elif low <= number <= high:  # false for NaN
        print(f"{PASSED} {label}: within {low}–{high}")
    else:
        raise AssertionError(f"{FAILED} {label}: {number:.6g} is outside {low}–{high}")


def expect_equal(left: object, right: object, label: str) -> None:
    """Check that two exact things (counts, names, shapes) are equal, and print the value.

    Raises:
        AssertionError: they differ; both are shown.
    """
    if not left == right:
        raise AssertionError(f"{FAILED} {label}: {left!r} is not {right!r}")
    print(f"{PASSED} {label}: {left}")


def expect_close(left: Any, right: Any, tolerance: float, label: str) -> None:  # noqa: ANN401 (any kind of array)
    """Check that two arrays agree: the largest absolute difference of their elements is at most ``tolerance``.

    Args:
        left: a number, a list, a numpy array or a torch tensor (on any device, with or without gradient).
        right: the same, of the same shape.
        tolerance: the largest difference that passes.
        label: what was compared, for the printed line.

    Raises:
        AssertionError: the shapes differ, an element differs by more, or one is not a number (NaN).
    """
    first, second = _as_array(left), _as_array(right)
    if first.shape != second.shape:
        raise AssertionError(f"{FAILED} {label}: shapes differ, {first.shape} and {second.shape}")
    unequal = ~(first == second)  # two equal infinities agree, but their difference is NaN
    differences = abs(first[unequal] - second[unequal])
    largest = float(differences.max()) if differences.size else 0.0
    if math.isnan(largest) or largest > tolerance:
        raise AssertionError(f"{FAILED} {label}: the largest difference {largest:.3g} exceeds {tolerance:g}")
    print(f"{PASSED} {label}: equal to within {tolerance:g}")


def _as_array(values: Any) -> Any:  # noqa: ANN401
    import numpy

    if hasattr(values, "detach"):  # a torch tensor: numpy knows neither gradients nor bfloat16
        values = values.detach().cpu().double().numpy()
    return numpy.asarray(values, dtype=numpy.float64)
