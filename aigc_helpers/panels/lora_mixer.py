"""A panel over the scales of several LoRAs at once: one slider each, the pictures, and the call that made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ipywidgets import HTML, FloatSlider, VBox
from PIL.Image import Image

from aigc_helpers.panels.html_pictures import img_element, png_of
from aigc_helpers.terminal import in_html

Paint = Callable[[list[str], list[float]], Sequence[Image]]  # From adapters and their scales to a picture per prompt.

LARGEST_SCALE = 1.5
_LOOK = "width:128px;image-rendering:pixelated;margin:2px"  # So wide on the screen, whatever the pictures have.


class Mixture(NamedTuple):
    """Pictures, and the line of code that sets the pipeline so."""

    pictures: list[Image]
    code: str


def run(scales: Mapping[str, float], paint: Paint) -> Mixture:
    """Return the pictures with LoRAs at ``scales``.

    Args:
        scales: by the adapter's name; 0 leaves it out, 1 is what was trained.
        paint: weighs the adapters and draws.
    """
    names, numbers = list(scales), [float(scale) for scale in scales.values()]
    return Mixture(list(paint(names, numbers)), f"pipeline.set_adapters({names}, {numbers})")


class LoraMixerPanel(VBox):
    """A slider from 0 to 1.5 per LoRA; under them the pictures, and the call."""

    def __init__(self, scales: Mapping[str, float], paint: Paint, titles: Sequence[str]) -> None:
        """Show the panel.

        Args:
            scales: the adapters' names and the scales to begin with.
            paint: called when a slider has been moved, and now.
            titles: of the pictures, for those who do not see them; as many as ``paint`` draws.
        """
        self.paint, self.titles = paint, titles
        self.sliders = {
            name: FloatSlider(
                scale,
                min=0.0,
                max=LARGEST_SCALE,
                step=0.1,
                description=f"{name} / 强度",
                continuous_update=False,
                layout={"width": "420px"},
                style={"description_width": "120px"},
            )
            for name, scale in scales.items()
        }
        self.view = HTML()
        for slider in self.sliders.values():
            slider.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([*self.sliders.values(), self.view])

    def _show(self) -> None:
        # Sliders move in steps of 0.1, which are no round numbers in binary.
        scales = {name: round(slider.value, 1) for name, slider in self.sliders.items()}
        mixture = run(scales, self.paint)
        said = ", ".join(f"{name} {scale:.1f}" for name, scale in scales.items())
        shown = "".join(
            img_element(png_of(picture), f"{title}; {said}", _LOOK)
            for picture, title in zip(mixture.pictures, self.titles, strict=True)
        )
        self.view.value = f"{shown}<pre>{in_html(mixture.code)}</pre>"
