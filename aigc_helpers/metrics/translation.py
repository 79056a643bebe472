"""BLEU and chrF through sacreBLEU, cut into words as the target language needs it, with intervals.

Texts are compared as they are; normalise dates or width of characters before, if that is to count as equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from aigc_helpers.compat import counts_by_sentence, score_of_counts
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.metrics.intervals import Interval
from aigc_helpers.metrics.refusals import check_pairs

# By target language; Chinese has no spaces, so each of its characters counts as a word.
TOKENIZERS = {"en": "13a", "zh": "zh"}


@dataclass(frozen=True)
class TranslationScores:
    """Scores of a set of translations.

    Attributes:
        bleu: of the whole set, 0 to 100 (Papineni et al. 2002), with its 95 % bootstrap interval.
        chrf: likewise (Popović 2015).
        exact: the share of translations equal to their reference, 0 to 1.
        signature: sacreBLEU's settings of ``bleu``; without them the number means little (Post 2018).
    """

    bleu: Interval
    chrf: Interval
    exact: float
    signature: str


def score_translations(
    translations: Sequence[str], references: Sequence[str], language: str, resamples: int = 1000, seed: int = 0
) -> TranslationScores:
    """Score translations, one reference each. An empty translation is allowed and scores 0.

    Args:
        translations: into ``language``.
        references: what each should be.
        language: ``"en"`` or ``"zh"``; decides how BLEU counts words.
        resamples: how often the pairs are drawn anew for the intervals.
        seed: of that drawing.

    Raises:
        ReaderError: no pairs, unequal counts, a text that is no string, an empty reference, or references that all
            have fewer than four words: BLEU would be 0 whatever the translations.
        UnknownNameError: another language.

    Example:
        >>> scores = score_translations(["三杯绿茶", "一杯水"], ["三杯绿茶", "两杯水"], "zh", resamples=100)
        >>> scores.exact, scores.bleu.low <= scores.bleu.mean <= scores.bleu.high
        (0.5, True)
    """
    _check(translations, references, language)
    bleu = BLEU(tokenize=TOKENIZERS[language])
    bleu_interval = _interval(bleu, translations, references, resamples, seed)
    chrf_interval = _interval(CHRF(), translations, references, resamples, seed)
    exact = sum(map(str.__eq__, translations, references)) / len(references)
    return TranslationScores(bleu_interval, chrf_interval, exact, str(bleu.get_signature()))


@dataclass(frozen=True)
class BleuComparison:
    """Two systems on the same sentences.

    Attributes:
        difference: BLEU of the tuned system minus that of the base, with the 95 % interval of the paired bootstrap.
        p_value: two-sided, of no difference (Koehn 2004), with 1 added to both counts so that it is never 0.
    """

    difference: Interval
    p_value: float


def compare_bleu(
    base: Sequence[str],
    tuned: Sequence[str],
    references: Sequence[str],
    language: str,
    resamples: int = 1000,
    seed: int = 0,
) -> BleuComparison:
    """Compare two systems' BLEU by a paired bootstrap: both are scored on the same drawn sentences.

    Args:
        base: translations.
        tuned: translations of the same sentences.
        references: what each should be.
        language: as for ``score_translations``.
        resamples: how often the sentences are drawn anew.
        seed: of that drawing.

    Raises:
        ReaderError: as ``score_translations``.
        UnknownNameError: another language.

    Example:
        >>> references = ["three cups of green tea", "a glass of cold water"]
        >>> base = ["three cup of tea", "a glass of water"]
        >>> comparison = compare_bleu(base, tuned=references, references=references, language="en", resamples=100)
        >>> comparison.difference.mean > 0
        True
    """
    for translations in (base, tuned):
        _check(translations, references, language)
    bleu = BLEU(tokenize=TOKENIZERS[language])
    before, after = (_resampled(bleu, each, references, resamples, seed) for each in (base, tuned))
    difference = after[0] - before[0]
    differences = after[1] - before[1]
    low, high = numpy.percentile(differences, [2.5, 97.5])
    on_the_other_side = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (float(on_the_other_side) + 1) / (resamples + 1))
    return BleuComparison(Interval(difference, float(low), float(high)), p_value)


def _interval(
    metric: Metric, translations: Sequence[str], references: Sequence[str], resamples: int, seed: int
) -> Interval:
    score, drawn = _resampled(metric, translations, references, resamples, seed)
    low, high = numpy.percentile(drawn, [2.5, 97.5])
    return Interval(score, float(low), float(high))


def _resampled(
    metric: Metric, translations: Sequence[str], references: Sequence[str], resamples: int, seed: int
) -> tuple[float, numpy.ndarray]:
    """Return the score of the set, and those of resampled sets.

    sacreBLEU keeps counts per sentence and adds them up; its own bootstrap gives only the half width of an interval,
    and takes its seed from the environment.
    """
    score = metric.corpus_score(list(translations), [list(references)]).score
    counts = numpy.array(counts_by_sentence(metric, translations, references))
    chosen = numpy.random.default_rng(seed).integers(len(references), size=(resamples, len(references)))
    drawn = [score_of_counts(metric, counts[rows].sum(axis=0).tolist()) for rows in chosen]
    return float(score), numpy.array(drawn)


def _check(translations: Sequence[str], references: Sequence[str], language: str) -> None:
    if language not in TOKENIZERS:
        raise UnknownNameError("target language for BLEU", language, TOKENIZERS)
    for what, texts in (("translations", translations), ("references", references)):
        if isinstance(texts, str):
            raise ReaderError(f"the {what} are one string; give a list of strings, one per sentence.")
    check_pairs(translations, references)
    for what, texts in (("translation", translations), ("reference", references)):
        wrong = next((number for number, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise ReaderError(f"{what} number {wrong} is {texts[wrong]!r}, not a string.")
    empty = next((number for number, text in enumerate(references) if not text.strip()), None)
    if empty is not None:
        raise ReaderError(f"reference number {empty} is empty: nothing can be compared with it. Leave out its pair.")
    bleu = BLEU(tokenize=TOKENIZERS[language])
    if all(len(bleu.tokenizer(text).split()) < bleu.max_ngram_order for text in references):
        raise ReaderError(
            f"no reference has {bleu.max_ngram_order} words, and BLEU counts sequences of up to so many: it would be 0 "
            "even for perfect translations. Use the share of exact ones, or chrF from sacreBLEU itself."
        )
