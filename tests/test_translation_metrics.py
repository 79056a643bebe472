"""BLEU counts words as the language has them, agrees with sacreBLEU, and says how sure it is."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings, strategies as st

from aigc_helpers.metrics import compare_bleu, score_translations

words = st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "big", "small"])
sentences = st.lists(words, min_size=4, max_size=9).map(" ".join)
corpora = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6)


@settings(deadline=None, max_examples=30)
@given(st.lists(sentences, min_size=1, max_size=6))
def test_identical_texts_score_100(texts: list[str]) -> None:
    scores = score_translations(texts, texts, "en", resamples=20)
    assert (scores.bleu.mean, scores.bleu.low, scores.chrf.mean, scores.exact) == pytest.approx((100, 100, 100, 1))


@settings(deadline=None, max_examples=30)
@given(corpora)
def test_the_scores_are_sacrebleus(pairs: list[tuple[str, str]]) -> None:
    translations, references = map(list, zip(*pairs, strict=True))
    scores = score_translations(translations, references, "en", resamples=20)
    assert scores.bleu.mean == pytest.approx(sacrebleu.corpus_bleu(translations, [references]).score)
    assert scores.chrf.mean == pytest.approx(sacrebleu.corpus_chrf(translations, [references]).score)


def test_chinese_is_counted_by_the_character() -> None:
    translation, reference = ["二〇二六年三月五日星期四"], ["二〇二六年三月六日星期五"]
    assert score_translations(translation, reference, "zh").bleu.mean > 40
    # Cut at spaces, a Chinese sentence is one word, right or wrong as a whole.
    assert sacrebleu.corpus_bleu(translation, [reference], tokenize="13a").score == 0
    assert "tok:zh" in score_translations(translation, reference, "zh").signature


def test_an_empty_translation_counts_and_costs() -> None:
    references = ["the cat sat on the mat", "the dog ran under the tree"]
    with_hole = score_translations([references[0], ""], references, "en")
    assert 0 < with_hole.bleu.mean < 70 and with_hole.exact == 0.5


def test_the_interval_contains_the_score_and_repeats_with_its_seed() -> None:
    references = [f"number {one} stands on the old tree" for one in "abcdefghij"]
    translations = [text if place % 2 else text.replace("old", "big") for place, text in enumerate(references)]
    scores = score_translations(translations, references, "en", seed=1)
    assert scores.bleu.low < scores.bleu.mean < scores.bleu.high
    assert scores == score_translations(translations, references, "en", seed=1)
    few = [score_translations(translations, references, "en", resamples=9, seed=seed).bleu for seed in range(4)]
    assert len(set(few)) > 1


def test_a_paired_comparison_sees_what_is_there_and_nothing_where_there_is_nothing() -> None:
    references = [f"number {one} stands on the old tree" for one in "abcdefghijklmnopqrst"]
    worse = [text.replace("old", "big") for text in references]
    better = compare_bleu(worse, references, references, "en")
    assert better.difference.low > 0 and better.p_value < 0.01
    mirrored = compare_bleu(references, worse, references, "en")
    assert mirrored.difference.mean == pytest.approx(-better.difference.mean)
    same = compare_bleu(worse, worse, references, "en")
    assert (same.difference.mean, same.p_value) == (0, 1)
