"""The shipped reviews: fixed splits that share no text, labels that follow from the ratings."""

from __future__ import annotations

import pandas
import pytest

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.store import install_asset
from aigc_helpers.text import load_reviews
from aigc_helpers.text.reviews import REVIEW_KINDS, REVIEW_SPLITS


@pytest.fixture(scope="module")
def table() -> pandas.DataFrame:
    return pandas.read_parquet(install_asset("reviews") / "reviews.parquet")


def test_the_film_splits_have_the_sizes_of_the_card(table: pandas.DataFrame) -> None:
    sizes = table[table["kind"] == "film"]["split"].value_counts().to_dict()
    assert sizes == {"train": 7171, "neutral": 1432, "test": 1000, "validation": 1000}


def test_no_text_is_in_two_splits(table: pandas.DataFrame) -> None:
    assert not table["text"].duplicated().any()


def test_labels_follow_from_ratings(table: pandas.DataFrame) -> None:
    rating, label = table["rating"], table["label"]
    assert (label[rating >= 1] == 1).all() and (label[rating <= -1] == 0).all()
    assert label[(rating > -1) & (rating < 1)].isna().all()
    assert ((table["split"] == "neutral") == label.isna()).all()
    assert rating.between(-4, 4).all()


def test_loading_gives_one_split_of_one_kind() -> None:
    assert len(load_reviews("test")) == 1000
    assert len(load_reviews("test", kind="product")) == 500
    assert list(load_reviews("train").columns) == ["text", "rating", "label"]


@pytest.mark.parametrize(("split", "kind", "nearest"), [("tset", "film", "test"), ("test", "flim", "film")])
def test_wrong_names_are_answered_with_the_nearest(split: str, kind: str, nearest: str) -> None:
    assert {"test", "train"} <= set(REVIEW_SPLITS) and "film" in REVIEW_KINDS
    with pytest.raises(UnknownNameError, match=f"Valid: {nearest}"):
        load_reviews(split, kind)
