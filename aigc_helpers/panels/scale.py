"""A panel over the scale of a LoRA: the same prompts and seeds, from the base at 0 to beyond what was trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ipywidgets import HTML, FloatSlider, VBox
from PIL.Image import Image

from aigc_helpers.images import to_array
from aigc_helpers.panels.html_pictures import img_element, png_of

Paint = Callable[[float], Sequence[Image]]  # From a scale to one picture per prompt.

LARGEST_SCALE = 1.5
_LOOK = "width:128px;image-rendering:pixelated;margin:2px"  # So wide on the screen, whatever the pictures have.


def run(paint: Paint, scale: float) -> tuple[list[Image], float]:
    """Return the pictures at ``scale``, and how far they are from the base's.

    Args:
        paint: draws the same prompts from the same seeds, with the LoRA weighed by the scale that it is given.
        scale: 0 is the base, 1 what was trained.

    Returns:
        The pictures, and the mean absolute difference of their pixels (0 to 255) from those at scale 0.
    """
    base, pictures = list(paint(0.0)), list(paint(scale))
    return pictures, float(np.abs(to_array(pictures).astype(float) - to_array(base)).mean())


class ScalePanel(VBox):
    """A slider from 0 to 1.5, and under it the pictures with that scale."""

    def __init__(self, paint: Paint, titles: Sequence[str], scale: float = 1.0) -> None:
        """Show the panel.

        Args:
            paint: called with a scale when the slider has been moved, and now.
            titles: of the pictures, for those who do not see them; as many as ``paint`` draws.
            scale: to begin with.
        """
        self.paint, self.titles = paint, titles
        self.scale = FloatSlider(
            scale,
            min=0.0,
            max=LARGEST_SCALE,
            step=0.1,
            description="scale / 强度",
            continuous_update=False,
            layout={"width": "420px"},
            style={"description_width": "100px"},
        )
        self.view = HTML()
        self.scale.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([self.scale, self.view])

    def _show(self) -> None:
        pictures, distance = run(self.paint, self.scale.value)
        shown = "".join(
            img_element(png_of(picture), f"{title}, scale {self.scale.value:.1f}", _LOOK)
            for picture, title in zip(pictures, self.titles, strict=True)
        )
        self.view.value = (
            f"{shown}<p>scale {self.scale.value:.1f}: a pixel is {distance:.1f} of 255 away from the base's / "
            f"强度 {self.scale.value:.1f}：每个像素与基座平均相差 {distance:.1f}（满值 255）</p>"
        )
