"""A panel over sentence, layer and head: which token looks at which, as a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from ipywidgets import HTML, Button, IntSlider, Text, VBox

from aigc_helpers.errors import ReaderError
from aigc_helpers.figures import as_png, draw_matrix, new_figure
from aigc_helpers.panels.html_pictures import img_element
from aigc_helpers.terminal import in_html

# From a sentence to its n tokens, and the attention weights of shape (layers, heads, n, n).
Attend = Callable[[str], tuple[list[str], torch.Tensor]]

_MOST_TOKENS = 20  # More rows and columns cannot be read.


@dataclass(frozen=True)
class AttentionMap:
    """Where each token looks in one head.

    Attributes:
        tokens: the n tokens in their order.
        weights: shape (n, n); row i is how token i divides its attention, and adds up to 1.
    """

    tokens: tuple[str, ...]
    weights: torch.Tensor


def run(tokens: list[str], maps: torch.Tensor, layer: int, head: int) -> AttentionMap:
    """Choose one head's map.

    Args:
        tokens: n of them.
        maps: the weights of all heads, shape (layers, heads, n, n).
        layer: from 1.
        head: from 1.

    Raises:
        ReaderError: there is no such layer or head, or there are too many tokens to be drawn.
    """
    layers, heads = maps.shape[:2]
    if not (1 <= layer <= layers and 1 <= head <= heads):
        raise ReaderError(f"there is no layer {layer}, head {head}: this model has {layers} layers of {heads} heads.")
    if len(tokens) > _MOST_TOKENS:
        raise ReaderError(
            f"{len(tokens)} tokens make a map that cannot be read. Use a sentence of {_MOST_TOKENS} or less."
        )
    return AttentionMap(tuple(tokens), maps[layer - 1, head - 1])


def describe(attention: AttentionMap) -> str:
    """Say for each token which other it looks at most: the alt text of the picture."""
    strongest = attention.weights.max(dim=-1)
    pairs = zip(attention.tokens, strongest.indices.tolist(), strongest.values.tolist(), strict=True)
    return ", ".join(f"{token} → {attention.tokens[place]} {weight:.2f}" for token, place, weight in pairs)


def draw_attention(attention: AttentionMap) -> bytes:
    """Draw the map, one row per token that looks, the weight written in each field; returns a PNG."""
    count = len(attention.tokens)
    side = 1.6 + 0.42 * count
    figure, (axes,) = new_figure(width=side, height=side)
    draw_matrix(axes, attention.weights.tolist(), number_format=".1f")
    axes.set_xticks(range(count), attention.tokens, rotation=60)
    axes.set_yticks(range(count), attention.tokens)
    axes.set_xlabel("looked at")
    axes.set_ylabel("looking")
    return as_png(figure)


class AttentionPanel(VBox):
    """A text field with a button, a slider each for layer and head, and the map."""

    def __init__(self, attend: Attend, sentence: str) -> None:
        """Show the panel; ``attend`` is called with ``sentence`` at once, and again when the button is clicked."""
        self.attend = attend
        self.tokens, self.maps = attend(sentence)
        layers, heads = self.maps.shape[:2]
        self.sentence = Text(sentence, description="Text / 句子", layout={"width": "640px"})
        self.button = Button(description="Read / 读", button_style="primary")
        self.layer = IntSlider(1, min=1, max=layers, description="layer / 层", continuous_update=False)
        self.head = IntSlider(1, min=1, max=heads, description="head / 头", continuous_update=False)
        self.view = HTML()
        self.button.on_click(self._read)
        for slider in (self.layer, self.head):
            slider.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([self.sentence, self.button, self.layer, self.head, self.view])

    def _read(self, _: Button) -> None:
        if not self.sentence.value.strip():
            self.view.value = "Write a sentence first. / 请先写一个句子。"
            return
        self.tokens, self.maps = self.attend(self.sentence.value)
        self._show()

    def _show(self) -> None:
        try:
            attention = run(self.tokens, self.maps, self.layer.value, self.head.value)
        except ReaderError as error:
            self.view.value = f"<p><b>Not drawn / 没有画：</b>{in_html(str(error))}</p>"
            return
        said = f"layer {self.layer.value}, head {self.head.value}: {describe(attention)}"
        self.view.value = img_element(draw_attention(attention), said)
