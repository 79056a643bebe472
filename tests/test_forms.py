"""Whether a text keeps its form has a known right answer, on both profiles; the chapter on forms counts by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aigc_helpers.profile import choose_profile
from aigc_helpers.text import in_lines, line_lengths, load_forms, load_known_texts


@pytest.fixture(params=["embedded", "full"])
def profile(request: pytest.FixtureRequest) -> Iterator[str]:
    choose_profile(request.param)
    yield request.param
    choose_profile("embedded")


def test_every_text_keeps_its_own_form_and_no_other(profile: str) -> None:
    forms = load_forms()
    assert len(forms) == 3
    for form in forms:
        assert 300 <= len(form.train) <= 500 and len(form.test) >= 25
        for text in form.train + form.test:
            assert [other.name for other in forms if other.keeps(text)] == [form.name]
        assert not set(form.train) & set(form.test)
        assert form.label.isascii() and "." not in form.name, "names a PEFT adapter, and a folder"


def test_what_the_base_knows_keeps_none_of_the_forms(profile: str) -> None:
    known = load_known_texts()
    assert len(known) == 200
    assert not any(form.keeps(text) for form in load_forms() for text in known)


def test_fewer_texts_are_the_first_of_more(profile: str) -> None:
    for few, many in zip(load_forms(10), load_forms(20), strict=True):
        assert few.train == many.train[:10]
    assert load_known_texts(3) == load_known_texts(5)[:3]


@pytest.mark.parametrize("asked", ["embedded", "full"])
def test_a_profile_that_is_named_counts_and_not_the_one_in_force(profile: str, asked: str) -> None:
    form = load_forms(20, asked)[0]
    assert form.name == {"embedded": "浣溪沙", "full": "3-words"}[asked]
    assert all(map(form.keeps, form.train))
    assert load_known_texts(1, asked)[0].isascii() == (asked == "full")


def test_lines_of_verse_are_counted_in_characters() -> None:
    assert line_lengths("春眠不觉晓，处处闻啼鸟。") == "5-5"
    assert in_lines("春眠不觉晓，处处闻啼鸟。") == "春眠不觉晓，\n处处闻啼鸟。"
    for nothing in ("", "春眠不觉晓", "spring"):
        assert line_lengths(nothing) == "" and in_lines(nothing) == nothing


def test_lines_of_prose_are_counted_in_words() -> None:
    choose_profile("full")
    try:
        three = next(form for form in load_forms() if form.name == "3-words")
        assert line_lengths("one two three\nfour five six\n") == "3-3"
        assert three.keeps("one two three\n" * 3)
        for wrong in ("", "one two three\n" * 2, "one two three\n" * 3 + "four", "one two three four five six"):
            assert not three.keeps(wrong)
    finally:
        choose_profile("embedded")
