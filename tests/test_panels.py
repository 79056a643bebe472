"""A panel is a view: its work is a plain function, its button calls the real thing, its faults are not swallowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aigc_helpers.panels import rank, sentence

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
    summaries = rank.run(ROWS)
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
