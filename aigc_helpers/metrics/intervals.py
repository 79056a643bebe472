"""How sure a figure is, and whether two models really differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy
from scipy.stats import binomtest, bootstrap

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics.refusals import check_pairs, class_numbers


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its interval, all in the unit of the scores."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format as ``0.827 [0.803, 0.850]``."""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_interval(
    scores: Sequence[float] | numpy.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the mean of per-example scores and its percentile bootstrap interval (Efron 1979).

    Args:
        scores: one number per example, such as 1 for right and 0 for wrong; at least two.
        confidence: the share of repeated samples whose mean lies inside.
        resamples: how often the examples are drawn anew, with replacement.
        seed: of the drawing; the same seed gives the same interval.

    Raises:
        ReaderError: fewer than two scores, or a score is not a number.

    Example:
        >>> interval = bootstrap_interval([1, 1, 1, 0, 1, 0, 1, 1])
        >>> interval.mean, interval.low < 0.75 < interval.high
        (0.75, True)
    """
    values = numpy.asarray(scores, dtype=float)
    if values.size < 2:
        raise ReaderError(f"an interval needs at least two scores, and {values.size} were given.")
    if not numpy.isfinite(values).all():
        raise ReaderError(f"score number {int(numpy.argmin(numpy.isfinite(values)))} is {values.min()}, not a number.")
    mean = float(values.mean())
    if values.min() == values.max():  # Every resample is the same: scipy would warn and return NaN.
        return Interval(mean, mean, mean)
    result = bootstrap(
        (values,), numpy.mean, confidence_level=confidence, n_resamples=resamples, method="percentile", rng=seed
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return ``successes / trials`` with its 95 % interval after Wilson (1927).

    Unlike a bootstrap's, it has a width even where all are successes, or none.

    Raises:
        ReaderError: ``trials`` is 0, or ``successes`` is not from 0 to ``trials``.

    Example:
        >>> print(wilson_interval(8, 10))
        0.800 [0.490, 0.943]
    """
    if not trials:
        raise ReaderError("a share needs at least one example, and none was given.")
    if not 0 <= successes <= trials:
        raise ReaderError(f"{successes} successes of {trials} trials are not possible.")
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return Interval(successes / trials, float(interval.low), float(interval.high))


def proportion_interval(hits: Sequence[bool] | numpy.ndarray) -> dict[str, float]:
    """Return the share of hits as ``mean``, ``low`` and ``high`` of its 95 % interval, as JSON can hold it.

    Raises:
        ReaderError: there are no examples.

    Example:
        >>> proportion_interval([True, False])["mean"]
        0.5
    """
    return asdict(wilson_interval(int(numpy.sum(hits)), len(hits)))


def accuracy_interval(predictions: Sequence[int], references: Sequence[int]) -> Interval:
    """Return the accuracy with its 95 % bootstrap interval.

    Raises:
        ReaderError: fewer than two pairs, unequal counts, or a value that is NaN or no whole number.

    Example:
        >>> accuracy_interval([1, 0, 1, 1], references=[1, 0, 0, 1]).mean
        0.75
    """
    return bootstrap_interval(_right(predictions, references).astype(float))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same examples.

    Attributes:
        difference: accuracy of the tuned model minus that of the base, with its interval.
        only_base_right: examples that only the base gets right.
        only_tuned_right: examples that only the tuned model gets right.
        p_value: that of ``mcnemar``: how often chance alone would part the two counts at least so far.
    """

    difference: Interval
    only_base_right: int
    only_tuned_right: int
    p_value: float


def mcnemar(only_one_right: int, only_other_right: int) -> float:
    """Return the p-value of McNemar's test (1947), two-sided, in its exact binomial form.

    Of two models on the same examples, only those speak about a difference on which one is right and the other wrong;
    if the models were equally good, each of those would be a coin toss.

    Args:
        only_one_right: examples that the one model gets right and the other wrong.
        only_other_right: the other way round.

    Raises:
        ReaderError: a count is below 0.

    Example:
        >>> mcnemar(only_one_right=1, only_other_right=7)  # At most 1 head, or at most 1 tail, in 8 tosses: 18 of 256.
        0.0703125
    """
    if min(only_one_right, only_other_right) < 0:
        raise ReaderError(f"{min(only_one_right, only_other_right)} examples are not possible: a count is 0 or more.")
    differing = only_one_right + only_other_right
    return float(binomtest(only_other_right, differing, 0.5).pvalue) if differing else 1.0


def compare_paired(base: Sequence[int], tuned: Sequence[int], references: Sequence[int]) -> Comparison:
    """Compare two models' predictions on the same examples: the difference of their accuracies, and ``mcnemar``.

    Raises:
        ReaderError: fewer than two pairs, unequal counts, or a value that is NaN or no whole number.

    Example:
        >>> comparison = compare_paired(base=[1, 0, 0, 0], tuned=[1, 1, 1, 0], references=[1, 1, 1, 1])
        >>> comparison.difference.mean, comparison.only_tuned_right, comparison.p_value
        (0.5, 2, 0.5)
    """
    base_right, tuned_right = _right(base, references), _right(tuned, references)
    only_base, only_tuned = int((base_right & ~tuned_right).sum()), int((tuned_right & ~base_right).sum())
    difference = bootstrap_interval(tuned_right.astype(float) - base_right.astype(float))
    return Comparison(difference, only_base, only_tuned, mcnemar(only_base, only_tuned))


def _right(predictions: Sequence[int], references: Sequence[int]) -> numpy.ndarray:
    check_pairs(predictions, references)
    # A NaN would equal nothing, and pass for a wrong answer.
    return class_numbers(predictions, "predictions") == class_numbers(references, "references")
