"""A panel over temperature, top-k and top-p: which tokens may come next, and what is written with these settings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ipywidgets import HTML, Button, FloatSlider, IntSlider, VBox
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from aigc_helpers.terminal import in_html

Write = Callable[[float, int, float], str]  # From temperature, top-k and top-p to a text.

_ROWS = 8


def sampling_distribution(logits: torch.Tensor, temperature: float, top_k: int, top_p: float) -> torch.Tensor:
    """Return the probability of each token to be drawn, as ``generate`` computes it.

    Args:
        logits: of shape (vocabulary,).
        temperature: divides the logits; below 1 sharpens, above 1 flattens.
        top_k: keep the so many likeliest tokens; 0 keeps all.
        top_p: of these, keep the fewest likeliest whose probabilities add up to this; 1 keeps all.

    Returns:
        Shape (vocabulary,); 0 for the tokens left out, and 1 in sum.

    Example:
        >>> import torch
        >>> logits = torch.tensor([0.0, 0.0, 0.0, -9.0])
        >>> sampling_distribution(logits, temperature=1.0, top_k=3, top_p=1.0)
        tensor([0.3333, 0.3333, 0.3333, 0.0000])
    """
    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(temperature)]
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    scores = logits[None]
    for warper in warpers:
        scores = warper(None, scores)
    return scores[0].softmax(dim=0)


class SamplingPanel(VBox):
    """Three sliders and a table of the likeliest next tokens; a button writes a text with the settings shown."""

    def __init__(self, logits: torch.Tensor, decode: Callable[[int], str], write: Write) -> None:
        """Show the panel.

        Args:
            logits: of the next token, shape (vocabulary,).
            decode: from a token's id to what it stands for.
            write: called with temperature, top-k and top-p when the button is clicked.
        """
        self.logits, self.decode, self.write = logits, decode, write
        waits = {"continuous_update": False, "layout": {"width": "420px"}, "style": {"description_width": "150px"}}
        self.temperature = FloatSlider(0.9, min=0.1, max=2.0, step=0.1, description="temperature / 温度", **waits)
        self.top_k = IntSlider(0, min=0, max=50, description="top-k (0: all / 全部)", **waits)
        self.top_p = FloatSlider(0.95, min=0.05, max=1.0, step=0.05, description="top-p", **waits)
        self.button = Button(description="Write / 写", button_style="primary")
        self.table, self.text = HTML(), HTML()
        for slider in (self.temperature, self.top_k, self.top_p):
            slider.observe(lambda _: self._show(), names="value")
        self.button.on_click(self._write)
        self._show()
        super().__init__([self.temperature, self.top_k, self.top_p, self.table, self.button, self.text])

    def _settings(self) -> tuple[float, int, float]:
        return self.temperature.value, self.top_k.value, self.top_p.value

    def _show(self) -> None:
        probabilities = sampling_distribution(self.logits, *self._settings())
        left = int((probabilities > 0).sum())
        likeliest = probabilities.topk(min(_ROWS, left))
        rows = zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        self.table.value = (
            f"<p>{left:,} of {len(probabilities):,} tokens may be drawn / 可抽取的 token：{left:,}（共 "
            f"{len(probabilities):,}）</p><table>{''.join(_row(self.decode(token), share) for token, share in rows)}"
            "</table>"
        )

    def _write(self, _: Button) -> None:
        written = in_html(self.write(*self._settings()))
        self.text.value = f'<pre style="line-height:1.6">{written}</pre>'


def _row(token: str, probability: float) -> str:
    bar = (
        f'<div role="img" aria-label="{probability:.1%}" style="width:200px;border:1px solid #888">'
        f'<div style="width:{probability:.1%};background:#0072B2">&nbsp;</div></div>'
    )
    return f"<tr><td>{in_html(token)}</td><td>{bar}</td><td>{probability:.3f}</td></tr>"
