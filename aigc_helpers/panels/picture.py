"""A panel over prompt, negative prompt, seed, steps, guidance and scheduler: what is drawn with these settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ipywidgets import HTML, BoundedIntText, Button, Dropdown, FloatSlider, IntSlider, Text, VBox
from PIL.Image import Image

from aigc_helpers.errors import ReaderError
from aigc_helpers.panels.html_pictures import img_element, png_of
from aigc_helpers.terminal import in_html

Paint = Callable[["PictureSettings"], Image]

_MOST_STEPS = 50
_MOST_GUIDANCE = 15.0
_LARGEST_SEED = 2**31 - 1
_SHOWN_WIDTH = 256  # Pixels on the screen, whatever the picture has.


@dataclass(frozen=True)
class PictureSettings:
    """What a picture is drawn from; ``scheduler`` is one of the names that the panel was given."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int = 20
    guidance: float = 4.0
    scheduler: str = "DDIM"


@dataclass(frozen=True)
class Drawn:
    """What came of it: a picture, or else the reason why there is none."""

    picture: Image | None
    refusal: str = ""


def run(settings: PictureSettings, paint: Paint) -> Drawn:
    """Let ``paint`` draw; a prompt that it refuses with a ``ReaderError`` is an answer, too."""
    try:
        return Drawn(paint(settings))
    except ReaderError as error:
        return Drawn(None, str(error))


class PicturePanel(VBox):
    """A field or slider per setting, a button, and the picture that it draws."""

    def __init__(self, paint: Paint, schedulers: Sequence[str], settings: PictureSettings) -> None:
        """Show the panel.

        Args:
            paint: called with the settings shown when the button is clicked; it may refuse with a ``ReaderError``.
            schedulers: the names to choose from.
            settings: to begin with; drawn at once.
        """
        self.paint = paint
        wide = {"layout": {"width": "620px"}, "style": {"description_width": "190px"}}
        self.prompt = Text(settings.prompt, description="prompt / 提示词", **wide)
        self.negative_prompt = Text(settings.negative_prompt, description="negative / 反向提示词", **wide)
        self.seed = BoundedIntText(settings.seed, min=0, max=_LARGEST_SEED, description="seed / 随机种子", **wide)
        self.steps = IntSlider(settings.steps, min=1, max=_MOST_STEPS, description="steps / 步数", **wide)
        self.guidance = FloatSlider(
            settings.guidance, min=0.0, max=_MOST_GUIDANCE, step=0.5, description="guidance / 引导强度", **wide
        )
        self.scheduler = Dropdown(
            options=schedulers, value=settings.scheduler, description="scheduler / 采样器", **wide
        )
        self.button = Button(description="Draw / 画", button_style="primary")
        self.view = HTML()
        self.button.on_click(self._draw)
        self._draw(self.button)
        fields = [self.prompt, self.negative_prompt, self.seed, self.steps, self.guidance, self.scheduler]
        super().__init__([*fields, self.button, self.view])

    def settings(self) -> PictureSettings:
        """Return what the fields show."""
        return PictureSettings(
            self.prompt.value,
            self.negative_prompt.value,
            self.seed.value,
            self.steps.value,
            self.guidance.value,
            self.scheduler.value,
        )

    def _draw(self, _: Button) -> None:
        settings = self.settings()
        drawn = run(settings, self.paint)
        if drawn.picture is None:
            self.view.value = f"<p><b>Not drawn / 没有画：</b>{in_html(drawn.refusal)}</p>"
        else:
            self.view.value = _as_html(drawn.picture, settings)


def _as_html(picture: Image, settings: PictureSettings) -> str:
    said = (
        f"{settings.prompt} · seed {settings.seed} · {settings.steps} steps · guidance {settings.guidance:g} · "
        f"{settings.scheduler}"
    )
    shown = img_element(png_of(picture), said, f"width:{_SHOWN_WIDTH}px;image-rendering:pixelated")
    return f"{shown}<p>{in_html(said)}</p>"
