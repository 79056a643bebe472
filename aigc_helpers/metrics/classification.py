"""Accuracy, precision, recall and F1 as ``evaluate`` modules that need no network.

``evaluate.load("accuracy")`` downloads a script from the hub. These subclasses of ``evaluate.Metric`` have the same
interface (``compute(predictions=..., references=...)``) and come with the package; scikit-learn does the counting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from tempfile import gettempdir

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.metrics.refusals import check_pairs, class_numbers

_FEATURES = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
AVERAGES = ("macro", "micro")


class _LocalMetric(evaluate.Metric):
    """Keeps its numbers in memory: evaluate's own cache folder may be shared and read-only."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True, cache_dir=gettempdir())

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=datasets.Features(_FEATURES))

    def compute(self, *, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        """Return the figure under its name, such as ``{"accuracy": 0.8}``, for class numbers of equal count.

        Raises:
            ReaderError: the lists are empty or differ in length, or a value is NaN or no whole number.
        """
        check_pairs(predictions, references)
        predicted, true = class_numbers(predictions, "predictions"), class_numbers(references, "references")
        return super().compute(predictions=predicted, references=true)


class Accuracy(_LocalMetric):
    """The share of predictions that equal their reference; from 0 to 1."""

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class _PerClassMetric(_LocalMetric):
    """A figure per class, averaged: macro gives every class the same weight, micro every example.

    With micro, where each example has exactly one class, precision, recall and F1 all equal the accuracy.
    """

    def __init__(self, average: str = "macro") -> None:
        if average not in AVERAGES:
            raise UnknownNameError("average", average, AVERAGES)
        self.average = average
        super().__init__()

    def compute(self, *, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        """Return the figure under its name, as ``Accuracy`` does.

        Raises:
            ReaderError: as for accuracy, or all references are of one class.
        """
        check_pairs(predictions, references)
        classes = set(class_numbers(references, "references").tolist())
        if len(classes) == 1:
            raise ReaderError(
                f"all {len(references)} references are of class {classes.pop()}: precision, recall and F1 ask how well "
                "classes are told apart, so there must be two at least. Was the data sorted, and then cut?"
            )
        return super().compute(predictions=predictions, references=references)


class Precision(_PerClassMetric):
    """Of what was predicted to be a class, the share that is; from 0 to 1.

    Macro: a class that is never predicted counts 0, unless it is not in the references either.
    """

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"precision": float(precision_score(references, predictions, average=self.average, zero_division=0))}


class Recall(_PerClassMetric):
    """Of what is of a class, the share that was found; from 0 to 1.

    Macro: a class that is predicted but not in the references has nothing to be found, and is not averaged.
    """

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"recall": float(recall_score(references, predictions, average=self.average, zero_division=math.nan))}


class F1(_PerClassMetric):
    """The harmonic mean of precision and recall; from 0 to 1.

    Macro: a class that is neither predicted nor present in the references is not averaged; one that occurs but is never
    hit counts 0.
    """

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"f1": float(f1_score(references, predictions, average=self.average, zero_division=0))}
