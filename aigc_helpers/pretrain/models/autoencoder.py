"""The autoencoder of ``data/sd``: 64 × 64 pictures to 8 × 8 latents of 16 channels and back."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from transformers import set_seed

from aigc_helpers.images import EmojiSet, to_pixels, training_colours
from aigc_helpers.store import store_folder
from aigc_helpers.training import FitSettings, fit

logger = logging.getLogger(__name__)

LATENT_CHANNELS = 16
# Each level has half the width and half the height of the one before: so all cost about the same.
CHANNELS = (12, 24, 48, 96)
BATCH_SIZE = 8
# Just enough to keep latents of like pictures near each other; more of it would cost sharpness.
KL_WEIGHT = 1e-5
_TINTED = 0.25  # Share of pictures with mixed colour channels, so that looks of other colours survive, too.
_PICTURES_MEASURED = 256
# For the start: channels carried through, the constant among them, and the variance of a colour from -1 to 1.
_CARRIED, _CONSTANT, _COLOUR_VARIANCE = 8, 4.0, 0.45
SETTINGS = FitSettings(
    epochs=12,
    learning_rate=1e-3,
    schedule="cosine",
    warmup=0.01,
    evaluate_every=1000,
    checkpoint_every=200,
)


class Pictures:
    """All drawings, each once an epoch, on a random one of the backgrounds that its concept has in training."""

    unit_name = "pictures"

    def __init__(self, emoji: EmojiSet, batch_size: int, seed: int) -> None:
        """Take the emoji to draw from."""
        self.emoji, self.batch_size, self.seed = emoji, batch_size, seed
        self.drawings = emoji.drawn

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self.drawings) // self.batch_size

    def batch(self, epoch: int, position: int) -> torch.Tensor:
        """Return pictures × 3 × 64 × 64, from -1 to 1."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.drawings))
        generator = np.random.default_rng([self.seed, epoch, position])
        pictures = []
        for number in order[position * self.batch_size : (position + 1) * self.batch_size]:
            concept, style = self.drawings[number]
            colour = str(generator.choice(training_colours(self.emoji.names[concept])))
            picture = self.emoji.picture(concept, style, colour)
            if generator.random() < _TINTED:
                picture = (picture @ generator.dirichlet((0.5, 0.5, 0.5), 3).T).astype(np.uint8)
            pictures.append(picture)
        return to_pixels(np.stack(pictures))

    def count(self, batch: torch.Tensor) -> int:
        """Return the number of pictures."""
        return len(batch)


def build_autoencoder(emoji: EmojiSet, settings: FitSettings = SETTINGS) -> AutoencoderKL:
    """Train the autoencoder; checkpoints lie in the store under ``pretrain/autoencoder``.

    Raises:
        ReaderError: the checkpoints are those of another run.
    """
    model = build_model(settings.seed)
    training = Pictures(emoji, BATCH_SIZE, settings.seed)
    measured = Pictures(emoji, _PICTURES_MEASURED, settings.seed + 1).batch(0, 0)

    def validate() -> dict[str, float]:
        device = next(model.parameters()).device
        parts = [model(part.to(device)).sample.clamp(-1, 1).cpu() for part in measured.split(64)]
        figures = {"psnr": 10 * torch.log10(4 / (torch.cat(parts) - measured).square().mean()).item()}
        logger.info("PSNR %.2f dB", figures["psnr"])
        return figures

    logger.info("autoencoder: %d parameters, %d batches", model.num_parameters(), len(training))
    folder = store_folder() / "pretrain" / "autoencoder"
    result = fit(model, training, reconstruction_loss, settings, evaluate=validate, folder=folder)
    logger.info("autoencoder: %s", result)
    return model


def build_model(seed: int) -> AutoencoderKL:
    """Return the autoencoder with random weights."""
    set_seed(seed)
    levels = len(CHANNELS)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        sample_size=64,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        _start_from_mean_colours(model)
        # The log variance starts low: with unit noise on the latents, the decoder would learn to ignore them first.
        model.quant_conv.bias[LATENT_CHANNELS:] -= 6
    return model


def reconstruction_loss(model: Any, pixels: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - an AutoencoderKL, wrapped
    """Return the squared error of the reconstruction, plus a little of the KL divergence from a unit Gaussian.

    As in Rombach et al. 2022, without the discriminator and the perceptual part: flat drawings need neither.
    """
    posterior = model.encode(pixels).latent_dist
    reconstruction = model.decode(posterior.sample()).sample
    divergence = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return torch.nn.functional.mse_loss(reconstruction, pixels) + KL_WEIGHT * divergence


def _start_from_mean_colours(model: AutoencoderKL) -> None:
    """Set weights so that the first three latents are the mean colour of each 8 × 8 patch, decoded as such.

    From random weights, the first thousand steps go into carrying colour through the normalisations, which take out
    mean and scale of a picture. Here each residual block starts as the identity (Zhang et al. 2019, "Fixup"), and eight
    channels run through all levels: red, green and blue, their negatives (since SiLU(x) - SiLU(-x) = x, a pair passes
    unbent), and a constant with its negative, large enough to make the scale nearly the same for all pictures.
    """
    for module in model.modules():
        if isinstance(module, ResnetBlock2D):
            for parameter in module.conv2.parameters():
                torch.nn.init.zeros_(parameter)
            if module.conv_shortcut is not None:
                _carry(module.conv_shortcut)
        elif isinstance(module, Upsample2D):
            _carry(module.get_submodule("conv"))
        elif isinstance(module, Downsample2D):
            _carry(module.conv)
            for channel in range(_CARRIED):
                module.conv.weight[channel, channel] = 0
                module.conv.weight[channel, channel, :2, :2] = 0.25
    for half in (model.encoder, model.decoder):
        _carry(half.conv_in)
        weight, bias = _weight_and_bias(half.conv_in)
        weight[3:_CARRIED] = 0
        for colour in range(3):
            weight[colour + 3, colour, 1, 1] = -1
        bias[6], bias[7] = _CONSTANT, -_CONSTANT
        # What the normalisation before it divides by, where the other channels are near 0.
        scale = ((2 * _CONSTANT**2 + 6 * _COLOUR_VARIANCE) / half.conv_out.in_channels) ** 0.5
        weight, bias = _weight_and_bias(half.conv_out)
        weight[:3], bias[:3] = 0, 0
        for colour in range(3):
            weight[colour, colour, 1, 1] = scale
            weight[colour, colour + 3, 1, 1] = -scale
    for name in ("quant_conv", "post_quant_conv"):
        weight, bias = _weight_and_bias(model.get_submodule(name))
        weight[:3], bias[:3] = 0, 0
        for colour in range(3):
            weight[colour, colour] = 1


def _carry(convolution: torch.nn.Module) -> None:
    """Let the carried channels pass as they are."""
    weight, bias = _weight_and_bias(convolution)
    weight[:_CARRIED], bias[:_CARRIED] = 0, 0
    inputs, side = weight.shape[1:3]
    for channel in range(min(_CARRIED, inputs)):
        weight[channel, channel, side // 2, side // 2] = 1


def _weight_and_bias(convolution: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    return convolution.get_parameter("weight"), convolution.get_parameter("bias")
