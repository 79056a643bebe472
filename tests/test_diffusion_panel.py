"""The diffusion panel shows what its sliders say: noise after the chosen schedule, points from the given model.

A slider that moves a number and not the picture teaches the opposite of what it should.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from diffusers import DDPMScheduler

from aigc_helpers.panels import diffusion
from aigc_helpers.panels.diffusion import DiffusionSettings

POINTS = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-2.0, 0.0]])


@pytest.fixture(autouse=True)
def faults_are_heard(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """ipywidgets logs an exception in a callback and goes on; here it fails the test."""
    yield
    assert not [record.getMessage() for record in caplog.get_records("call") if "Exception" in record.getMessage()]


def nothing_drawn(steps: int, guidance: float) -> torch.Tensor:
    return torch.zeros(1, 2)


@pytest.mark.parametrize("schedule", diffusion.SCHEDULES)
def test_noise_is_the_closed_form_of_the_schedule(schedule: str) -> None:
    diffused = diffusion.run(DiffusionSettings(schedule, timestep=500), POINTS, nothing_drawn)
    share = diffused.signal_share
    noise = (diffused.noised - share * POINTS) / (1 - share**2) ** 0.5
    expected = torch.randn(POINTS.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise, expected, atol=1e-5, rtol=0)
    assert 10 ** (diffused.decibels / 10) == pytest.approx(share**2 / (1 - share**2), rel=1e-4)


def test_scaled_linear_is_stable_diffusions() -> None:
    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod[999]
    diffused = diffusion.run(DiffusionSettings("scaled_linear", timestep=999), POINTS, nothing_drawn)
    assert diffused.signal_share == pytest.approx(float(theirs) ** 0.5)


def test_noise_fits_pictures_too_and_grows_with_the_time_step() -> None:
    pictures = torch.ones(2, 3, 4, 4)
    early, late = (
        diffusion.run(DiffusionSettings(timestep=t), pictures, nothing_drawn).noised - pictures for t in (10, 900)
    )
    assert early.shape == pictures.shape and late.abs().mean() > 3 * early.abs().mean()


def test_the_sliders_reach_the_model_and_the_picture() -> None:
    asked = []

    def sample(steps: int, guidance: float) -> torch.Tensor:
        asked.append((steps, guidance))
        return torch.full((4, 2), guidance)

    panel = diffusion.DiffusionPanel(POINTS, sample)
    assert asked == [(20, 1.0)]
    before = panel.view.value
    panel.steps.value, panel.guidance.value = 5, 3.0
    assert asked[-1] == (5, 3.0)
    assert panel.view.value != before and "5 steps" in panel.view.value


def test_schedule_and_time_step_change_noise_and_sentence() -> None:
    panel = diffusion.DiffusionPanel(POINTS, nothing_drawn)
    seen = {panel.view.value}
    panel.timestep.value = 999
    seen.add(panel.view.value)
    assert "√ᾱ = 0.006" in panel.view.value
    panel.schedule.value = "scaled_linear"
    seen.add(panel.view.value)
    assert "√ᾱ = 0.068" in panel.view.value
    assert len(seen) == 3
    alt = re.search(r'alt="([^"]+)"', panel.view.value)
    assert alt and "scaled_linear, t = 999" in alt[1]
