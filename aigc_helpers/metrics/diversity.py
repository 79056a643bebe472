"""How varied texts are: distinct n-grams, and repetition within a text."""

from __future__ import annotations

from collections.abc import Sequence

from aigc_helpers.errors import ReaderError

Text = Sequence[object]  # Tokens, or a string for its characters.


def distinct_n(texts: Sequence[Text], n: int) -> float:
    """Return distinct-n, the number of different n-grams over that of all n-grams in all texts (Li et al. 2016).

    It falls with the amount of text: compare only sets of equal size.

    Args:
        texts: each a list of tokens, or a string, whose tokens are its characters.
        n: the length of the n-grams.

    Raises:
        ReaderError: no texts, none with ``n`` tokens, or ``n`` below 1.

    Example:
        >>> distinct_n(["abab", "abc"], n=2)  # ab, ba, bc of five.
        0.6
    """
    grams = [gram for text in _checked(texts, n) for gram in _grams(text, n)]
    return len(set(grams)) / len(grams)


def repetition(texts: Sequence[Text], n: int) -> float:
    """Return the share of n-grams that the same text has had before, 0 to 1: 0 if no text repeats itself.

    Args:
        texts: as for ``distinct_n``; those with fewer than ``n`` tokens have no n-gram and do not count.
        n: the length of the n-grams.

    Raises:
        ReaderError: no texts, none with ``n`` tokens, or ``n`` below 1.

    Example:
        >>> round(repetition(["abab", "abc"], n=2), 3)  # The second ab, of five.
        0.2
    """
    grams = [_grams(text, n) for text in _checked(texts, n)]
    return 1 - sum(len(set(some)) for some in grams) / sum(map(len, grams))


def _grams(text: Text, n: int) -> list[tuple[object, ...]]:
    return [tuple(text[start : start + n]) for start in range(len(text) - n + 1)]


def _checked(texts: Sequence[Text], n: int) -> Sequence[Text]:
    if n < 1:
        raise ReaderError(f"n-grams of {n} tokens are not possible: n must be 1 or more.")
    if isinstance(texts, str):
        raise ReaderError("the texts are one string; give a list of texts.")
    if len(texts) == 0:
        raise ReaderError("no texts were given, and no figure can be computed from none.")
    for number, text in enumerate(texts):
        if not isinstance(text, Sequence):
            raise ReaderError(f"text number {number} is {text!r}: neither a string nor a list of tokens.")
    if all(len(text) < n for text in texts):
        raise ReaderError(f"none of the {len(texts)} texts has {n} tokens, so there is no n-gram to count.")
    return texts
