"""Chapter 08's steps, written by hand, are diffusers' steps to 1e-6, and its formulas are each other's inverses.

The chapter says so to its readers. The functions are taken from its cells, so this fails if a cell is changed for the
worse, or if a new diffusers computes otherwise.
"""

from __future__ import annotations

import ast
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from aigc_helpers.publishing.source import find_chapter, read_chapter

FUNCTIONS = {
    "clean_from_noise",
    "velocity_from",
    "both_from_velocity",
    "posterior",
    "mean_from_noise",
    "ddpm_step",
    "ddim_step",
    "neighbours",
    "largest_gap",
}
ONE_PER_MILLION = 1e-6
UNCLIPPED = {"beta_schedule": "linear", "clip_sample": False}


@pytest.fixture(scope="module")
def chapter() -> SimpleNamespace:
    """Return the functions that the chapter defines; nothing else of its cells is run."""
    names: dict[str, object] = {"torch": torch}
    for cell in read_chapter(find_chapter("08")).code_cells:
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS:
                exec(compile(ast.Module([node], []), "<chapter 08>", "exec"), names)
    assert names.keys() >= FUNCTIONS
    return SimpleNamespace(**names)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def in_double_precision(scheduler: DDPMScheduler | DDIMScheduler) -> DDPMScheduler | DDIMScheduler:
    scheduler.alphas_cumprod = (1 - scheduler.betas.double()).cumprod(0)
    return scheduler


def mixed(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return picture, noise, ᾱ of ``count`` time steps, and the picture with that noise."""
    clean, noise = torch.randn(2, count, 2, dtype=torch.float64)
    alpha_bar = in_double_precision(DDPMScheduler(**UNCLIPPED)).alphas_cumprod[:count, None]
    return clean, noise, alpha_bar, alpha_bar**0.5 * clean + (1 - alpha_bar) ** 0.5 * noise


@pytest.mark.parametrize("steps", [1000, 50, 7])
@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_large"])
def test_a_ddpm_step_is_diffusers(chapter: SimpleNamespace, variance_type: str, steps: int) -> None:
    scheduler = in_double_precision(DDPMScheduler(**UNCLIPPED, variance_type=variance_type))
    by_hand = partial(chapter.ddpm_step, large=variance_type == "fixed_large")
    assert chapter.largest_gap(scheduler, steps, by_hand) < ONE_PER_MILLION


@pytest.mark.parametrize("steps", [1000, 50, 7])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_ddim_step_is_diffusers(chapter: SimpleNamespace, eta: float, steps: int) -> None:
    scheduler = in_double_precision(DDIMScheduler(**UNCLIPPED))
    gap = chapter.largest_gap(scheduler, steps, partial(chapter.ddim_step, eta=eta), eta=eta)
    assert gap < ONE_PER_MILLION


def test_the_gap_is_seen_when_a_step_is_wrong(chapter: SimpleNamespace) -> None:
    scheduler = in_double_precision(DDPMScheduler(**UNCLIPPED))
    assert chapter.largest_gap(scheduler, 50, partial(chapter.ddpm_step, large=True)) > 1e-3
    assert chapter.largest_gap(scheduler, 50, chapter.ddim_step) > 1e-3


@pytest.mark.parametrize(("scheduler_class", "step"), [(DDPMScheduler, "ddpm_step"), (DDIMScheduler, "ddim_step")])
def test_the_final_step_gives_the_guessed_picture(
    chapter: SimpleNamespace, scheduler_class: type[DDPMScheduler] | type[DDIMScheduler], step: str
) -> None:
    scheduler = in_double_precision(scheduler_class(**UNCLIPPED))
    scheduler.set_timesteps(1000)
    x_t, noise, fresh = torch.randn(3, 100, 2, dtype=torch.float64)
    now = scheduler.alphas_cumprod[0].item()
    theirs = scheduler.step(noise, 0, x_t)
    by_hand = getattr(chapter, step)(x_t, noise, fresh, now, 1.0)
    torch.testing.assert_close(by_hand, theirs.prev_sample, atol=ONE_PER_MILLION, rtol=0)
    torch.testing.assert_close(by_hand, theirs.pred_original_sample, atol=ONE_PER_MILLION, rtol=0)


def test_ddim_with_eta_1_is_ddpm(chapter: SimpleNamespace) -> None:
    x_t, noise, fresh = torch.randn(3, 100, 2, dtype=torch.float64)
    for now, before in ((0.1, 0.2), (0.5, 0.9), (0.9, 1.0)):
        one, other = (
            chapter.ddim_step(x_t, noise, fresh, now, before, eta=1.0),
            chapter.ddpm_step(x_t, noise, fresh, now, before),
        )
        torch.testing.assert_close(one, other, atol=ONE_PER_MILLION, rtol=0)


def test_noise_picture_and_velocity_give_each_other(chapter: SimpleNamespace) -> None:
    clean, noise, alpha_bar, x_t = mixed(1000)
    velocity = chapter.velocity_from(clean, noise, alpha_bar)
    scheduler = in_double_precision(DDPMScheduler(**UNCLIPPED))
    torch.testing.assert_close(
        velocity, scheduler.get_velocity(clean, noise, torch.arange(1000)), atol=ONE_PER_MILLION, rtol=0
    )
    back = (chapter.clean_from_noise(x_t, noise, alpha_bar), *chapter.both_from_velocity(x_t, velocity, alpha_bar))
    for given, expected in zip(back, (clean, clean, noise), strict=True):
        torch.testing.assert_close(given, expected, atol=ONE_PER_MILLION, rtol=0)


def test_the_posterior_mean_is_the_mean_from_the_noise(chapter: SimpleNamespace) -> None:
    clean, noise, alpha_bar, x_t = mixed(1000)
    now, before = alpha_bar[1:], alpha_bar[:-1]
    mean, variance = chapter.posterior(x_t[1:], clean[1:], now, before)
    torch.testing.assert_close(
        mean, chapter.mean_from_noise(x_t[1:], noise[1:], now, before), atol=ONE_PER_MILLION, rtol=0
    )
    # Less is known before the picture is: the posterior's variance is below that of the step.
    assert ((variance > 0) & (variance < 1 - now / before)).all()


def test_the_posterior_is_bayes_rule(chapter: SimpleNamespace) -> None:
    """Its density is q(x_t | x_u) · q(x_u | x_0) / q(x_t | x_0), wherever one looks."""
    from torch.distributions import Normal

    now, before, clean = 0.3, 0.7, -1.2
    x_t = torch.tensor(0.4, dtype=torch.float64)
    x_u = torch.linspace(-3, 3, 61, dtype=torch.float64)
    alpha = now / before
    bayes = (
        Normal(alpha**0.5 * x_u, (1 - alpha) ** 0.5).log_prob(x_t)
        + Normal(before**0.5 * clean, (1 - before) ** 0.5).log_prob(x_u)
        - Normal(now**0.5 * clean, (1 - now) ** 0.5).log_prob(x_t)
    )
    mean, variance = chapter.posterior(x_t, clean, now, before)
    torch.testing.assert_close(Normal(mean, variance**0.5).log_prob(x_u), bayes, atol=ONE_PER_MILLION, rtol=0)
