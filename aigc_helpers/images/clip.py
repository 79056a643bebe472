"""The CLIP in miniature (``data/clip``): pictures and captions as vectors of one space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from aigc_helpers.errors import ReaderError, first_line
from aigc_helpers.images.pixels import to_pixels
from aigc_helpers.profile import current_profile
from aigc_helpers.store import install_asset

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

_EMBEDDED_AT_ONCE = 256


def load_clip(folder: Path | None = None) -> tuple[CLIPModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer in float32 on the profile's device, from ``folder`` or else data/clip.

    Raises:
        ReaderError: the files are missing, altered, or no CLIP.

    Example:
        >>> model, tokenizer = load_clip()
        >>> model.config.projection_dim
        256
    """
    from safetensors import SafetensorError
    from transformers import AutoTokenizer, CLIPModel

    folder = folder or install_asset("clip")
    try:
        model = CLIPModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ReaderError(
            f"{folder} does not load as a CLIP ({first_line(error)}). It must hold a CLIPModel and its tokenizer, as "
            "save_pretrained writes them."
        ) from error
    model.to(current_profile().device)  # type: ignore[arg-type]  # transformers wraps `to`, and its type loses self
    return model.eval(), tokenizer


@torch.no_grad()
def embed_pictures(model: CLIPModel, pictures: np.ndarray) -> torch.Tensor:
    """Return the embeddings of pictures × 64 × 64 × RGB (uint8): pictures × width, each of length 1, on the CPU.

    Example:
        >>> from aigc_helpers.images import load_clip, load_emoji
        >>> tiger = load_emoji().only(("tiger",))
        >>> embed_pictures(load_clip()[0], tiger.picture(0, "noto", "blue")[None]).shape
        torch.Size([1, 256])
    """
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(pictures), _EMBEDDED_AT_ONCE):
        pixels = to_pixels(pictures[start : start + _EMBEDDED_AT_ONCE]).to(device)
        parts.append(model.visual_projection(model.vision_model(pixels).pooler_output).float().cpu())
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)


@torch.no_grad()
def embed_captions(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, captions: Sequence[str]) -> torch.Tensor:
    """Return the embeddings of captions: captions × width, each of length 1, on the CPU.

    Example:
        >>> from aigc_helpers.images import load_clip
        >>> english, chinese, other = embed_captions(*load_clip(), ["tiger", "老虎", "pizza"])
        >>> bool(english @ chinese > english @ other)
        True
    """
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(captions), _EMBEDDED_AT_ONCE):
        # No attention mask, as in training: no token looks at those behind it, and padding stands behind.
        token_ids = tokenizer(list(captions[start : start + _EMBEDDED_AT_ONCE]), padding=True, return_tensors="pt")
        hidden = model.text_model(token_ids["input_ids"].to(device)).pooler_output
        parts.append(model.text_projection(hidden).float().cpu())
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)
