"""A panel over families of generators: each with one setting that trades variety for soundness, and what it draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ipywidgets import HTML, Button, Dropdown, SelectionSlider, VBox
from numpy.typing import ArrayLike
from PIL import Image

from aigc_helpers.metrics import Interval, wilson_interval
from aigc_helpers.panels.html_pictures import img_element, png_of
from aigc_helpers.terminal import in_html

_SHOWN = 16
_ENLARGED = 12  # Screen pixels per pixel.


@dataclass(frozen=True)
class Family:
    """One way to generate.

    Attributes:
        draw: from the setting to pictures, of shape (pictures, height, width), 0 white to 1 black.
        setting: what the setting is called.
        values: to choose from, smallest first.
        start: the value to begin with.
    """

    draw: Callable[[float], ArrayLike]
    setting: str
    values: Sequence[float]
    start: float


@dataclass(frozen=True)
class Judged:
    """What was drawn: the pictures, the share of valid ones, and how often each kind occurs among those."""

    pictures: np.ndarray
    valid: Interval
    counts: dict[str, int]


def run(family: Family, value: float, kind_of: Callable[[np.ndarray], str | None]) -> Judged:
    """Draw with ``family`` at ``value``; ``kind_of`` names a picture's kind, or returns None where it has none.

    Raises:
        ReaderError: the family drew nothing.
    """
    pictures = np.asarray(family.draw(value))
    kinds = [kind_of(picture) for picture in pictures]
    valid = [kind for kind in kinds if kind is not None]
    counts = {kind: valid.count(kind) for kind in sorted(set(valid))}
    return Judged(pictures, wilson_interval(len(valid), len(kinds)), counts)


class FamiliesPanel(VBox):
    """A list of families, a slider for the chosen one's setting, a button, and what is drawn."""

    def __init__(self, families: Mapping[str, Family], kind_of: Callable[[np.ndarray], str | None]) -> None:
        """Show the panel; it draws once with the first family.

        Args:
            families: by the name to choose them by.
            kind_of: as ``run`` takes it.
        """
        self.families, self.kind_of = dict(families), kind_of
        wide = {"layout": {"width": "480px"}, "style": {"description_width": "170px"}}
        first = next(iter(self.families.values()))
        self.family = Dropdown(options=list(self.families), description="family / 家族", **wide)
        self.value = SelectionSlider(options=first.values, value=first.start, **wide)
        self.button = Button(description="Draw / 生成", button_style="primary")
        self.view = HTML()
        self.family.observe(lambda _: self._choose(), names="value")
        self.button.on_click(lambda _: self._draw())
        self._choose()
        super().__init__([self.family, self.value, self.button, self.view])

    def _choose(self) -> None:
        family = self.families[self.family.value]
        self.value.options = family.values
        self.value.value = family.start
        self.value.description = family.setting
        self._draw()

    def _draw(self) -> None:
        judged = run(self.families[self.family.value], self.value.value, self.kind_of)
        counts = ", ".join(f"{kind} {count}" for kind, count in judged.counts.items()) or "–"
        said = f"{self.family.value}, {self.value.description} {self.value.value:g}"
        self.view.value = (
            f"{_as_html(judged.pictures[:_SHOWN], said)}<p>valid / 合格：{judged.valid}; "
            f"{len(judged.counts)} kinds / 种: {in_html(counts)}</p>"
        )


def _as_html(pictures: np.ndarray, alt: str) -> str:
    """Return the pictures side by side with a grey line between them, as an img element with alt text."""
    framed = np.pad(pictures.clip(0, 1), ((0, 0), (1, 1), (1, 1)), constant_values=0.5)
    strip = Image.fromarray(((1 - np.hstack(list(framed))) * 255).astype(np.uint8))
    size = (strip.width * _ENLARGED // 2, strip.height * _ENLARGED // 2)
    return img_element(png_of(strip.resize(size, Image.Resampling.NEAREST)), alt)
