"""A number in words and in figures is the same number, and an amount in capitals is written in one way only.

The chapter on translation calls every answer right or wrong by these functions; if they were wrong, so would be all of
its scores.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from aigc_helpers.errors import ReaderError
from aigc_helpers.text import CAPITAL_DIGITS, CAPITAL_TENS, figures_amount, parse_capital_amount
from aigc_helpers.text.numerals import (
    LARGEST_AMOUNT,
    LARGEST_NUMBER,
    capital_amount,
    chinese_number,
    english_amount,
    english_number,
)

amounts = st.integers(1, LARGEST_AMOUNT)
numbers = st.integers(0, LARGEST_NUMBER)


@given(amounts)
def test_capitals_read_back_are_the_same_amount(fen: int) -> None:
    assert parse_capital_amount(capital_amount(fen)) == fen


@given(amounts)
def test_capitals_keep_the_rules_of_cheques(fen: int) -> None:
    text = capital_amount(fen)
    assert set(text) <= set(CAPITAL_DIGITS + CAPITAL_TENS + "元角分整")
    assert text.endswith("整") == (fen % 100 == 0)
    assert "零零" not in text and not text.startswith("零") and not re.search("零[元角整]", text)
    assert not re.search("(?<![壹贰叁肆伍陆柒捌玖])[拾佰仟角分]", text), "every unit has its numeral"
    assert not re.search("元[^零整]分", text), "a missing 角 leaves 零"


# The examples of the rule itself (Payment and Settlement Measures, annex 1), in the variant that is written here.
@pytest.mark.parametrize(
    ("fen", "written"),
    [
        (140950, "壹仟肆佰零玖元伍角"),
        (600714, "陆仟零柒元壹角肆分"),
        (168032, "壹仟陆佰捌拾元叁角贰分"),
        (32504, "叁佰贰拾伍元零肆分"),
        (1000, "壹拾元整"),
        (12345, "壹佰贰拾叁元肆角伍分"),
        (5, "伍分"),
        (10, "壹角"),
    ],
)
def test_amounts_are_written_as_the_rule_says(fen: int, written: str) -> None:
    assert capital_amount(fen) == written


@pytest.mark.parametrize("text", ["壹佰元", "壹佰元伍分", "拾元整", "壹佰元伍角整", "", "整", "零元整", "壹佰伍元整"])
def test_capitals_against_the_rules_are_refused(text: str) -> None:
    with pytest.raises(ReaderError, match="is written|is no amount"):
        parse_capital_amount(text)


@given(st.text())
def test_any_other_text_is_refused_and_never_crashes(text: str) -> None:
    try:
        fen = parse_capital_amount(text)
    except ReaderError:
        return
    assert capital_amount(fen) == text


@given(st.text(alphabet=CAPITAL_DIGITS + CAPITAL_TENS + "元角分整"))
def test_what_is_accepted_is_exactly_what_is_written(text: str) -> None:
    try:
        fen = parse_capital_amount(text)
    except ReaderError:
        return
    assert capital_amount(fen) == text


@given(st.lists(numbers, min_size=2, max_size=2, unique=True))
def test_different_numbers_are_written_differently(pair: list[int]) -> None:
    for write in (english_number, chinese_number):
        assert write(pair[0]) != write(pair[1])


@pytest.mark.parametrize(
    ("number", "english", "chinese"),
    [
        (0, "zero", "零"),
        (10, "ten", "十"),
        (15, "fifteen", "十五"),
        (20, "twenty", "二十"),
        (105, "one hundred and five", "一百零五"),
        (115, "one hundred and fifteen", "一百一十五"),
        (1005, "one thousand and five", "一千零五"),
        (1050, "one thousand and fifty", "一千零五十"),
        (1234, "one thousand two hundred and thirty-four", "一千二百三十四"),
        (9900, "nine thousand nine hundred", "九千九百"),
    ],
)
def test_numbers_are_written_as_people_write_them(number: int, english: str, chinese: str) -> None:
    assert (english_number(number), chinese_number(number)) == (english, chinese)


def test_amounts_in_english() -> None:
    assert english_amount(12345) == "one hundred and twenty-three yuan and forty-five fen"
    assert english_amount(100) == "one yuan" and english_amount(7) == "seven fen"
    assert figures_amount(12345) == "123.45 yuan" and figures_amount(7) == "0.07 yuan"


@pytest.mark.parametrize("write", [capital_amount, english_amount, figures_amount])
@pytest.mark.parametrize("fen", [0, -1, LARGEST_AMOUNT + 1])
def test_amounts_out_of_range_are_refused(write: object, fen: int) -> None:
    with pytest.raises(ReaderError, match="it has to lie from 1"):
        write(fen)


@pytest.mark.parametrize("write", [english_number, chinese_number])
@pytest.mark.parametrize("number", [-1, LARGEST_NUMBER + 1])
def test_numbers_out_of_range_are_refused(write: object, number: int) -> None:
    with pytest.raises(ReaderError, match="it has to lie from 0"):
        write(number)
