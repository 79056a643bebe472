"""The attention panel shows the head that its sliders name, in a picture that a reader without eyes can read, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from aigc_helpers.errors import ReaderError
from aigc_helpers.panels import attention

# Two layers of two heads; only in the last head does <a> look at b.
MAPS = torch.eye(2).repeat(2, 2, 1, 1)
MAPS[1, 1] = torch.tensor([[0.25, 0.75], [0.0, 1.0]])


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def read(sentence: str) -> tuple[list[str], torch.Tensor]:
    """Stands for a model: one token per word, and every token looks at itself, except where MAPS says otherwise."""
    tokens = sentence.split()
    return tokens, MAPS if len(tokens) == 2 else torch.eye(len(tokens)).repeat(2, 2, 1, 1)


def test_layers_and_heads_count_from_one() -> None:
    assert attention.run(["<a>", "b"], MAPS, 2, 2).weights.tolist() == [[0.25, 0.75], [0.0, 1.0]]
    assert attention.run(["<a>", "b"], MAPS, 2, 1).weights.tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (3, 1), (1, 0), (1, 3)])
def test_a_head_that_is_not_there_is_refused(layer: int, head: int) -> None:
    with pytest.raises(ReaderError, match="2 layers of 2 heads"):
        attention.run(["<a>", "b"], MAPS, layer, head)


def test_the_description_names_where_each_token_looks() -> None:
    assert attention.describe(attention.run(["<a>", "b"], MAPS, 2, 2)) == "<a> → b 0.75, b → b 1.00"


def test_the_picture_differs_where_the_weights_do() -> None:
    first, last = (attention.draw_attention(attention.run(["<a>", "b"], MAPS, 2, head)) for head in (1, 2))
    assert first.startswith(b"\x89PNG") and first != last


def test_the_sliders_change_picture_and_alt_text() -> None:
    panel = attention.AttentionPanel(read, "<a> b")
    assert 'alt="layer 1, head 1: &lt;a&gt; → &lt;a&gt; 1.00, b → b 1.00"' in panel.view.value
    first = panel.view.value
    panel.layer.value, panel.head.value = 2, 2
    assert 'alt="layer 2, head 2: &lt;a&gt; → b 0.75, b → b 1.00"' in panel.view.value
    assert panel.view.value.split("src=")[1] != first.split("src=")[1]


def test_the_button_reads_what_stands_in_the_field() -> None:
    panel = attention.AttentionPanel(read, "<a> b")
    panel.sentence.value = "one two three"
    assert "one" not in panel.view.value  # The field alone does nothing.
    panel.button.click()
    assert "three → three 1.00" in panel.view.value
    panel.sentence.value = "  "
    panel.button.click()
    assert "请先写一个句子" in panel.view.value


def test_a_sentence_too_long_to_be_read_is_not_drawn_and_says_why() -> None:
    panel = attention.AttentionPanel(read, "<a> b")
    panel.sentence.value = "word " * 21
    panel.button.click()
    assert "<img" not in panel.view.value
    assert "没有画" in panel.view.value and "21 tokens" in panel.view.value
