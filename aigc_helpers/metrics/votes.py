"""Win rate: how often one of two is preferred, from votes that do not know which is which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics.intervals import Interval, wilson_interval

WIN, LOSS, TIE = "win", "loss", "tie"


@dataclass(frozen=True)
class WinRate:
    """What votes say.

    Attributes:
        rate: wins over wins and losses, with its 95 % interval after Wilson. Ties are left out: they prefer nothing.
        wins: votes for the candidate.
        losses: votes for the other.
        ties: votes for neither.
        p_value: the exact sign test's: how often coin tosses would be at least so one-sided.
    """

    rate: Interval
    wins: int
    losses: int
    ties: int
    p_value: float


def win_rate(votes: Sequence[str]) -> WinRate:
    """Count votes, each ``"win"``, ``"loss"`` or ``"tie"``.

    Raises:
        ReaderError: there are none, one is something else, or all are ties: then there is no rate.

    Example:
        >>> result = win_rate(["win", "win", "loss", "win", "tie"])
        >>> result.rate.mean, result.ties
        (0.75, 1)
    """
    counts = Counter(votes)
    strange = [vote for vote in counts if vote not in (WIN, LOSS, TIE)]
    if strange:
        raise ReaderError(f"a vote is {strange[0]!r}; it can be {WIN!r}, {LOSS!r} or {TIE!r}.")
    if not counts:
        raise ReaderError("no votes were given, and no figure can be computed from none.")
    decided = counts[WIN] + counts[LOSS]
    if not decided:
        raise ReaderError(f"all {counts[TIE]} votes are ties: there is no win rate. More pairs, or clearer ones?")
    p_value = float(binomtest(counts[WIN], decided, 0.5).pvalue)
    return WinRate(wilson_interval(counts[WIN], decided), counts[WIN], counts[LOSS], counts[TIE], p_value)
