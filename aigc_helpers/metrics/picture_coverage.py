"""What one distance hides: are drawn pictures like real ones, and is every kind of real one drawn? Are they copies?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy
from scipy.spatial.distance import cdist

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics.picture_distances import Features, two_sets
from aigc_helpers.metrics.refusals import finite_numbers


class PrecisionRecall(NamedTuple):
    """How a set of drawn pictures lies to a set of real ones.

    Attributes:
        precision: the share of drawn pictures that lie among the real ones: high if all look real.
        recall: the share of real pictures that lie among the drawn ones: high if nothing is left out.
    """

    precision: float
    recall: float


def precision_and_recall(real: Features, drawn: Features, neighbours: int = 3) -> PrecisionRecall:
    """Return improved precision and recall (Kynkäänniemi et al. 2019).

    Around each picture of a set lies a ball that reaches to its ``neighbours``-th nearest of the same set. A picture of
    the other set lies "among" them if it is in any ball.

    Args:
        real: pictures × width.
        drawn: pictures × width, the same width. Compare only equal counts: more pictures, smaller balls.
        neighbours: that the balls reach to.

    Raises:
        ReaderError: not more than ``neighbours`` pictures in a set, a NaN, or unequal widths.

    Example:
        >>> import numpy
        >>> real = numpy.random.default_rng(0).normal(size=(20, 4))
        >>> found = precision_and_recall(real, real[:10])  # Nothing false is drawn, but not all.
        >>> found.precision, found.recall < 1
        (1.0, True)
    """
    first, second = two_sets(real, drawn)
    if not 1 <= neighbours < min(len(first), len(second)):
        raise ReaderError(
            f"{neighbours} neighbours with {len(first)} real and {len(second)} drawn pictures: there must be at least "
            "1 neighbour, and more pictures in each set than neighbours."
        )
    return PrecisionRecall(_share_among(second, first, neighbours), _share_among(first, second, neighbours))


def _share_among(asked: numpy.ndarray, others: numpy.ndarray, neighbours: int) -> float:
    radii = numpy.sort(cdist(others, others), axis=1)[:, neighbours]  # Place 0 is the picture itself.
    return float((cdist(asked, others) <= radii).any(axis=1).mean())


class Nearest(NamedTuple):
    """The nearest of a set for each picture.

    Attributes:
        numbers: of the nearest one, per picture.
        distances: to it, per picture.
    """

    numbers: numpy.ndarray
    distances: numpy.ndarray


def nearest(pictures: Sequence[object], training: Sequence[object]) -> Nearest:
    """Return the nearest training picture of each, by the root of the mean squared difference of their numbers.

    Args:
        pictures: pixels (pictures × height × width × RGB) or features (pictures × width).
        training: what the model was shown, of the same shape but for the count.

    Raises:
        ReaderError: there are none on one side, a NaN, or the shapes differ.

    Example:
        >>> import numpy
        >>> training = numpy.arange(12.0).reshape(3, 2, 2)
        >>> nearest(training[[2, 0]] + 0.25, training)
        Nearest(numbers=array([2, 0]), distances=array([0.25, 0.25]))
    """
    asked, shown = (numpy.asarray(one, dtype=float) for one in (pictures, training))
    if asked.size == 0 or shown.size == 0:
        raise ReaderError("there must be at least one picture, and one training picture to compare it with.")
    if asked.ndim < 2 or asked.shape[1:] != shown.shape[1:]:
        raise ReaderError(f"pictures of shape {asked.shape[1:]} cannot be compared with ones of {shown.shape[1:]}.")
    flat = [
        finite_numbers(one.reshape(len(one), -1), what, dimensions=2)
        for one, what in ((asked, "pictures"), (shown, "training pictures"))
    ]
    distances = cdist(*flat) / flat[0].shape[1] ** 0.5
    numbers = distances.argmin(axis=1)
    return Nearest(numbers, distances[numpy.arange(len(numbers)), numbers])
