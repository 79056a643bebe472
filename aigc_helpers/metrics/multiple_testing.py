"""Many comparisons at once: of twenty that differ in nothing, one is "significant" by luck."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from scipy.stats import false_discovery_control

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.metrics.refusals import finite_numbers

METHODS = ("holm", "benjamini-hochberg")


def adjust_p_values(p_values: Sequence[float], method: str = "holm") -> list[float]:
    """Return p-values that may be compared with 0.05 although there are many, in their order.

    Args:
        p_values: of all comparisons made, also of those that came to nothing.
        method: ``"holm"`` (1979): at most 5 % chance of any false find; ``"benjamini-hochberg"`` (1995): at most 5 % of
            the finds are false, on average, for independent comparisons.

    Raises:
        ReaderError: there are none, one is NaN, or outside 0 to 1.
        UnknownNameError: another method.

    Example:
        >>> [round(p, 3) for p in adjust_p_values([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    if method not in METHODS:
        raise UnknownNameError("correction", method, METHODS)
    values = finite_numbers(p_values, "p-values")
    if values.min() < 0 or values.max() > 1:
        raise ReaderError(f"p-values go from {values.min():g} to {values.max():g}; they must lie from 0 to 1.")
    if method == "benjamini-hochberg":
        return false_discovery_control(values, method="bh").tolist()
    order = values.argsort(kind="stable")
    factors = numpy.arange(len(values), 0, -1)  # The smallest is up against all, the next against all but one …
    adjusted = numpy.empty_like(values)
    adjusted[order] = numpy.maximum.accumulate(factors * values[order]).clip(max=1)
    return adjusted.tolist()
