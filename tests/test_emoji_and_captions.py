"""Pictures and captions must state the same facts, and no background may slip from testing into training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, strategies as st

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.images import (
    BASE_STYLES,
    COLOURS,
    HELD_OUT_CONCEPTS,
    STYLES,
    EmojiSet,
    background,
    held_out_colours,
    load_emoji,
    training_colours,
)
from aigc_helpers.images.backgrounds import compose


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji()


@given(st.text(max_size=20))
def test_two_backgrounds_are_held_out_and_eight_are_for_training(name: str) -> None:
    held_out, training = held_out_colours(name), training_colours(name)
    assert (len(set(held_out)), len(set(training))) == (2, 8)
    assert set(held_out) | set(training) == set(COLOURS)


def test_held_out_backgrounds_stay_those_that_the_shipped_models_never_saw() -> None:
    assert [held_out_colours(name) for name in ("tiger", "koala", "mans-shoe")] == [
        ("green", "blue"),
        ("blue", "pink"),
        ("pink", "white"),
    ]


def test_every_background_is_held_out_for_about_a_fifth_of_the_concepts(emoji: EmojiSet) -> None:
    counts = Counter(colour for name in emoji.names for colour in held_out_colours(name))
    assert all(0.16 < counts[colour] / len(emoji.names) < 0.24 for colour in COLOURS)


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4), st.sampled_from(COLOURS))
def test_a_pixel_lies_between_drawing_and_background_by_its_opacity(pixel: list[int], colour: str) -> None:
    *drawn, opacity = pixel
    composed = compose(np.array([[pixel]], dtype=np.uint8), colour)[0, 0]
    exact = [
        (here * opacity + behind * (255 - opacity)) / 255
        for here, behind in zip(drawn, background(colour).rgb, strict=True)
    ]
    assert np.abs(composed - np.array(exact)).max() <= 0.5


def test_pictures_and_captions_state_the_same_facts(emoji: EmojiSet) -> None:
    tiger = emoji.number_of["tiger"]
    assert emoji.caption(tiger, "noto", "blue", "en") == "tiger, noto style, blue background"
    assert emoji.caption(tiger, "noto", "blue", "zh") == "老虎，noto 风格，蓝色背景"
    picture = emoji.picture(tiger, "twemoji", "blue")
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    drawing = emoji.drawings[tiger, STYLES.index("twemoji")]
    assert (picture[drawing[..., 3] == 0] == background("blue").rgb).all()
    assert (picture[drawing[..., 3] == 255] == drawing[drawing[..., 3] == 255][:, :3]).all()


def test_a_choice_keeps_its_order_and_its_drawings(emoji: EmojiSet) -> None:
    chosen = emoji.only(("tiger", "crab"))
    assert (chosen.names, chosen.english, chosen.chinese) == (("tiger", "crab"), ("tiger", "crab"), ("老虎", "蟹"))
    assert (chosen.drawings[1] == emoji.drawings[emoji.number_of["crab"]]).all()
    with pytest.raises(UnknownNameError, match="'tigre'. Valid: tiger,"):
        emoji.only(("tigre",))


def test_what_is_left_for_loras_exists(emoji: EmojiSet) -> None:
    assert len(set(HELD_OUT_CONCEPTS)) == 10
    assert set(HELD_OUT_CONCEPTS) <= set(emoji.names)
    assert set(STYLES) - set(BASE_STYLES) == {"fluent"}
