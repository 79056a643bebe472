"""Pictures as arrays and as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def to_array(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Stack pictures of one size into pictures × height × width × RGB (uint8)."""
    return np.stack([np.asarray(picture) for picture in pictures])


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """Turn pictures × height × width × RGB (uint8) into pictures × 3 × height × width (float32, -1 to 1)."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_pictures(pixels: torch.Tensor) -> np.ndarray:
    """Turn pictures × 3 × height × width (-1 to 1) into pictures × height × width × RGB (uint8)."""
    scaled = (pixels.detach().float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
