"""The grammar's pairs: the same from the same seed, no pair in two splits, no source with two right answers.

A pair in training and test would make memory look like skill; a source with two answers could not be got right.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.text import PREFIXES, draw_pairs, to_examples
from aigc_helpers.text.translation import SPLITS

PARTS = ("number", "date", "time", "quantity", "price")


@given(st.sampled_from(PARTS), st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_same_seed_gives_the_same_pairs_of_the_right_split(part: str, seed: int) -> None:
    for split in SPLITS:
        pairs = draw_pairs(part, split, 5, seed)
        assert pairs == draw_pairs(part, split, 5, seed) and len(set(pairs)) == 5
        assert {pair.split for pair in pairs} == {split}


def test_every_source_has_one_right_answer() -> None:
    answers: dict[str, str] = {}
    for part in PARTS:
        for example in to_examples(draw_pairs(part, "train", 1000)):
            assert answers.setdefault(example.source, example.target) == example.target, example


def test_about_one_pair_in_twenty_is_for_the_test() -> None:
    train, test = (draw_pairs("quantity", split, 200) for split in ("train", "test"))
    assert not {pair.chinese for pair in test} & {pair.chinese for pair in train}
    from aigc_helpers.text.translation import Pair

    shares = [Pair(f"{number}", f"{number}").split for number in range(2000)]
    assert 60 < shares.count("test") < 140 and 60 < shares.count("validation") < 140


def test_figures_go_one_way_only() -> None:
    examples = to_examples(draw_pairs("price", "train", 50))
    into_english = [example for example in examples if example.language == "en"]
    assert 0 < len(into_english) < 50
    assert not any(character.isdigit() for example in into_english for character in example.target)
    assert all(example.source.startswith(PREFIXES[example.language]) for example in examples)


def test_the_old_domain_has_no_price_in_it() -> None:
    texts = "".join(pair.english + pair.chinese for pair in draw_pairs("old", "train", 2000))
    assert not set("壹贰叁肆伍陆柒捌玖拾佰仟元角整") & set(texts) and "yuan" not in texts


def test_wrong_names_and_counts_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="price"):
        draw_pairs("prices", "train", 1)
    with pytest.raises(UnknownNameError, match="test"):
        draw_pairs("price", "tests", 1)
    with pytest.raises(ReaderError, match="1 or more"):
        draw_pairs("price", "train", 0)
    with pytest.raises(ReaderError, match="Ask for fewer"):
        draw_pairs("time", "test", 500)
