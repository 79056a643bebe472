"""Perplexity, and what can be compared where perplexity cannot: bits per character."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics.refusals import finite_numbers


def perplexity(log_probabilities: Sequence[float]) -> float:
    """Return e to the mean of the negative log-probabilities: among how many tokens the model wavers, on average.

    Args:
        log_probabilities: natural logarithms, one per predicted token.

    Raises:
        ReaderError: there are none, one is NaN or minus infinity (a token held to be impossible), or above 0.

    Example:
        >>> import math
        >>> round(perplexity([math.log(1 / 6)] * 10), 6)  # A die.
        6.0
    """
    return math.exp(-_total(log_probabilities) / len(log_probabilities))


def bits_per_character(log_probabilities: Sequence[float], characters: int) -> float:
    """Return the bits that a model needs for a text, per character: the same text for any tokenizer.

    Args:
        log_probabilities: natural logarithms, of all tokens of the text.
        characters: of that text.

    Raises:
        ReaderError: as ``perplexity``, or there are no characters.

    Example:
        >>> import math
        >>> bits_per_character([math.log(1 / 8)] * 2, characters=3)  # Two tokens of three bits each.
        2.0
    """
    if characters < 1:
        raise ReaderError(f"{characters} characters: bits per character need a text with at least one.")
    return -_total(log_probabilities) / math.log(2) / characters


def _total(log_probabilities: Sequence[float]) -> float:
    values = finite_numbers(log_probabilities, "log-probabilities")
    if values.max() > 1e-6:  # Rounding may lift a certain token a little above 0.
        raise ReaderError(
            f"log-probability number {int(values.argmax())} is {values.max():g}, and none can be above 0. Are these "
            "losses? Then give their negatives."
        )
    return float(values.sum())
