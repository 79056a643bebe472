"""FID and KID: how far a set of pictures is from another, by features such as CLIP's embeddings.

A figure belongs to the network that made the features: name it beside the number, here "tiny-CLIP".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics.intervals import Interval
from aigc_helpers.metrics.refusals import finite_numbers

Features = Sequence[Sequence[float]] | numpy.ndarray  # Pictures × width.


def fid(real: Features, drawn: Features) -> float:
    """Return the Fréchet distance of two Gaussians fitted to the features (FID, Heusel et al. 2017); 0 if equal.

    It is biased upward, the more so the fewer pictures and the wider the features: two samples of the same pictures
    are apart. Compare only figures from equal numbers of pictures.

    Args:
        real: pictures × width.
        drawn: pictures × width, the same width; the counts may differ.

    Raises:
        ReaderError: fewer than two pictures in a set, a NaN, or unequal widths.

    Example:
        >>> import numpy
        >>> real = numpy.random.default_rng(0).normal(size=(100, 4))
        >>> round(fid(real, real + 1), 6)  # 1 apart in each of 4 directions.
        4.0
    """
    first, second = two_sets(real, drawn)
    covariances = [numpy.atleast_2d(numpy.cov(one, rowvar=False)) for one in (first, second)]
    return frechet_distance(first.mean(axis=0), covariances[0], second.mean(axis=0), covariances[1])


def frechet_distance(
    mean: Sequence[float] | numpy.ndarray,
    covariance: Features,
    other_mean: Sequence[float] | numpy.ndarray,
    other_covariance: Features,
) -> float:
    """Return |m - m'|² + tr(C + C' - 2 (C C')^½), the squared 2-Wasserstein distance of two Gaussians.

    The trace of the root is the sum of the roots of the eigenvalues of C^½ C' C^½, which is symmetric: so singular
    covariances, as few pictures give them, need no special care.

    Args:
        mean: width.
        covariance: width × width.
        other_mean: width.
        other_covariance: width × width.

    Raises:
        ReaderError: the widths differ, or a value is NaN.

    Example:
        >>> frechet_distance([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], [3.0, 4.0], [[1.0, 0.0], [0.0, 1.0]])
        25.0
    """
    means = [finite_numbers(one, "means") for one in (mean, other_mean)]
    first, second = (finite_numbers(one, "covariances", dimensions=2) for one in (covariance, other_covariance))
    if not first.shape == second.shape == (len(means[0]), len(means[1])):
        raise ReaderError(
            f"means of {len(means[0])} and {len(means[1])} numbers with covariances of {first.shape} and "
            f"{second.shape}: all must be of one width."
        )
    values, vectors = numpy.linalg.eigh(first)
    root = (vectors * numpy.sqrt(values.clip(min=0))) @ vectors.T
    roots = numpy.sqrt(numpy.linalg.eigvalsh(root @ second @ root).clip(min=0))
    apart = float(((means[0] - means[1]) ** 2).sum())
    return max(0.0, apart + float(numpy.trace(first) + numpy.trace(second) - 2 * roots.sum()))


def kid(real: Features, drawn: Features) -> float:
    """Return the squared maximum mean discrepancy with the kernel (x·y / width + 1)³ (KID, Bińkowski et al. 2018).

    The estimate is unbiased, so it can be below 0 where the sets are alike.

    Args:
        real: pictures × width; the kernel expects coordinates of about 1 in size.
        drawn: pictures × width, the same width.

    Raises:
        ReaderError: fewer than two pictures in a set, a NaN, or unequal widths.

    Example:
        >>> import numpy
        >>> real, alike = numpy.random.default_rng(0).normal(size=(2, 100, 4))
        >>> kid(real, alike) < kid(real, alike + 1)
        True
    """
    first, second = two_sets(real, drawn)
    within = sum(_mean_of_pairs(_kernel(one, one)) for one in (first, second))
    return within - 2 * float(_kernel(first, second).mean())


def kid_interval(real: Features, drawn: Features, size: int = 100, subsets: int = 100, seed: int = 0) -> Interval:
    """Return KID with the interval in which it would lie if both sets were drawn again.

    Its ends are 1.96 standard errors from it. The error is the spread s of KID between random subsets, scaled to the
    whole sets: s · √(size / (n - size)), with n pictures in the smaller set (Politis & Romano 1994, subsampling without
    replacement). More subsets make the error more exact, not smaller.

    Args:
        real: pictures × width.
        drawn: pictures × width.
        size: of a subset of each; at most half of the smaller set.
        subsets: how many.
        seed: of their choice.

    Raises:
        ReaderError: as ``kid``, or there are not that many pictures.

    Example:
        >>> import numpy
        >>> real, drawn = numpy.random.default_rng(0).normal(size=(2, 100, 4))
        >>> interval = kid_interval(real, drawn, size=50)
        >>> interval.low < interval.mean < interval.high
        True
    """
    first, second = two_sets(real, drawn)
    smaller = min(len(first), len(second))
    if not 2 <= size <= smaller // 2 or subsets < 2:
        raise ReaderError(
            f"{subsets} subsets of {size} from sets of {len(first)} and {len(second)}: there must be two subsets at "
            f"least, each of 2 pictures or more and of half of the smaller set at most, {smaller // 2}."
        )
    generator = numpy.random.default_rng(seed)
    values = [
        kid(*(one[generator.choice(len(one), size, replace=False)] for one in (first, second))) for _ in range(subsets)
    ]
    error = float(numpy.std(values, ddof=1)) * (size / (smaller - size)) ** 0.5
    mean = kid(first, second)
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error)


def two_sets(real: Features, drawn: Features) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return both as arrays.

    Raises:
        ReaderError: fewer than two pictures in a set, a NaN, or unequal widths.
    """
    first = finite_numbers(real, "features of real pictures", dimensions=2)
    second = finite_numbers(drawn, "features of drawn pictures", dimensions=2)
    for what, features in (("real", first), ("drawn", second)):
        if len(features) < 2:
            raise ReaderError(
                f"there is one {what} picture: sets are compared by their spread, and one picture has none. Take two "
                "at least, better hundreds."
            )
    if first.shape[1] != second.shape[1]:
        raise ReaderError(
            f"real pictures have {first.shape[1]} features and drawn ones {second.shape[1]}: both must come from the "
            "same network."
        )
    return first, second


def _kernel(left: numpy.ndarray, right: numpy.ndarray) -> numpy.ndarray:
    return (left @ right.T / left.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: numpy.ndarray) -> float:
    """Return the mean over pairs of different pictures: that of a picture with itself is what biases."""
    count = len(kernel)
    return float((kernel.sum() - numpy.trace(kernel)) / (count * (count - 1)))
