"""Accuracy and F1 must load without a network and refuse what no figure can be computed from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics import F1, Accuracy, Precision, Recall

classes = st.integers(min_value=0, max_value=3)
pairs = st.lists(st.tuples(classes, classes), min_size=1, max_size=30)


@settings(deadline=None)
@given(pairs)
def test_accuracy_is_the_share_of_equal_pairs(pairs: list[tuple[int, int]]) -> None:
    predictions, references = zip(*pairs, strict=True)
    expected = sum(left == right for left, right in pairs) / len(pairs)
    assert Accuracy()._compute(list(predictions), list(references))["accuracy"] == pytest.approx(expected)


def test_metrics_go_through_evaluates_own_interface() -> None:
    predictions, references = [1, 0, 1, 1], [1, 0, 0, 1]
    assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": 0.75}
    # Class 1: precision 2/3, recall 1, F1 0.8. Class 0: precision 1, recall 1/2, F1 2/3.
    assert F1().compute(predictions=predictions, references=references)["f1"] == pytest.approx((0.8 + 2 / 3) / 2)


@pytest.mark.parametrize("metric", [Accuracy, F1])
def test_empty_and_unequal_lists_are_refused(metric: type) -> None:
    with pytest.raises(ReaderError, match="no predictions"):
        metric().compute(predictions=[], references=[])
    with pytest.raises(ReaderError, match="2 predictions for 1 references"):
        metric().compute(predictions=[1, 0], references=[1])


def test_a_class_that_is_never_hit_counts_zero() -> None:
    assert F1().compute(predictions=[0, 0], references=[0, 1])["f1"] == pytest.approx((2 / 3 + 0) / 2)


@settings(deadline=None)
@given(pairs)
def test_micro_averages_are_the_accuracy(pairs: list[tuple[int, int]]) -> None:
    predictions, references = map(list, zip(*pairs, strict=True))
    accuracy = Accuracy()._compute(predictions, references)["accuracy"]
    for metric in (Precision, Recall, F1):
        (figure,) = metric("micro")._compute(predictions, references).values()
        assert figure == pytest.approx(accuracy)


def test_precision_and_recall_by_hand() -> None:
    predictions, references = [1, 1, 1, 0], [1, 0, 0, 0]
    # Class 1: 1 of 3 predicted is right, 1 of 1 found. Class 0: 1 of 1, and 1 of 3.
    assert Precision().compute(predictions=predictions, references=references)["precision"] == pytest.approx(2 / 3)
    assert Recall().compute(predictions=predictions, references=references)["recall"] == pytest.approx(2 / 3)


def test_classes_that_are_missing_on_one_side_count_as_the_docstrings_say() -> None:
    # Class 2 is predicted but not there: it has no recall. Class 1 is there but never predicted: its precision is 0.
    predictions, references = [0, 2, 0], [0, 0, 1]
    assert Recall().compute(predictions=predictions, references=references)["recall"] == pytest.approx((0.5 + 0) / 2)
    precision = Precision().compute(predictions=predictions, references=references)["precision"]
    assert precision == pytest.approx((0.5 + 0 + 0) / 3)
