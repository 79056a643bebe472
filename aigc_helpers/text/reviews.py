"""The film and product review snippets of the book (data/reviews, see the card there)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.store import install_asset

if TYPE_CHECKING:
    import pandas

REVIEW_KINDS = ("film", "product")
REVIEW_SPLITS = ("train", "validation", "test", "neutral")
LABEL_NAMES = ("negative", "positive")


def load_reviews(split: str, kind: str = "film") -> pandas.DataFrame:
    """Return the snippets of one split, columns ``text``, ``rating`` (−4 to 4) and ``label`` (0 negative, 1 positive).

    A snippet is positive from a mean rating of 1, negative up to −1; those between are in the split ``"neutral"`` and
    their label is missing.

    Raises:
        UnknownNameError: there is no such split or kind.

    Example:
        >>> reviews = load_reviews("test")
        >>> list(reviews.columns), len(reviews)
        (['text', 'rating', 'label'], 1000)
    """
    import pandas

    if split not in REVIEW_SPLITS:
        raise UnknownNameError("split", split, REVIEW_SPLITS)
    if kind not in REVIEW_KINDS:
        raise UnknownNameError("kind of review", kind, REVIEW_KINDS)
    table = pandas.read_parquet(install_asset("reviews") / "reviews.parquet")
    chosen = table[(table["split"] == split) & (table["kind"] == kind)]
    return chosen[["text", "rating", "label"]].reset_index(drop=True)
