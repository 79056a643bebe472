"""What every metric refuses: nothing to measure, lists that do not match, and numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence, Sized

import numpy

from aigc_helpers.errors import ReaderError


def check_pairs(predictions: Sized, references: Sized) -> None:
    """Refuse what no figure can be computed from.

    Raises:
        ReaderError: the lists are empty or differ in length.

    Example:
        >>> check_pairs([1, 0, 1], [1, 0])
        Traceback (most recent call last):
        ...
        aigc_helpers.errors.ReaderError: 3 predictions for 2 references: there must be one for each. ...
    """
    if len(predictions) != len(references):
        raise ReaderError(
            f"{len(predictions)} predictions for {len(references)} references: there must be one for each. "
            "Was a last, smaller batch lost?"
        )
    if len(predictions) == 0:
        raise ReaderError("no predictions were given, and no figure can be computed from none.")


def finite_numbers(values: object, what: str, dimensions: int = 1) -> numpy.ndarray:
    """Return ``values`` as an array of floats.

    Args:
        values: a list, array or tensor of numbers.
        what: their name in the message, such as ``"probabilities"``.
        dimensions: that the array must have.

    Raises:
        ReaderError: there are none, one is NaN or infinite (the message says where), or the dimensions are others.
    """
    try:
        array = numpy.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ReaderError(f"the {what} are no rectangle of numbers ({error}).") from error
    if array.size == 0:
        raise ReaderError(f"no {what} were given, and no figure can be computed from none.")
    if array.ndim != dimensions:
        raise ReaderError(f"the {what} have the shape {array.shape}; {dimensions} dimensions are needed.")
    finite = numpy.isfinite(array)
    if not finite.all():
        where = numpy.argwhere(~finite)[0].tolist()
        raise ReaderError(
            f"{int((~finite).sum())} of the {what} are not finite, the first at {where}: {array[tuple(where)]}. "
            "Look for a division by 0, or a training that diverged; do not drop them unseen."
        )
    return array


def class_numbers(values: Sequence[object], what: str) -> numpy.ndarray:
    """Return class numbers as integers.

    Raises:
        ReaderError: a value is NaN, or no whole number.
    """
    array = finite_numbers(values, what)
    if (array != array.round()).any():
        where = int((array != array.round()).argmax())
        raise ReaderError(
            f"{what} number {where} is {array[where]:g}, and a class has a whole number. Are these probabilities or "
            "logits? Take their argmax first."
        )
    return array.astype(int)
