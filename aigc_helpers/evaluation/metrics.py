"""Accuracy and F1 as ``evaluate`` modules that need no network.

``evaluate.load("accuracy")`` downloads a script from the hub. These subclasses of ``evaluate.Metric`` have the same
interface (``compute(predictions=..., references=...)``) and come with the package; scikit-learn does the counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import gettempdir

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score

from aigc_helpers.errors import ReaderError

_FEATURES = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}


class _LocalMetric(evaluate.Metric):
    """Keeps its numbers in memory: evaluate's own cache folder may be shared and read-only."""

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True, cache_dir=gettempdir())

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(description=self.__doc__ or "", citation="", features=datasets.Features(_FEATURES))

    def compute(self, *, predictions: Sequence[int], references: Sequence[int]) -> dict[str, float]:
        """Return the figure under its name, such as ``{"accuracy": 0.8}``, for class numbers of equal count.

        Raises:
            ReaderError: the lists are empty or differ in length.
        """
        check_pairs(predictions, references)
        return super().compute(predictions=predictions, references=references)


class Accuracy(_LocalMetric):
    """The share of predictions that equal their reference; from 0 to 1."""

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(_LocalMetric):
    """The harmonic mean of precision and recall, averaged over the classes with equal weight (macro); from 0 to 1.

    A class that is neither predicted nor present in the references is not averaged; one that occurs but is never hit
    counts 0.
    """

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"f1": float(f1_score(references, predictions, average="macro", zero_division=0))}


def check_pairs(predictions: Sequence[object], references: Sequence[object]) -> None:
    """Refuse what no figure can be computed from.

    Raises:
        ReaderError: the lists are empty or differ in length.
    """
    if len(predictions) != len(references):
        raise ReaderError(
            f"{len(predictions)} predictions for {len(references)} references: there must be one for each. "
            "Was a last, smaller batch lost?"
        )
    if len(predictions) == 0:
        raise ReaderError("no predictions were given, and no figure can be computed from none.")
