"""Whether a classifier that is 80 % sure is right in 80 % of such cases; and the one number that makes it so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics.refusals import check_pairs, class_numbers, finite_numbers

_LOWEST_TEMPERATURE, _HIGHEST_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence.

    Attributes:
        low: the least confidence in the bin.
        high: the upper end.
        count: how many answers.
        confidence: their mean confidence; NaN if there are none.
        accuracy: the share of them that is right; NaN if there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability_bins(probabilities: Sequence[Sequence[float]], labels: Sequence[int], bins: int = 10) -> list[Bin]:
    """Sort answers by their confidence, the probability of the likeliest class, into bins of equal width from 0 to 1.

    Args:
        probabilities: answers × classes; each row adds up to 1.
        labels: the right class of each. They may all be the same: confidence is compared with being right.
        bins: how many.

    Raises:
        ReaderError: no answers, unequal counts, a NaN, rows that are no probabilities, or a label that is no class.

    Example:
        >>> bins = reliability_bins([[0.9, 0.1], [0.2, 0.8], [0.45, 0.55]], labels=[0, 1, 0], bins=2)
        >>> [(one.count, round(one.accuracy, 2)) for one in bins if one.count]
        [(3, 0.67)]
    """
    if bins < 1:
        raise ReaderError(f"{bins} bins are not possible: 1 or more are.")
    shares, true = _checked(probabilities, labels, "probabilities")
    if (shares < 0).any() or (abs(shares.sum(axis=1) - 1) > 1e-3).any():
        row = int(((shares < 0).any(axis=1) | (abs(shares.sum(axis=1) - 1) > 1e-3)).argmax())
        raise ReaderError(
            f"row {row} of the probabilities is {shares[row].round(3).tolist()}: it must be from 0 up, with a sum of "
            "1. Are these logits? Take their softmax first."
        )
    confidences, right = shares.max(axis=1), shares.argmax(axis=1) == true
    places = numpy.minimum((confidences * bins).astype(int), bins - 1)
    return [_bin(number, bins, confidences[places == number], right[places == number]) for number in range(bins)]


def calibration_error(probabilities: Sequence[Sequence[float]], labels: Sequence[int], bins: int = 10) -> float:
    """Return the expected calibration error: how far confidence and accuracy are apart, 0 to 1 (Naeini et al. 2015).

    The mean over the bins of |accuracy - confidence|, weighed by their counts. It is above 0 by chance alone, the more
    so with few answers and many bins: compare it only for equal numbers of both.

    Raises:
        ReaderError: as ``reliability_bins``.

    Example:
        >>> round(calibration_error([[0.8, 0.2]] * 4, labels=[0, 0, 1, 1]), 3)  # 80 % sure, 50 % right.
        0.3
    """
    filled = [one for one in reliability_bins(probabilities, labels, bins) if one.count]
    total = sum(one.count for one in filled)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in filled) / total


def fit_temperature(logits: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Return the T for which softmax(logits / T) fits the labels best, by mean log-likelihood (Guo et al. 2017).

    T above 1 makes a model less sure; no answer changes. Fit it on validation data, never on the test data.

    Args:
        logits: answers × classes.
        labels: the right class of each.

    Raises:
        ReaderError: no answers, unequal counts, a NaN, a label that is no class, or answers that are all right or all
            wrong: then no T is best.

    Example:
        >>> fit_temperature([[4.0, 0.0]] * 4, labels=[0, 0, 0, 1]) > 1  # Too sure of itself.
        True
    """
    values, true = _checked(logits, labels, "logits")
    right = values.argmax(axis=1) == true
    if right.all() or not right.any():
        raise ReaderError(
            f"all {len(true)} answers are {'right' if right.all() else 'wrong'}: the fit would make the model as "
            f"{'sure' if right.all() else 'unsure'} as it can. Take more answers."
        )

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(values / numpy.exp(log_temperature), axis=1)
        return -float(scaled[numpy.arange(len(true)), true].mean())

    ends = (numpy.log(_LOWEST_TEMPERATURE), numpy.log(_HIGHEST_TEMPERATURE))
    return float(numpy.exp(minimize_scalar(loss, bounds=ends, method="bounded").x))


def _checked(rows: Sequence[Sequence[float]], labels: Sequence[int], what: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    check_pairs(rows, labels)
    values, true = finite_numbers(rows, what, dimensions=2), class_numbers(labels, "labels")
    classes = values.shape[1]
    if classes < 2:
        raise ReaderError(f"the {what} have {classes} column: one per class is needed, and two classes at least.")
    if true.min() < 0 or true.max() >= classes:
        raise ReaderError(
            f"labels go from {true.min()} to {true.max()}, and the {what} are of classes 0 to {classes - 1}."
        )
    return values, true


def _bin(number: int, bins: int, confidences: numpy.ndarray, right: numpy.ndarray) -> Bin:
    filled = len(right) > 0
    confidence, accuracy = (float(one.mean()) if filled else numpy.nan for one in (confidences, right))
    return Bin(number / bins, (number + 1) / bins, len(right), confidence, accuracy)
