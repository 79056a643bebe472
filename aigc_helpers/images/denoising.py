"""What a Stable Diffusion learns from: latents with captions, and the loss on predicted noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LatentBatch = dict[str, torch.Tensor]

_ENCODED_AT_ONCE = 128
_PIXELS_AT_ONCE = 2**20  # Four pictures of 512 x 512: the encoder's activations are what fills a GPU.
_SNR_LIMIT = 5.0


@torch.no_grad()
def encode_pictures(autoencoder: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """Return the latents of pictures × 3 × height × width (-1 to 1), scaled to unit variance, on the CPU.

    They are computed in the autoencoder's number format, many at once, and returned in float32. The mean of the
    posterior is taken, so that the same picture always has the same latents.

    Example:
        >>> from aigc_helpers.images import load_emoji, load_pipeline, to_pixels
        >>> tiger = load_emoji().only(("tiger",))
        >>> encode_pictures(load_pipeline().vae, to_pixels(tiger.picture(0, "noto", "blue")[None])).shape
        torch.Size([1, 16, 8, 8])
    """
    weight = next(autoencoder.parameters())
    at_once = max(1, min(_ENCODED_AT_ONCE, _PIXELS_AT_ONCE // pixels[0, 0].numel()))
    parts = [autoencoder.encode(part.to(weight)).latent_dist.mean.float().cpu() for part in pixels.split(at_once)]
    return torch.cat(parts) * autoencoder.config["scaling_factor"]


@torch.no_grad()
def encode_captions(
    text_encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, captions: Sequence[str]
) -> torch.Tensor:
    """Return the last hidden states of captions, padded to the tokenizer's length: captions × tokens × width."""
    device = next(text_encoder.parameters()).device
    parts = []
    for start in range(0, len(captions), _ENCODED_AT_ONCE):
        some = list(captions[start : start + _ENCODED_AT_ONCE])
        token_ids = tokenizer(some, padding="max_length", return_tensors="pt")["input_ids"]
        parts.append(text_encoder(token_ids.to(device)).last_hidden_state.cpu())
    return torch.cat(parts)


def latent_batches(
    latents: torch.Tensor,
    captions: Sequence[tuple[str, ...]],
    text_encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch_size: int,
    seed: int,
) -> LatentBatches:
    """Return batches of latents with the captions of each, of which all have equally many; they are encoded here.

    Example:
        >>> import torch
        >>> from aigc_helpers.images import load_pipeline
        >>> pipeline, captions = load_pipeline(), [("tiger", "老虎"), ("pizza", "披萨"), ("owl", "猫头鹰")]
        >>> encoders = (pipeline.text_encoder, pipeline.tokenizer)
        >>> batches = latent_batches(torch.randn(3, 16, 8, 8), captions, *encoders, batch_size=2, seed=0)
        >>> len(batches), batches.batch(epoch=0, position=0)["text"].shape
        (2, torch.Size([2, 26, 128]))
    """
    every_caption = [caption for some in captions for caption in some]
    text = encode_captions(text_encoder, tokenizer, ["", *every_caption])
    by_picture = text[1:].unflatten(0, (len(captions), len(captions[0])))
    return LatentBatches(latents, by_picture, text[0], batch_size, seed)


class LatentBatches:
    """Latents with captions, both encoded beforehand, since neither autoencoder nor text encoder is trained here.

    A ``aigc_helpers.training.loop.Batches``. Each picture may have several captions, such as one per language; one of
    them is drawn, or now and then the empty one, which classifier-free guidance needs (Ho & Salimans 2022).
    """

    unit_name = "pictures"

    def __init__(
        self,
        latents: torch.Tensor,
        captions: torch.Tensor,
        empty_caption: torch.Tensor,
        batch_size: int,
        seed: int = 0,
        empty_share: float = 0.1,
    ) -> None:
        """Take what was encoded.

        Args:
            latents: pictures × channels × height × width.
            captions: pictures × captions of each × tokens × width.
            empty_caption: tokens × width.
            batch_size: pictures per batch; the last batch of an epoch may be smaller.
            seed: of order and choice.
            empty_share: how often a caption is left out.
        """
        self.latents, self.captions, self.empty_caption = latents, captions, empty_caption
        self.batch_size, self.seed, self.empty_share = batch_size, seed, empty_share

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.latents) // self.batch_size)

    def batch(self, epoch: int, position: int) -> LatentBatch:
        """Return ``latents`` (batch × channels × height × width) and ``text`` (batch × tokens × width)."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.latents))
        chosen = torch.from_numpy(order[position * self.batch_size : (position + 1) * self.batch_size])
        generator = np.random.default_rng([self.seed, epoch, position])
        which = torch.from_numpy(generator.integers(self.captions.shape[1], size=len(chosen)))
        text = self.captions[chosen, which]
        text[torch.from_numpy(generator.random(len(chosen)) < self.empty_share)] = self.empty_caption
        return {"latents": self.latents[chosen], "text": text}

    def count(self, batch: LatentBatch) -> int:
        """Return the number of pictures."""
        return len(batch["latents"])


def denoising_loss(unet: torch.nn.Module, batch: LatentBatch, scheduler: DDIMScheduler) -> torch.Tensor:
    """Return the squared error of the predicted noise, weighted by min(SNR, 5) / SNR (Hang et al. 2023, "Min-SNR").

    Args:
        unet: predicts noise (``prediction_type`` is ``"epsilon"``).
        batch: as ``LatentBatches`` gives it, on the UNet's device.
        scheduler: adds the noise; any of diffusers' with ``add_noise``.

    Example:
        >>> import torch
        >>> from aigc_helpers.images import load_pipeline
        >>> pipeline = load_pipeline()
        >>> batch = {"latents": torch.randn(2, 16, 8, 8), "text": torch.randn(2, 26, 128)}
        >>> denoising_loss(pipeline.unet, batch, pipeline.scheduler).shape
        torch.Size([])
    """
    latents = batch["latents"]
    noise = torch.randn_like(latents)
    count, steps = len(latents), scheduler.config["num_train_timesteps"]
    # One time step from each of as many equal parts: the loss wavers less than with independent draws.
    places = (torch.arange(count, device=latents.device) + torch.rand(count, device=latents.device)) / count
    timesteps = (places * steps).long()
    predicted = unet(scheduler.add_noise(latents, noise, timesteps), timesteps, batch["text"]).sample
    kept = scheduler.alphas_cumprod.to(latents.device)[timesteps]
    signal_to_noise = kept / (1 - kept)
    weights = signal_to_noise.clamp(max=_SNR_LIMIT) / signal_to_noise
    return (weights * (predicted.float() - noise).square().mean(dim=(1, 2, 3))).mean()
