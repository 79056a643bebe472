"""The translation panel goes there and back with the model chosen, and shows a refusal as a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aigc_helpers.errors import ReaderError
from aigc_helpers.panels import translation

WORDS = {("three cups of tea", "zh"): "三杯茶", ("三杯茶", "en"): "three cups of tea", ("五元", "en"): "<five>"}


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def dictionary(text: str, language: str) -> str:
    """Stands for a model."""
    if not text:
        raise ReaderError("there is <nothing> to translate.")
    return WORDS.get((text, language), "")


def test_a_text_goes_there_and_back_whatever_its_language() -> None:
    assert translation.run("three cups of tea", dictionary) == translation.RoundTrip(
        "三杯茶", "three cups of tea", pytest.approx(100)
    )
    assert translation.run("三杯茶", dictionary).back == "三杯茶"


def test_a_model_that_says_nothing_scores_nothing() -> None:
    assert translation.run("four", dictionary) == translation.RoundTrip("", "", 0)


def test_the_panel_shows_the_model_chosen_and_refuses_politely() -> None:
    panel = translation.TranslationPanel({"base": lambda text, language: "一", "tuned": dictionary}, "三杯茶")
    assert "<b>一</b>" in panel.answer.value
    panel.model.value = "tuned"
    assert "<b>three cups of tea</b>" in panel.answer.value and "100.0" in panel.answer.value
    panel.text.value = "五元"
    panel.button.click()
    assert "&lt;five&gt;" in panel.answer.value
    panel.text.value = ""
    panel.button.click()
    assert "there is &lt;nothing&gt; to translate" in panel.answer.value
