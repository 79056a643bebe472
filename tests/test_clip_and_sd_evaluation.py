"""The figures on the cards come from here: a measure must give 1 to the truth, and little to what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_helpers.errors import ReaderError
from aigc_helpers.evaluation import clip, drawings, sd
from aigc_helpers.images import (
    BASE_STYLES,
    COLOURS,
    EmojiSet,
    Facts,
    held_out_colours,
    in_sepia,
    load_emoji,
    load_pipeline,
    read_shown_in_training,
)

pytestmark = pytest.mark.slow

PICTURES = 40


@pytest.fixture(scope="module")
def tiny_clip():
    return clip.load_clip()


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji().only(read_shown_in_training().concepts)


@pytest.fixture(scope="module")
def references(emoji: EmojiSet, tiny_clip) -> drawings.References:
    return drawings.References(emoji, tiny_clip[0])


@pytest.fixture(scope="module")
def facts(emoji: EmojiSet) -> list[Facts]:
    """Return facts in both styles on two backgrounds, so that few references have to be drawn."""
    return [Facts(number, BASE_STYLES[number % 2], ("red", "cyan")[number // 2 % 2]) for number in range(PICTURES)]


def pictures_of(emoji: EmojiSet, facts: list[Facts]) -> np.ndarray:
    return np.stack([emoji.picture(*fact) for fact in facts])


def means(figures: dict) -> dict[str, float]:
    return {name: value["mean"] for name, value in figures.items() if isinstance(value, dict)}


def test_pictures_that_are_the_truth_are_right_in_every_respect(emoji, references, facts) -> None:
    figures = drawings.judge(pictures_of(emoji, facts), facts, references, BASE_STYLES)
    assert set(means(figures).values()) == {1.0}
    assert set(means(figures)) == {
        "concept by tiny-CLIP",
        "concept by pixels",
        "style by tiny-CLIP",
        "style by pixels",
        "background",
    }


def test_each_measure_sees_its_own_mistake(emoji, references, facts) -> None:
    other = {"noto": "twemoji", "twemoji": "noto", "red": "cyan", "cyan": "red"}
    wrong = {
        "concept": [fact._replace(concept=fact.concept + 1) for fact in facts],
        "style": [fact._replace(style=other[fact.style]) for fact in facts],
        "background": [fact._replace(colour=other[fact.colour]) for fact in facts],
    }
    for what, drawn in wrong.items():
        figures = means(drawings.judge(pictures_of(emoji, drawn), facts, references, BASE_STYLES))
        for name in figures:
            if name.startswith(what):
                assert figures[name] <= 0.1, name
        if what != "background":
            assert figures["background"] == 1.0


def test_a_computed_look_is_told_from_the_styles_that_it_was_computed_from(emoji, references, facts) -> None:
    styles = (*BASE_STYLES, "sepia")
    asked = [fact._replace(style="sepia") for fact in facts]
    plain = pictures_of(emoji, [fact._replace(style=BASE_STYLES[0]) for fact in facts])
    figures = drawings.judge(in_sepia(plain), asked, references, styles)
    assert set(means(figures).values()) == {1.0}
    assert "background" not in figures, "a look changes the background, too"
    assert means(drawings.judge(plain, asked, references, styles))["style by tiny-CLIP"] == 0.0


def test_a_background_that_the_drawing_hides_is_not_judged(emoji, tiny_clip) -> None:
    everything = load_emoji().only(("face-in-clouds", "tiger", "crab"))
    number, style = everything.number_of["face-in-clouds"], "fluent"
    assert (everything.drawings[number, 2, 0, :, 3] > 0).all()
    shown = [Facts(number, style, "red"), Facts(number, style, "blue")]
    shown += [
        Facts(everything.number_of["tiger"], style, "red"),
        Facts(everything.number_of["crab"], style, "red"),
    ]
    figures = drawings.judge(
        pictures_of(everything, shown), shown, drawings.References(everything, tiny_clip[0]), ("noto", style)
    )
    assert figures["pictures without enough border for the background"] == 2
    assert figures["background"]["mean"] == 1.0


@pytest.mark.slow
def test_a_whole_evaluation_holds_all_four_sets_and_the_autoencoder() -> None:
    figures = sd.evaluate_sd(pictures=2)
    assert json.loads(json.dumps(figures)) == figures
    for name in ("pairs seen", "pairs never seen"):
        assert set(figures[name]) == {"en", "zh"}
    assert figures["autoencoder PSNR in dB"]["concepts and styles of the base"] > 20


@pytest.mark.parametrize("pictures", [1, 10**6])
def test_a_set_of_impossible_size_is_refused(pictures: int) -> None:
    with pytest.raises(ReaderError, match=f"{pictures} pictures per set are not possible: 2 to "):
        sd.evaluate_sd(pictures=pictures)


@pytest.mark.slow
def test_the_contact_sheet_shows_64_different_pictures(tmp_path: Path) -> None:
    assert len(set(sd.SHEET_CONCEPTS.split())) == 64
    assert set(sd.SHEET_CONCEPTS.split()) <= set(read_shown_in_training().concepts)
    try:
        sd.contact_sheet(load_pipeline(), tmp_path / "sheet.webp")
    except ReaderError as error:
        pytest.skip(str(error))
    sheet = np.asarray(Image.open(tmp_path / "sheet.webp"))
    height, width = sheet.shape[0] // 8, sheet.shape[1] // 8
    # The upper left of each field, without its caption.
    fields = {
        sheet[row * height : row * height + 130, column * width : (column + 1) * width].tobytes()
        for row in range(8)
        for column in range(8)
    }
    assert len(fields) == 64


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch(tiny_clip, emoji) -> None:
    model, tokenizer = tiny_clip
    pictures = np.stack([emoji.picture(number, "noto", "blue") for number in range(300)])
    captions = [emoji.caption(number, "noto", "blue", ("en", "zh")[number % 2]) for number in range(300)]
    for embed, inputs in ((lambda some: clip.embed_pictures(model, some), pictures),) + (
        (lambda some: clip.embed_captions(model, tokenizer, some), captions),
    ):
        together = embed(inputs)
        assert torch.allclose(together.norm(dim=1), torch.ones(300), atol=1e-5)
        assert torch.allclose(together[260:262], embed(inputs[260:262]), atol=1e-5)


def test_the_score_of_the_right_caption_is_higher_and_never_below_zero(tiny_clip, emoji) -> None:
    facts = [(number, BASE_STYLES[number % 2], held_out_colours(emoji.names[number])[0]) for number in range(30)]
    pictures = np.stack([emoji.picture(*fact) for fact in facts])
    for language in ("en", "zh"):
        captions = [emoji.caption(*fact, language) for fact in facts]
        right = np.array(clip.clip_score(*tiny_clip, pictures, captions))
        wrong = np.array(clip.clip_score(*tiny_clip, pictures, captions[1:] + captions[:1]))
        assert (right > wrong).mean() > 0.9
        assert wrong.min() >= 0 and right.max() <= 100


def test_a_score_needs_a_caption_for_each_picture(tiny_clip, emoji) -> None:
    with pytest.raises(ReaderError, match="1 predictions for 2 references"):
        clip.clip_score(*tiny_clip, pictures_of(emoji, [Facts(0, "noto", COLOURS[0])] * 2), ["tiger"])


def test_a_folder_that_is_no_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="does not load as a CLIP"):
        clip.load_clip(tmp_path)


@pytest.mark.slow
def test_retrieval_is_as_good_as_the_card_promises() -> None:
    figures = clip.evaluate_clip()
    assert (figures["model"], figures["concepts"], figures["candidates"]) == ("tiny-CLIP", 1234, 3702)
    for language in ("en", "zh"):
        shares = figures["picture to caption"][language]
        assert shares["top 1"]["mean"] >= 0.80 and shares["top 5"]["mean"] >= 0.95
        assert shares["top 1"]["low"] <= shares["top 1"]["mean"] <= shares["top 1"]["high"]
