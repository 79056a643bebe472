"""Distinct-n, repetition and perplexity against what can be counted by hand; their traps are told in chapter 12."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.metrics import bits_per_character, distinct_n, perplexity, repetition

texts = st.lists(st.text("ab", min_size=3, max_size=8), min_size=1, max_size=6)


def test_grams_are_counted_within_texts_and_compared_across_them() -> None:
    assert distinct_n(["abab", "abc"], 2) == 3 / 5  # ab, ba, ab, ab, bc
    assert repetition(["abab", "abc"], 2) == pytest.approx(1 / 5)  # the second ab of the first text
    assert distinct_n([["a", "b"], ["b", "a"]], 1) == 0.5
    assert repetition([["a", "b"], ["b", "a"]], 1) == 0


@settings(deadline=None)
@given(texts, st.integers(1, 3))
def test_both_are_shares_and_twice_the_texts_halve_distinct_n(some: list[str], n: int) -> None:
    assert 0 < distinct_n(some, n) <= 1
    assert 0 <= repetition(some, n) < 1
    assert distinct_n(some * 2, n) == pytest.approx(distinct_n(some, n) / 2)
    assert repetition(some * 2, n) == pytest.approx(repetition(some, n))


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(2, 1000))
def test_an_even_guess_among_k_tokens_has_perplexity_k(count: int, choices: int) -> None:
    logarithms = [-math.log(choices)] * count
    assert perplexity(logarithms) == pytest.approx(choices)
    assert bits_per_character(logarithms, count) == pytest.approx(math.log2(choices))


@settings(deadline=None)
@given(st.lists(st.floats(-10, 0), min_size=2, max_size=20))
def test_joining_tokens_changes_perplexity_but_not_bits_per_character(logarithms: list[float]) -> None:
    joined = [logarithms[0] + logarithms[1], *logarithms[2:]]  # The same text, its first two tokens in one.
    assert bits_per_character(joined, 40) == pytest.approx(bits_per_character(logarithms, 40))
    expected = perplexity(logarithms) ** (len(logarithms) / len(joined))
    assert perplexity(joined) == pytest.approx(expected)
