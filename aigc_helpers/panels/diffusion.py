"""A panel over the way in (schedule, time step) and the way back (steps, guidance) of a diffusion of 2-D points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from ipywidgets import HTML, Dropdown, FloatSlider, IntSlider, VBox

from aigc_helpers.figures import COLOURS, as_png, new_figure
from aigc_helpers.panels.html_pictures import img_element

Sample = Callable[[int, float], torch.Tensor]  # From steps and guidance to points of shape (points, 2).

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")  # As diffusers spells them.
_LAST_STEP = 999
_MOST_STEPS = 100
_MOST_GUIDANCE = 8.0
_EDGE = 3.5  # What is drawn reaches from minus this to this: data and noise have unit variance.


@dataclass(frozen=True)
class DiffusionSettings:
    """What the panel shows.

    Attributes:
        schedule: one of ``SCHEDULES``.
        timestep: how far on the way in, 0 to 999.
        steps: how many on the way back.
        guidance: 0 ignores the label, 1 follows it, more exaggerates it.
    """

    schedule: str = "linear"
    timestep: int = 200
    steps: int = 20
    guidance: float = 1.0


@dataclass(frozen=True)
class Diffused:
    """What came of it.

    Attributes:
        noised: the points at the time step, of their own shape.
        signal_share: the factor before the point, √ᾱ, from 1 to 0.
        decibels: the signal-to-noise ratio, 10 log₁₀ ᾱ / (1 − ᾱ).
        drawn: the points that were sampled, of shape (points, 2).
    """

    noised: torch.Tensor
    signal_share: float
    decibels: float
    drawn: torch.Tensor


def run(settings: DiffusionSettings, points: torch.Tensor, sample: Sample, seed: int = 0) -> Diffused:
    """Put noise on ``points`` (any shape, the first axis counts them) and let ``sample`` draw others."""
    # Stable Diffusion's betas for its schedule; diffusers' own defaults, which are DDPM's, for the others.
    betas = {"beta_start": 0.00085, "beta_end": 0.012} if settings.schedule == "scaled_linear" else {}
    scheduler = DDPMScheduler(beta_schedule=settings.schedule, **betas)
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))
    kept = scheduler.alphas_cumprod[settings.timestep].double()
    return Diffused(
        scheduler.add_noise(points, noise, torch.tensor([settings.timestep])),
        float(kept.sqrt()),
        float(10 * (kept / (1 - kept)).log10()),
        sample(settings.steps, settings.guidance),
    )


def draw_points(diffused: Diffused, points: torch.Tensor) -> bytes:
    """Draw the noised points (left) and the sampled ones (right), the data in grey behind both; returns a PNG."""
    figure, panels = new_figure(width=8, height=3.8, columns=2)
    titles = ("the way in: data with noise", "the way back: drawn by the model")
    for axes, title, shown, colour in zip(panels, titles, (diffused.noised, diffused.drawn), COLOURS, strict=False):
        axes.plot(*points.T.numpy(), linestyle="", marker=".", markersize=2, color="0.8", label="data")
        axes.plot(*shown.T.numpy(), linestyle="", marker="o", markersize=2, color=colour, label="points")
        axes.set(xlim=(-_EDGE, _EDGE), ylim=(-_EDGE, _EDGE), title=title, aspect="equal")
    return as_png(figure)


class DiffusionPanel(VBox):
    """A list and three sliders; picture and sentence follow."""

    def __init__(self, points: torch.Tensor, sample: Sample) -> None:
        """Show the panel.

        Args:
            points: the data, of shape (points, 2).
            sample: called with steps and guidance; draws with a model that has learnt ``points``.
        """
        self.points, self.sample = points, sample
        shown = DiffusionSettings()
        wide = {"layout": {"width": "520px"}, "style": {"description_width": "170px"}}
        waits = {"continuous_update": False, **wide}
        self.schedule = Dropdown(options=SCHEDULES, value=shown.schedule, description="schedule / 噪声表", **wide)
        self.timestep = IntSlider(shown.timestep, min=0, max=_LAST_STEP, description="time step / 时间步 t", **waits)
        self.steps = IntSlider(shown.steps, min=1, max=_MOST_STEPS, description="steps back / 回路步数", **waits)
        self.guidance = FloatSlider(
            shown.guidance, min=0.0, max=_MOST_GUIDANCE, step=0.5, description="guidance / 引导强度", **waits
        )
        self.view = HTML()
        fields = [self.schedule, self.timestep, self.steps, self.guidance]
        for field in fields:
            field.observe(lambda _: self._show(), names="value")
        self._show()
        super().__init__([*fields, self.view])

    def settings(self) -> DiffusionSettings:
        """Return what the fields show."""
        return DiffusionSettings(self.schedule.value, self.timestep.value, self.steps.value, self.guidance.value)

    def _show(self) -> None:
        settings = self.settings()
        diffused = run(settings, self.points, self.sample)
        said = (
            f"{settings.schedule}, t = {settings.timestep}: √ᾱ = {diffused.signal_share:.3f}, "
            f"SNR / 信噪比 {diffused.decibels:.1f} dB · {settings.steps} steps / 步, "
            f"guidance / 引导强度 {settings.guidance:g}"
        )
        self.view.value = f"{img_element(draw_points(diffused, self.points), said)}<p>{said}</p>"
