"""A panel that judges the reader's own sentence with several models, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipywidgets import HTML, Button, Text, VBox

from aigc_helpers.terminal import in_html

Judge = Callable[[str], float]  # From a sentence to the probability that it is positive.


def run(sentence: str, judges: Mapping[str, Judge]) -> dict[str, float]:
    """Return each judge's probability that ``sentence`` is positive; an empty sentence has none."""
    return {name: judge(sentence) for name, judge in judges.items()} if sentence.strip() else {}


class SentencePanel(VBox):
    """A text field, a button, and a table with one row per model; words and bar length say the same."""

    def __init__(self, judges: Mapping[str, Judge], sentence: str) -> None:
        """Show the panel for ``judges`` (name → function), judging ``sentence`` at once."""
        self.judges = judges
        self.sentence = Text(value=sentence, description="Text / 句子", layout={"width": "640px"})
        self.button = Button(description="Judge / 判断", button_style="primary")
        self.answer = HTML()
        self.button.on_click(self._judge)
        self._judge(self.button)
        super().__init__([self.sentence, self.button, self.answer])

    def _judge(self, _: Button) -> None:
        probabilities = run(self.sentence.value, self.judges)
        if not probabilities:
            self.answer.value = "Write a sentence first. / 请先写一个句子。"
            return
        self.answer.value = f"<table>{''.join(_row(name, value) for name, value in probabilities.items())}</table>"


def _row(name: str, probability: float) -> str:
    word = "positive / 正面" if probability >= 0.5 else "negative / 负面"
    bar = (
        f'<div role="img" aria-label="{probability:.0%} positive" style="width:200px;border:1px solid #888">'
        f'<div style="width:{probability:.0%};background:#0072B2">&nbsp;</div></div>'
    )
    return f"<tr><td>{in_html(name)}</td><td>{bar}</td><td>{probability:.3f}</td><td>{word}</td></tr>"
