"""A panel is a view: its work is a plain function, its button calls the real thing, its faults are not swallowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from aigc_helpers.errors import ReaderError
from aigc_helpers.panels import PictureSettings, picture, rank, sampling, scale, sentence

ROWS = [
    {"rank": r, "seed": seed, "trainable_parameters": 1000 * r, "adapter_bytes": 4000 * r, "accuracy": 0.8 + seed / 100}
    for r in (4, 1)
    for seed in (1, 0)
]


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def test_run_asks_every_judge_and_an_empty_sentence_none() -> None:
    judges = {"short": lambda text: 0.25, "long": lambda text: len(text) / 10}
    assert sentence.run("hello", judges) == {"short": 0.25, "long": 0.5}
    assert sentence.run("  ", judges) == {}


def test_the_button_judges_what_stands_in_the_field() -> None:
    panel = sentence.SentencePanel({"<judge>": lambda text: 0.9 if "good" in text else 0.1}, "bad")
    assert "0.100" in panel.answer.value and "negative / 负面" in panel.answer.value
    assert "&lt;judge&gt;" in panel.answer.value
    panel.sentence.value = "good"
    panel.button.click()
    assert "0.900" in panel.answer.value and "positive / 正面" in panel.answer.value
    panel.sentence.value = ""
    panel.button.click()
    assert "请先写一个句子" in panel.answer.value


def test_ranks_are_gathered_over_seeds_smallest_first() -> None:
    summaries = rank.rank_summaries(ROWS)
    assert [summary.rank for summary in summaries] == [1, 4]
    assert summaries[0].accuracies == (0.8, 0.81)
    assert summaries[0].mean_accuracy == pytest.approx(0.805)


def test_the_slider_changes_picture_and_sentence() -> None:
    panel = rank.RankPanel(ROWS)
    first_picture, first_sentence = bytes(panel.picture.value), panel.sentence.value
    assert first_picture.startswith(b"\x89PNG")
    panel.rank.value = 4
    assert bytes(panel.picture.value) != first_picture
    assert "r = 4" in panel.sentence.value and panel.sentence.value != first_sentence


def test_the_three_settings_leave_the_tokens_that_they_should() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert sampling.sampling_distribution(logits, 1.0, 0, 1.0).tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05])
    assert sampling.sampling_distribution(logits, 0.5, 0, 1.0)[0].item() == pytest.approx(
        0.25 / (0.25 + 0.09 + 0.0225 + 0.0025)
    )
    assert sampling.sampling_distribution(logits, 1.0, 2, 1.0).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    # The token that crosses the threshold stays.
    assert sampling.sampling_distribution(logits, 1.0, 0, 0.6).tolist() == pytest.approx([0.625, 0.375, 0, 0])
    # Temperature comes first: sharpened, the first token alone reaches 0.6.
    assert sampling.sampling_distribution(logits, 0.5, 3, 0.6).tolist() == pytest.approx([1, 0, 0, 0])


def test_the_sampling_panel_shows_its_sliders_and_writes_with_them() -> None:
    written_with = []

    def write(temperature: float, top_k: int, top_p: float) -> str:
        written_with.append((temperature, top_k, top_p))
        return "<a text>"

    panel = sampling.SamplingPanel(torch.tensor([0.5, 0.3, 0.2]).log(), lambda token: "<ab>"[token : token + 1], write)
    panel.top_p.value = 1.0
    assert "3 of 3 tokens" in panel.table.value and "&lt;" in panel.table.value
    panel.top_k.value = 1
    assert "1 of 3 tokens" in panel.table.value and "1.000" in panel.table.value
    assert not written_with
    panel.temperature.value = 1.5
    panel.button.click()
    assert written_with == [(1.5, 1, 1.0)]
    assert "&lt;a text&gt;" in panel.text.value


def plain_picture(settings: PictureSettings) -> Image.Image:
    """Stands for a model: the seed is the colour, and an empty prompt is refused."""
    if not settings.prompt:
        raise ReaderError("the prompt is <empty>.")
    return Image.new("RGB", (8, 8), (settings.seed, 0, 0))


def test_a_picture_is_drawn_and_a_refused_prompt_gives_its_reason() -> None:
    drawn = picture.run(PictureSettings("tiger", seed=7), plain_picture)
    assert drawn.picture.getpixel((0, 0)) == (7, 0, 0) and not drawn.refusal
    assert picture.run(PictureSettings(""), plain_picture) == picture.Drawn(None, "the prompt is <empty>.")


def test_other_faults_of_a_painter_are_not_taken_for_a_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        picture.run(PictureSettings("tiger"), lambda settings: 1 // 0)


def test_the_picture_panel_draws_with_what_its_fields_show() -> None:
    asked = []

    def paint(settings: PictureSettings) -> Image.Image:
        asked.append(settings)
        return plain_picture(settings)

    first = PictureSettings("a <tiger>")
    panel = picture.PicturePanel(paint, ["DDIM", "Euler"], first)
    assert asked == [first]
    first_view = panel.view.value
    assert 'alt="a &lt;tiger&gt; · seed 0 · 20 steps · guidance 4 · DDIM"' in first_view
    panel.negative_prompt.value, panel.seed.value, panel.steps.value = "blue", 9, 5
    panel.guidance.value, panel.scheduler.value = 7.5, "Euler"
    assert len(asked) == 1  # The fields alone draw nothing.
    panel.button.click()
    assert asked[1] == PictureSettings("a <tiger>", "blue", 9, 5, 7.5, "Euler")
    assert panel.view.value != first_view and panel.view.value.startswith("<img ")


def test_the_picture_panel_says_why_nothing_was_drawn() -> None:
    panel = picture.PicturePanel(plain_picture, ["DDIM"], PictureSettings("tiger"))
    panel.prompt.value = ""
    panel.button.click()
    assert "<img" not in panel.view.value
    assert "没有画" in panel.view.value and "the prompt is &lt;empty&gt;." in panel.view.value


def grey_pictures(strength: float) -> list[Image.Image]:
    """Stands for a model with a LoRA: the scale is the brightness, and the second picture is half as bright."""
    return [Image.new("RGB", (4, 4), (round(value * strength),) * 3) for value in (100, 50)]


def test_a_scale_is_compared_with_the_base() -> None:
    pictures, distance = scale.run(grey_pictures, 0.5)
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(50, 50, 50), (25, 25, 25)]
    assert distance == pytest.approx(37.5)
    assert scale.run(grey_pictures, 0.0)[1] == 0


def test_the_scale_slider_draws_again() -> None:
    asked = []

    def paint(strength: float) -> list[Image.Image]:
        asked.append(strength)
        return grey_pictures(strength)

    panel = scale.ScalePanel(paint, ["a <tiger>", "an owl"])
    first = panel.view.value
    assert first.count("<img ") == 2 and 'alt="a &lt;tiger&gt;, scale 1.0"' in first and "75.0 of 255" in first
    panel.scale.value = 1.5
    assert asked[-1] == 1.5 and "112.5 of 255" in panel.view.value and panel.view.value != first
    panel.scale.value = 0.0
    assert "0.0 of 255" in panel.view.value


def test_a_title_too_few_is_no_silent_loss() -> None:
    with pytest.raises(ValueError, match="zip"):
        scale.ScalePanel(grey_pictures, ["tiger"])
