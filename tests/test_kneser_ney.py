"""The n-gram baseline: a model by hand, probabilities that sum to one, and the faults it names."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import example, given, settings, strategies as st

from aigc_helpers.errors import ReaderError
from aigc_helpers.metrics import KneserNey

A, B, C = 0, 1, 2
SEQUENCES = st.lists(st.lists(st.integers(0, 4), max_size=8), min_size=1, max_size=6).filter(any)


def test_a_bigram_model_by_hand():
    # Two texts, "a b" and "a c"; discount 1/2.
    # Bigrams: (begin a) 2, (a b) 1, (a c) 1. So a is preceded by 1 token, b by 1, c by 1: 3 in all.
    # Unigram order: each (1 - 1/2) / 3, and what the discounts spared, 3/2 of 3, times 1/3: 1/6 + 1/6 = 1/3.
    # After a: b and c each (1 - 1/2) / 2 + (1/2 + 1/2) / 2 * 1/3 = 1/4 + 1/6 = 5/12, a 1/6.
    # At the beginning: a (2 - 1/2) / 2 + (1/2) / 2 * 1/3 = 3/4 + 1/12 = 5/6, b and c 1/12.
    model = KneserNey([[A, B], [A, C]], order=2, vocabulary_size=3, discount=0.5)
    assert model.distribution([A]) == pytest.approx([1 / 6, 5 / 12, 5 / 12])
    assert model.distribution([]) == pytest.approx([5 / 6, 1 / 12, 1 / 12])
    # b was never followed by anything: the unigram order alone.
    assert model.distribution([B]) == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert model.log_probabilities([A, B]) == pytest.approx([math.log(5 / 6), math.log(5 / 12)])
    assert model.perplexity([[A, B]]) == pytest.approx((5 / 6 * 5 / 12) ** -0.5)


def test_lower_orders_count_different_predecessors_not_occurrences():
    # "c" comes five times, but only ever after "b"; "a" comes three times, after three different tokens.
    sequences = [[B, C]] * 5 + [[A], [B, A], [C, A]]
    unigrams = KneserNey(sequences, order=2, vocabulary_size=4, discount=0.5)
    after_unknown = unigrams.distribution([3])
    assert after_unknown[A] > after_unknown[C]


def test_a_trigram_keeps_what_stood_at_the_beginning():
    # Half of the texts begin with "a b", always followed by c; elsewhere "a b" is followed by "a".
    sequences = [[A, B, C]] * 10 + [[C, A, B, A]] * 10
    model = KneserNey(sequences, order=3, vocabulary_size=3, discount=0.5)
    assert model.distribution([])[A] == pytest.approx(0.5, abs=0.05)
    assert model.distribution([A])[B] > 0.8


def test_a_unigram_model_gives_the_shares():
    model = KneserNey([[A, A, A, B]], order=1, vocabulary_size=2, discount=0.0)
    assert model.distribution([]) == pytest.approx([0.75, 0.25])
    assert model.perplexity([[A, B]]) == pytest.approx((0.75 * 0.25) ** -0.5)


@settings(max_examples=60, deadline=None)
@given(SEQUENCES, st.lists(st.integers(0, 4), max_size=5), st.integers(1, 4), st.sampled_from([None, 0.3, 0.75]))
# So few counts that the estimate of a discount is below 0.
@example([[0], [0, 0, 0], [0, 0, 0, 0, 1]], [0], 3, None)
def test_probabilities_sum_to_one_and_none_is_zero(sequences, context, order, discount):
    distribution = KneserNey(sequences, order, 5, discount).distribution(context)
    assert distribution.sum() == pytest.approx(1.0)
    assert (distribution > 0).all()


@settings(max_examples=30, deadline=None)
@given(SEQUENCES, st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(1, 4))
def test_a_sequence_is_the_product_of_its_distributions(sequences, sequence, order):
    model = KneserNey(sequences, order, 5)
    one_by_one = [math.log(model.distribution(sequence[:end])[token]) for end, token in enumerate(sequence)]
    assert model.log_probabilities(sequence) == pytest.approx(numpy.array(one_by_one))


def test_more_context_helps_where_there_is_a_rule():
    generator = numpy.random.default_rng(0)
    cycle = [[int(start + step) % 7 for step in range(12)] for start in generator.integers(0, 7, size=40)]
    perplexities = [KneserNey(cycle, order, 7).perplexity(cycle) for order in (1, 2)]
    assert perplexities[1] < 1.5 < 6 < perplexities[0]


@pytest.mark.parametrize(
    ("sequences", "order", "vocabulary_size", "message"),
    [
        ([], 2, 3, "no tokens to count"),
        ([[]], 2, 3, "no tokens to count"),
        ([[3]], 2, 3, "token ids from 3 to 3 for 3 tokens"),
        ([[-1]], 2, 3, "token ids from -1"),
        ([[0]], 0, 3, "order of 0"),
        ([[0]], 5, 10_000, "64 bits"),
    ],
)
def test_what_cannot_be_counted_is_refused(sequences, order, vocabulary_size, message):
    with pytest.raises(ReaderError, match=message):
        KneserNey(sequences, order, vocabulary_size)
