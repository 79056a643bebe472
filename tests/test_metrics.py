"""Accuracy and F1 must load without a network and refuse what no figure can be computed from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_helpers.errors import ReaderError
from aigc_helpers.evaluation.metrics import F1, Accuracy

classes = st.integers(min_value=0, max_value=3)
pairs = st.lists(st.tuples(classes, classes), min_size=1, max_size=30)


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
