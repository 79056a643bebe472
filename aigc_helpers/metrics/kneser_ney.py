"""An n-gram model with interpolated modified Kneser-Ney smoothing: the baseline that a neural model has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from aigc_helpers.errors import ReaderError


@dataclass(frozen=True)
class _Order:
    """The counts of one order, by key; a key is an n-gram read as a number in base ``vocabulary size + 1``."""

    grams: numpy.ndarray  # Sorted keys of the n-grams.
    discounted: numpy.ndarray  # Their counts, less the discount.
    contexts: numpy.ndarray  # Sorted keys of the first n - 1 tokens.
    totals: numpy.ndarray  # How often each context occurs.
    spared: numpy.ndarray  # What the discounts took from each context: it goes to the next lower order.


class KneserNey:
    """Probabilities of the next token given the ``order - 1`` tokens before it.

    The highest order counts occurrences; the lower ones count how many different tokens stand before an n-gram, so that
    a token that only ever follows one other is not held to be likely everywhere. N-grams at the beginning of a text,
    which nothing precedes, count by occurrences there too. Each order's estimate is discounted and mixed with that of
    the next lower one, the lowest with 1 / vocabulary size, so no probability is 0 and those of all tokens sum to 1.
    Discounts are those of Chen & Goodman (1999), "An empirical study of smoothing techniques for language modeling":
    one each for counts of 1, 2 and 3 or more.

    With ``order=1`` it is a unigram model: the share of each token, nothing more than smoothed.
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], order: int, vocabulary_size: int, discount: float | None = None
    ) -> None:
        """Count.

        Args:
            sequences: token ids from 0 to ``vocabulary_size - 1``. A mark for the beginning is put in front of each;
                a mark for the end is predicted like any token, so it has to be in the sequences.
            order: 4 looks back at three tokens.
            vocabulary_size: how many tokens share the probability.
            discount: from 0 to 1, for all counts alike; None estimates the three discounts of every order.

        Raises:
            ReaderError: there is nothing to count, an id lies outside the vocabulary, or vocabulary and order are
                together too large for 64-bit keys.
        """
        if order < 1 or (vocabulary_size + 1) ** order >= 2**63:
            raise ReaderError(f"an order of {order} with {vocabulary_size} tokens: 64 bits cannot number the n-grams.")
        self.order, self.vocabulary_size = order, vocabulary_size
        self._base = vocabulary_size + 1  # One more than the vocabulary: the mark before the beginning.
        windows = self._windows(sequences)
        if not len(windows):
            raise ReaderError("there are no tokens to count.")
        keys = self._keys(windows)
        grams, counts = numpy.unique(keys, return_counts=True)
        orders = [self._order(grams, counts, discount)]
        for length in range(order - 1, 0, -1):
            # Each different n-gram counts once for its end: by how many tokens that end is preceded ...
            grams, preceded_by = numpy.unique(grams % self._base**length, return_counts=True)
            _, occurrences = numpy.unique(keys % self._base**length, return_counts=True)
            # ... but nothing can stand before the beginning: there the occurrences have to do.
            at_beginning = grams // self._base ** (length - 1) == self._base - 1
            orders.append(self._order(grams, numpy.where(at_beginning, occurrences, preceded_by), discount))
        self._orders = orders[::-1]

    def log_probabilities(self, sequence: Sequence[int]) -> numpy.ndarray:
        """Return the natural logarithm of the probability of each token after those before it, shape (tokens,)."""
        windows = self._windows([sequence])
        return numpy.log(self._probabilities(self._keys(windows)))

    def distribution(self, context: Sequence[int]) -> numpy.ndarray:
        """Return the probability of every token after ``context``, shape (vocabulary size,), summing to 1.

        ``context`` starts at the beginning of a text; only its last ``order - 1`` tokens matter.
        """
        before = ([self._base - 1] * (self.order - 1) + list(context))[len(context) :]
        tokens = numpy.arange(self.vocabulary_size)[:, None]
        windows = numpy.hstack([numpy.tile(numpy.array(before, dtype=numpy.int64), (len(tokens), 1)), tokens])
        return self._probabilities(self._keys(windows))

    def perplexity(self, sequences: Sequence[Sequence[int]]) -> float:
        """Return the exponential of the mean negative log-probability per token of ``sequences``.

        Raises:
            ReaderError: they hold no tokens.
        """
        if not any(map(len, sequences)):
            raise ReaderError("there are no tokens to predict.")
        total = sum(self.log_probabilities(sequence).sum() for sequence in sequences)
        return float(numpy.exp(-total / sum(map(len, sequences))))

    def _windows(self, sequences: Sequence[Sequence[int]]) -> numpy.ndarray:
        """Return every token with the ``order - 1`` before it, shape (tokens, order)."""
        beginning = numpy.full(self.order - 1, self._base - 1, dtype=numpy.int64)
        parts = []
        for sequence in sequences:
            ids = numpy.asarray(sequence, dtype=numpy.int64)
            if not len(ids):
                continue
            if ids.min() < 0 or ids.max() >= self.vocabulary_size:
                raise ReaderError(f"token ids from {ids.min()} to {ids.max()} for {self.vocabulary_size} tokens.")
            padded = numpy.concatenate([beginning, ids])
            parts.append(numpy.lib.stride_tricks.sliding_window_view(padded, self.order))
        return numpy.concatenate(parts) if parts else numpy.empty((0, self.order), dtype=numpy.int64)

    def _keys(self, windows: numpy.ndarray) -> numpy.ndarray:
        return windows @ self._base ** numpy.arange(self.order - 1, -1, -1, dtype=numpy.int64)

    def _order(self, grams: numpy.ndarray, counts: numpy.ndarray, discount: float | None) -> _Order:
        by_count = _estimate_discounts(counts) if discount is None else numpy.array([0.0, *[discount] * 3])
        discounts = by_count[numpy.minimum(counts, 3)]
        contexts, first = numpy.unique(grams // self._base, return_index=True)
        return _Order(
            grams=grams,
            discounted=counts - discounts,
            contexts=contexts,
            totals=numpy.add.reduceat(counts, first),
            spared=numpy.add.reduceat(discounts, first),
        )

    def _probabilities(self, keys: numpy.ndarray) -> numpy.ndarray:
        probabilities = numpy.full(len(keys), 1 / self.vocabulary_size)
        for length, order in enumerate(self._orders, start=1):
            ends = keys % self._base**length
            total = _look_up(order.contexts, order.totals, ends // self._base)
            seen = total > 0  # Where a context was never seen, the lower order's estimate stays.
            mixed = _look_up(order.grams, order.discounted, ends) + probabilities * _look_up(
                order.contexts, order.spared, ends // self._base
            )
            probabilities[seen] = mixed[seen] / total[seen]
        return probabilities


def _look_up(keys: numpy.ndarray, values: numpy.ndarray, wanted: numpy.ndarray) -> numpy.ndarray:
    """Return the value of each wanted key, 0 for those that are not there."""
    places = numpy.minimum(numpy.searchsorted(keys, wanted), len(keys) - 1)
    return numpy.where(keys[places] == wanted, values[places], 0)


def _estimate_discounts(counts: numpy.ndarray) -> numpy.ndarray:
    """Return the discounts for counts of 0, 1, 2 and 3 or more: 0, and three above 0 and up to their count."""
    usual = numpy.array([0.0, 0.5, 0.75, 0.75])
    once, twice, thrice, often = (int((counts == number).sum()) for number in range(1, 5))
    if not once or not twice or not thrice:
        return usual  # Too little data for the formula, which divides by these.
    share = once / (once + 2 * twice)
    estimated = numpy.minimum(
        [0.0, 1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * often / thrice],
        [0.0, 1.0, 2.0, 3.0],
    )
    # Here, too, with little data: a context that spares nothing would make new tokens impossible.
    return numpy.where(estimated > 0, estimated, usual)
