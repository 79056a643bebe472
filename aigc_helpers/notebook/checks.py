"""Checks that a chapter makes in its cells: each prints one ``✓`` line with what it found, or stops the chapter.

A measured value differs in its last digits from one machine to the next. The line shows it beside the range that it
has to lie in, and the comparison of stored outputs (``tests/chapters/sanitise.cfg``) leaves just its digits out.
"""

from __future__ import annotations

import json
import math
import os
from operator import index
from pathlib import Path
from typing import Any

from aigc_helpers.profile import current_profile

PASSED = "✓"
NOT_BINDING = "○"
FAILED = "✗"

# The name of a file: every check is appended to it. The runner counts them, and `aigc ranges` takes the values.
RECORD_VARIABLE = "AIGC_CHECKS"
# Set while ranges are measured, with other seeds: a check that fails is recorded, and does not stop the chapter.
MEASURE_VARIABLE = "AIGC_MEASURE"

_SHOWN_DIGITS = 4
_MOST_DECIMALS = 4


def expect(value: float, low: float, high: float, label: str) -> None:
    """Check that a measured number lies in ``[low, high]``, and print it beside that range.

    The ranges are measured on the embedded profile (``data/results/ranges``). The full profile loads other models, so
    there the value is shown alone.

    Args:
        value: a number, or anything that ``float`` takes (a numpy or torch scalar).
        low: the smallest value that passes.
        high: the largest value that passes.
        label: what was measured, for the printed line.

    Raises:
        AssertionError: embedded profile only: the value lies outside, or is not a number (NaN).

    Example:
        >>> expect(0.6312, 0.58, 0.7, "test accuracy")
        ✓ test accuracy: 0.63 (expected 0.58–0.70)
    """
    number = float(value.detach() if hasattr(value, "detach") else value)  # torch warns of a gradient that gets lost
    decimals = 0 if all(map(_is_whole, (value, low, high))) else _decimals(number, low, high)
    shown = _shown(number, decimals)
    binding = current_profile().name == "embedded"
    rounding = 1e-9 * max(abs(low), abs(high))  # a perfect BLEU comes out as 100.00000000000004
    passed = low - rounding <= number <= high + rounding  # false for NaN
    record(label, passed or not binding, value=number, low=low, high=high)
    if not binding:
        print(f"{NOT_BINDING} {label}: {shown}")
    elif passed:
        print(f"{PASSED} {label}: {shown} (expected {_bound(low, decimals)}–{_bound(high, decimals)})")
    else:
        fail(f"{label}: {number:.6g} is outside {_bound(low, decimals)}–{_bound(high, decimals)}")


def expect_equal(left: object, right: object, label: str) -> None:
    """Check that two exact things (counts, names, shapes) are equal, and print the value.

    Raises:
        AssertionError: they differ; both are shown.

    Example:
        >>> expect_equal(len("春眠不觉晓"), 5, "characters in a line")
        ✓ characters in a line: 5
    """
    equal = bool(left == right)
    record(label, equal)
    if equal:
        print(f"{PASSED} {label}: {left}")
    else:
        fail(f"{label}: {left!r} is not {right!r}")


def expect_close(left: Any, right: Any, tolerance: float, label: str) -> None:  # noqa: ANN401 (any kind of array)
    """Check that two arrays agree: the largest absolute difference of their elements is at most ``tolerance``.

    Args:
        left: a number, a list, a numpy array or a torch tensor (on any device, with or without gradient).
        right: the same, of the same shape.
        tolerance: the largest difference that passes.
        label: what was compared, for the printed line.

    Raises:
        AssertionError: the shapes differ, an element differs by more, or one is not a number (NaN).

    Example:
        >>> import torch
        >>> expect_close(torch.tensor([0.1, 0.2]), [0.1, 0.2], 1e-6, "both ways to compute it")
        ✓ both ways to compute it: equal to within 1e-06
    """
    first, second = _as_array(left), _as_array(right)
    if first.shape != second.shape:
        problem = f"shapes differ, {first.shape} and {second.shape}"
    else:
        unequal = ~(first == second)  # two equal infinities agree, but their difference is NaN
        differences = abs(first[unequal] - second[unequal])
        largest = float(differences.max()) if differences.size else 0.0
        close = largest <= tolerance  # false for NaN
        problem = "" if close else f"the largest difference {largest:.3g} exceeds {tolerance:g}"
    record(label, not problem)
    if problem:
        fail(f"{label}: {problem}")
    else:
        print(f"{PASSED} {label}: equal to within {tolerance:g}")


def _decimals(value: float, low: float, high: float) -> int | None:
    """Return how many decimals tell where in the range a value lies; None where a power of ten says more.

    A tenth of the range, or of its smaller bound, is the smallest step that is shown.
    """
    steps = [abs(number) / 10 for number in (high - low, low, high) if number]
    decimals = max(0, math.ceil(-math.log10(min(steps)) - 1e-9)) if steps else 1
    if decimals > _MOST_DECIMALS:
        return None
    number = abs(value)
    before_point = math.floor(math.log10(number)) + 1 if math.isfinite(number) and number >= 1 else 0
    return min(decimals, max(0, _SHOWN_DIGITS - before_point))


def _is_whole(value: Any) -> bool:  # noqa: ANN401 (any number, of numpy or torch, too)
    try:
        index(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _shown(number: float, decimals: int | None) -> str:
    return f"{number:.1e}" if decimals is None else f"{number:.{decimals}f}"


def _bound(bound: float, decimals: int | None) -> str:
    """Return a bound as wide as the value beside it, but never rounded."""
    shown = _shown(bound, decimals)
    return shown if decimals is not None and float(shown) == bound else f"{bound:g}"


def fail(problem: str) -> None:
    """Stop the chapter with what is wrong; only print it while ranges are measured.

    Raises:
        AssertionError: outside of that.
    """
    if os.environ.get(MEASURE_VARIABLE):
        print(f"{FAILED} {problem}")
    else:
        raise AssertionError(f"{FAILED} {problem}")


def record(label: str, passed: bool, **numbers: float) -> None:
    """Tell whoever runs the chapter of a check: its label, whether it passed, and the numbers in it."""
    target = os.environ.get(RECORD_VARIABLE)
    if target:
        numbers = {name: float(number) for name, number in numbers.items()}
        line = json.dumps({"label": label, "passed": passed, **numbers}, ensure_ascii=False)
        with Path(target).open("a", encoding="utf-8") as records:
            records.write(line + "\n")


def _as_array(values: Any) -> Any:  # noqa: ANN401
    import numpy

    if hasattr(values, "detach"):  # a torch tensor: numpy knows neither gradients nor bfloat16
        values = values.detach().cpu().double().numpy()
    return numpy.asarray(values, dtype=numpy.float64)
