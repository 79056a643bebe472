"""Every metric answers bad input with a sentence, never with a silent 0 or a NaN that ends up in a table.

An empty list, a lost batch or a diverged training happens to everyone; the figure that comes of it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from aigc_helpers.errors import ReaderError
from aigc_helpers.evaluation import share_in_form
from aigc_helpers.evaluation.poet import judge_forms
from aigc_helpers.metrics import (
    F1,
    Accuracy,
    KneserNey,
    Precision,
    Recall,
    calibration,
    diversity,
    intervals,
    language_models as perplexity,
    multiple_testing,
    picture_coverage,
    picture_distances,
    translation as translation_metrics,
    votes,
)

Call = Callable[..., object]


def computed(metric: Any) -> Call:
    return lambda predictions, references: metric.compute(predictions=predictions, references=references)


CLASS_METRICS = {
    "accuracy": computed(Accuracy()),
    "precision": computed(Precision()),
    "recall": computed(Recall("micro")),
    "F1": computed(F1()),
    "accuracy's interval": intervals.accuracy_interval,
    "paired, base": lambda base, references: intervals.compare_paired(base, references, references),
    "paired, tuned": lambda tuned, references: intervals.compare_paired(references, tuned, references),
}
# Predictions, references, and a word of the sentence that says what is wrong.
BAD_CLASSES = {
    "empty": ([], [], "no predictions"),
    "unequal": ([0, 1, 1], [0, 1], "3 predictions for 2 references"),
    "NaN predicted": ([0, math.nan, 1], [0, 1, 1], r"first at \[1\]: nan"),
    "NaN referred to": ([0, 1, 1], [0, 1, math.nan], r"first at \[2\]: nan"),
    "probabilities": ([0.2, 0.9], [0, 1], "argmax"),
    "words": (["good", "bad"], ["good", "good"], "no rectangle of numbers"),
}


@pytest.mark.parametrize("metric", CLASS_METRICS)
@pytest.mark.parametrize("bad", BAD_CLASSES)
def test_class_metrics(metric: str, bad: str) -> None:
    predictions, references, said = BAD_CLASSES[bad]
    if metric == "paired, tuned" and bad == "NaN referred to":
        said = "nan"  # The base of this call is the references.
    with pytest.raises(ReaderError, match=said):
        CLASS_METRICS[metric](predictions, references)


@pytest.mark.parametrize("metric", [Precision, Recall, F1])
@pytest.mark.parametrize("average", ["macro", "micro"])
def test_a_single_class_tells_nothing_about_telling_classes_apart(metric: type, average: str) -> None:
    with pytest.raises(ReaderError, match="all 3 references are of class 1"):
        metric(average).compute(predictions=[1, 0, 1], references=[1, 1, 1])


def test_accuracy_on_a_single_class_is_defined() -> None:
    assert Accuracy().compute(predictions=[1, 0, 1], references=[1, 1, 1])["accuracy"] == pytest.approx(2 / 3)


def test_an_average_that_does_not_exist_is_named() -> None:
    with pytest.raises(ReaderError, match="there is no average 'weighted'"):
        F1("weighted")


GOOD_ROWS = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
BAD_ROWS = {
    "empty": ([], [], "no predictions"),
    "unequal": (GOOD_ROWS, [0, 1], "3 predictions for 2"),
    "NaN": ([[0.9, 0.1], [math.nan, 1.0]], [0, 1], "not finite"),
    "infinite": ([[0.9, 0.1], [math.inf, 1.0]], [0, 1], "not finite"),
    "one column": ([[1.0], [1.0]], [0, 0], "1 column"),
    "ragged": ([[0.9, 0.1], [1.0]], [0, 1], "no rectangle"),
    "flat": ([0.9, 0.1], [0, 1], "2 dimensions are needed"),
    "label out of range": (GOOD_ROWS, [0, 1, 2], "labels go from 0 to 2"),
    "label NaN": (GOOD_ROWS, [0, 1, math.nan], "not finite"),
}


@pytest.mark.parametrize(
    "metric", [calibration.reliability_bins, calibration.calibration_error, calibration.fit_temperature]
)
@pytest.mark.parametrize("bad", BAD_ROWS)
def test_calibration(metric: Call, bad: str) -> None:
    rows, labels, said = BAD_ROWS[bad]
    with pytest.raises(ReaderError, match=said):
        metric(rows, labels)


def test_calibration_wants_probabilities_a_temperature_wants_mistakes() -> None:
    with pytest.raises(ReaderError, match="softmax first"):
        calibration.calibration_error([[2.0, -1.0]], [0])
    with pytest.raises(ReaderError, match="0 bins"):
        calibration.reliability_bins(GOOD_ROWS, [0, 1, 0], bins=0)
    with pytest.raises(ReaderError, match="all 3 answers are right"):
        calibration.fit_temperature(GOOD_ROWS, [0, 1, 0])
    with pytest.raises(ReaderError, match="all 3 answers are wrong"):
        calibration.fit_temperature(GOOD_ROWS, [1, 0, 1])
    # Labels all the same are no fault here: confidence is compared with being right, and both vary.
    assert calibration.calibration_error([[0.75, 0.25], [0.25, 0.75]], [0, 0]) == pytest.approx(0.25)


FEATURES = numpy.random.default_rng(0).normal(size=(8, 3))
SET_METRICS = {
    "FID": picture_distances.fid,
    "KID": picture_distances.kid,
    "KID's interval": lambda real, drawn: picture_distances.kid_interval(real, drawn, size=2),
    "precision and recall": lambda real, drawn: picture_coverage.precision_and_recall(real, drawn, neighbours=2),
}
BAD_SETS = {
    "empty": ([], FEATURES, "no features of real pictures"),
    "one picture": (FEATURES, FEATURES[:1], "one drawn picture"),
    "widths": (FEATURES, FEATURES[:, :2], "3 features and drawn ones 2"),
    "NaN": (numpy.where(FEATURES[4, 1] == FEATURES, numpy.nan, FEATURES), FEATURES, r"first at \[4, 1\]"),
    "one dimension": (FEATURES[:, 0], FEATURES, "2 dimensions are needed"),
}


@pytest.mark.parametrize("metric", SET_METRICS)
@pytest.mark.parametrize("bad", BAD_SETS)
def test_sets_of_pictures(metric: str, bad: str) -> None:
    real, drawn, said = BAD_SETS[bad]
    with pytest.raises(ReaderError, match=said):
        SET_METRICS[metric](real, drawn)


@pytest.mark.parametrize("bad", ["empty", "widths", "NaN"])
def test_the_nearest_picture(bad: str) -> None:
    real, drawn, _ = BAD_SETS[bad]
    with pytest.raises(ReaderError):
        picture_coverage.nearest(drawn, real)


def test_too_few_pictures_for_what_is_asked() -> None:
    with pytest.raises(ReaderError, match="8 neighbours with 8 real"):
        picture_coverage.precision_and_recall(FEATURES, FEATURES, neighbours=8)
    with pytest.raises(ReaderError, match="half of the smaller set"):
        picture_distances.kid_interval(FEATURES, FEATURES, size=5)
    with pytest.raises(ReaderError, match="all must be of one width"):
        picture_distances.frechet_distance([0, 0], numpy.eye(2), [0, 0, 0], numpy.eye(3))


SENTENCES = ["the cat sat on the mat", "it rains in the old town"]
BAD_SENTENCES = {
    "empty": ([], [], "no predictions"),
    "unequal": (SENTENCES, SENTENCES[:1], "2 predictions for 1"),
    "NaN": ([SENTENCES[0], math.nan], SENTENCES, "translation number 1 is nan"),
    "None": (SENTENCES, [None, SENTENCES[1]], "reference number 0 is None"),
    "one string": (SENTENCES[0], SENTENCES[0], "one string"),
    "empty reference": (SENTENCES, [SENTENCES[0], " "], "reference number 1 is empty"),
    "short references": (["one two"], ["one two"], "no reference has 4 words"),
}


@pytest.mark.parametrize("bad", BAD_SENTENCES)
def test_translations(bad: str) -> None:
    translations, references, said = BAD_SENTENCES[bad]
    with pytest.raises(ReaderError, match=said):
        translation_metrics.score_translations(translations, references, "en")
    with pytest.raises(ReaderError, match=said):
        translation_metrics.compare_bleu(translations, translations, references, "en")


def test_a_language_without_a_tokenizer_is_named() -> None:
    with pytest.raises(ReaderError, match="there is no target language for BLEU 'th'"):
        translation_metrics.score_translations(SENTENCES, SENTENCES, "th")


BAD_TEXTS = {
    "empty": ([], 2, "no texts"),
    "all too short": (["a", "b"], 2, "none of the 2 texts has 2 tokens"),
    "one string": ("a text", 2, "one string"),
    "NaN": (["a text", math.nan], 2, "text number 1 is nan"),
    "no n": (["a text"], 0, "n must be 1 or more"),
}


@pytest.mark.parametrize("metric", [diversity.distinct_n, diversity.repetition])
@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_variety(metric: Call, bad: str) -> None:
    texts, n, said = BAD_TEXTS[bad]
    with pytest.raises(ReaderError, match=said):
        metric(texts, n)


BAD_LOGARITHMS = {
    "empty": ([], "no log-probabilities"),
    "NaN": ([-1.0, math.nan], "not finite"),
    "impossible token": ([-1.0, -math.inf], "not finite"),
    "losses": ([1.0, 2.0], "above 0"),
}


@pytest.mark.parametrize("metric", [perplexity.perplexity, lambda some: perplexity.bits_per_character(some, 5)])
@pytest.mark.parametrize("bad", BAD_LOGARITHMS)
def test_perplexity(metric: Call, bad: str) -> None:
    values, said = BAD_LOGARITHMS[bad]
    with pytest.raises(ReaderError, match=said):
        metric(values)


def test_perplexity_of_no_text() -> None:
    with pytest.raises(ReaderError, match="0 characters"):
        perplexity.bits_per_character([-1.0], 0)
    with pytest.raises(ReaderError, match="no tokens to predict"):
        KneserNey([[0, 1, 1]], 2, 2).perplexity([[]])


BAD_SCORES = {"empty": [], "one": [1.0], "NaN": [1.0, math.nan], "infinite": [1.0, math.inf]}


@pytest.mark.parametrize("bad", BAD_SCORES)
def test_a_bootstrap(bad: str) -> None:
    with pytest.raises(ReaderError):
        intervals.bootstrap_interval(BAD_SCORES[bad])


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share(hits: int, count: int) -> None:
    with pytest.raises(ReaderError):
        intervals.wilson_interval(hits, count)


@pytest.mark.parametrize(
    ("cast", "said"),
    [([], "no votes"), (["tie", "tie"], "all 2 votes are ties"), (["win", None], "a vote is None")],
)
def test_votes(cast: list[str], said: str) -> None:
    with pytest.raises(ReaderError, match=said):
        votes.win_rate(cast)


@pytest.mark.parametrize("method", multiple_testing.METHODS)
@pytest.mark.parametrize(
    ("p_values", "said"), [([], "no p-values"), ([0.1, math.nan], "not finite"), ([0.1, 1.2], "from 0 to 1")]
)
def test_corrections(method: str, p_values: list[float], said: str) -> None:
    with pytest.raises(ReaderError, match=said):
        multiple_testing.adjust_p_values(p_values, method)


def test_an_unknown_correction_is_named() -> None:
    with pytest.raises(ReaderError, match="there is no correction 'bonferroni'"):
        multiple_testing.adjust_p_values([0.1], "bonferroni")


def test_no_poems() -> None:
    with pytest.raises(ReaderError, match="at least one example"):
        judge_forms([])
    with pytest.raises(ReaderError, match="at least one example"):
        share_in_form([], "7-7")


@pytest.mark.slow
def test_a_clip_score() -> None:
    from aigc_helpers.evaluation import clip_score
    from aigc_helpers.images import load_clip

    clip = load_clip()
    pictures = numpy.zeros((2, 64, 64, 3), numpy.uint8)
    for bad, captions, said in (
        (pictures[:0], [], "no predictions"),
        (pictures, ["tiger"], "1 predictions for 2 references"),
        (pictures[:, :32], ["tiger", "owl"], "tiny-CLIP takes uint8"),
        (pictures / 255, ["tiger", "owl"], "tiny-CLIP takes uint8"),
    ):
        with pytest.raises(ReaderError, match=said):
            clip_score(*clip, bad, captions)
