"""Pictures as arrays and as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def to_array(pictures: Sequence[Image.Image]) -> np.ndarray:
    """Stack pictures of one size into pictures × height × width × RGB (uint8).

    Example:
        >>> from PIL import Image
        >>> to_array([Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), "red")]).shape
        (2, 64, 64, 3)
    """
    return np.stack([np.asarray(picture) for picture in pictures])


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """Turn pictures × height × width × RGB (uint8) into pictures × 3 × height × width (float32, -1 to 1).

    Example:
        >>> import numpy
        >>> black = to_pixels(numpy.zeros((1, 64, 64, 3), numpy.uint8))
        >>> black.shape, black.min().item()
        (torch.Size([1, 3, 64, 64]), -1.0)
    """
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_pictures(pixels: torch.Tensor) -> np.ndarray:
    """Turn pictures × 3 × height × width (-1 to 1) into pictures × height × width × RGB (uint8).

    Example:
        >>> import torch
        >>> grey = to_pictures(torch.zeros(1, 3, 64, 64))
        >>> grey.shape, grey.max().item()
        ((1, 64, 64, 3), 128)
    """
    scaled = (pixels.detach().float().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
