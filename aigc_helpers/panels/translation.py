"""A panel that translates there and back, with a model to choose, and says how much of the text survives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ipywidgets import HTML, Button, Text, ToggleButtons, VBox
from sacrebleu.metrics import CHRF

from aigc_helpers.errors import ReaderError
from aigc_helpers.terminal import in_html

Translate = Callable[[str, str], str]  # From a text and the language to translate into.


@dataclass(frozen=True)
class RoundTrip:
    """A text translated there and back.

    Attributes:
        there: the translation.
        back: the translation of that, in the language of the text.
        chrf: of ``back`` against the text, 0 to 100; no measure of ``there`` where a thing can be said in two ways.
    """

    there: str
    back: str
    chrf: float


def run(text: str, translate: Translate) -> RoundTrip:
    """Translate a text there and back.

    Args:
        text: Chinese if it has a Chinese character, else English.
        translate: called with a text and ``"zh"`` or ``"en"``.

    Raises:
        ReaderError: as ``translate``, such as for an empty text.
    """
    home, abroad = ("zh", "en") if any(character >= "\u3400" for character in text) else ("en", "zh")
    there = translate(text, abroad)
    # A model that has nothing to say about a text gives back nothing.
    back = translate(there, home) if there.strip() else ""
    return RoundTrip(there, back, CHRF().sentence_score(back, [text]).score)


class TranslationPanel(VBox):
    """A field for a text, a choice of models, and what they make of it."""

    def __init__(self, models: Mapping[str, Translate], text: str) -> None:
        """Show the panel.

        Args:
            models: by name.
            text: what the field begins with.
        """
        self.models = dict(models)
        self.text = Text(text, description="text / 原文", layout={"width": "620px"}, continuous_update=False)
        self.model = ToggleButtons(options=list(self.models), description="model / 模型")
        self.button = Button(description="Translate / 翻译", button_style="primary")
        self.answer = HTML()
        self.button.on_click(lambda _: self._show())
        self.model.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([self.text, self.model, self.button, self.answer])

    def _show(self) -> None:
        try:
            trip = run(self.text.value, self.models[self.model.value])
        except ReaderError as error:
            self.answer.value = f"<p>⚠ {in_html(str(error))}</p>"
            return
        rows = (
            ("there / 译文", trip.there),
            ("back / 译回", trip.back),
            ("chrF, back / 译回的 chrF", f"{trip.chrf:.1f}"),
        )
        cells = "".join(f"<tr><td>{name}</td><td><b>{in_html(value)}</b></td></tr>" for name, value in rows)
        self.answer.value = f"<table>{cells}</table>"
