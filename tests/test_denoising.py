"""Every picture model of the book learns by this loss from these batches: both must be what the formulas say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from diffusers import DDIMScheduler

from aigc_helpers.images import LatentBatches, denoising_loss, encode_pictures

PICTURES, LANGUAGES, TOKENS, WIDTH = 50, 2, 3, 4
EMPTY = torch.full((TOKENS, WIDTH), -1.0)


def make_batches(batch_size: int = 8, seed: int = 0, empty_share: float = 0.1) -> LatentBatches:
    """Return batches whose latents hold the picture's number, and captions that and the language's."""
    number = torch.arange(PICTURES).float()
    latents = number[:, None, None, None].expand(PICTURES, 2, 4, 4).clone()
    captions = torch.stack([number, number + 0.5], dim=1)[..., None, None].expand(-1, -1, TOKENS, WIDTH).clone()
    return LatentBatches(latents, captions, EMPTY, batch_size, seed, empty_share)


def an_epoch(batches: LatentBatches, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [batches.batch(epoch, position) for position in range(len(batches))]
    assert sum(map(batches.count, parts)) == PICTURES
    return torch.cat([part["latents"] for part in parts])[:, 0, 0, 0], torch.cat([part["text"] for part in parts])


def test_an_epoch_holds_every_picture_once_with_a_caption_of_its_own() -> None:
    numbers, text = an_epoch(make_batches(empty_share=0.0))
    assert sorted(numbers.tolist()) == list(range(PICTURES))
    language = text[:, 0, 0] - numbers
    assert set(language.tolist()) == {0.0, 0.5}
    assert (text == text[:, :1, :1]).all()


def test_the_same_place_gives_the_same_batch_and_another_gives_another() -> None:
    one, same, other = make_batches().batch(1, 2), make_batches().batch(1, 2), make_batches(seed=1).batch(1, 2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["latents"], other["latents"])
    assert not torch.equal(one["latents"], make_batches().batch(0, 2)["latents"])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_captions_are_left_out_as_often_as_asked_and_not_lost(share: float) -> None:
    batches = make_batches(empty_share=share)
    empty = torch.cat([(an_epoch(batches, epoch)[1] == EMPTY).all(dim=(1, 2)) for epoch in range(20)])
    assert empty.float().mean().item() == pytest.approx(share, abs=0.05)
    # The captions themselves are as they were: a batch is a copy.
    assert (batches.captions >= 0).all()


class Encoder(torch.nn.Module):
    """Stands in for an autoencoder: its latents are every eighth pixel; remembers how many it got at once."""

    config: ClassVar[dict[str, float]] = {"scaling_factor": 2.0}

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones((), dtype=dtype))
        self.counts: list[int] = []

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        self.counts.append(len(pixels))
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=pixels[:, :, ::8, ::8] * self.weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("side", "at_once"), [(64, 128), (512, 4)])
def test_pictures_are_encoded_in_the_models_format_and_as_many_at_once_as_fit(
    dtype: torch.dtype, side: int, at_once: int
) -> None:
    encoder, pixels = Encoder(dtype), torch.rand(at_once + 1, 1, side, side)
    latents = encode_pictures(encoder, pixels)
    assert encoder.counts == [at_once, 1]
    assert torch.equal(latents, 2 * pixels[:, :, ::8, ::8].to(dtype).float())


class Guess(torch.nn.Module):
    """Stands in for a UNet: remembers what it was asked, and always guesses half of what it sees."""

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor) -> SimpleNamespace:
        self.noisy, self.timesteps = noisy, timesteps
        return SimpleNamespace(sample=noisy / 2)


def test_the_loss_is_the_formula() -> None:
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    guess, batch = Guess(), make_batches().batch(0, 0)
    torch.manual_seed(3)
    loss = denoising_loss(guess, batch, scheduler)
    total = 0.0
    for latents, noisy, timestep in zip(batch["latents"], guess.noisy, guess.timesteps, strict=True):
        kept = scheduler.alphas_cumprod[timestep].item()
        # x_t = sqrt(a) x_0 + sqrt(1 - a) noise, solved for the noise that was drawn.
        noise = (noisy - kept**0.5 * latents) / (1 - kept) ** 0.5
        signal_to_noise = kept / (1 - kept)
        error = (noisy / 2 - noise).square().mean().item()
        total += min(signal_to_noise, 5) / signal_to_noise * error
    assert loss.item() == pytest.approx(total / len(guess.noisy), rel=1e-3)
    assert loss.isfinite()
    # One time step from each eighth of the schedule.
    assert (guess.timesteps // 125).tolist() == list(range(8))
