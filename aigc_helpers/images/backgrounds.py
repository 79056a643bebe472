"""Ten named background colours, and the captions that name concept, style and background: three facts to check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aigc_helpers.errors import UnknownNameError


@dataclass(frozen=True)
class Background:
    """A background colour.

    Attributes:
        name: the colour in English, as captions name it.
        chinese: the colour in Chinese, as captions name it.
        rgb: red, green and blue, 0 to 255.
    """

    name: str
    chinese: str
    rgb: tuple[int, int, int]


# Far enough apart that a blurred picture still shows which one it was.
BACKGROUNDS = (
    Background("red", "红色", (220, 40, 40)),
    Background("orange", "橙色", (250, 140, 30)),
    Background("yellow", "黄色", (250, 225, 60)),
    Background("green", "绿色", (40, 160, 70)),
    Background("cyan", "青色", (60, 205, 215)),
    Background("blue", "蓝色", (40, 80, 210)),
    Background("purple", "紫色", (130, 50, 180)),
    Background("pink", "粉色", (250, 160, 200)),
    Background("white", "白色", (255, 255, 255)),
    Background("black", "黑色", (20, 20, 20)),
)


def background(colour: str) -> Background:
    """Return the background called ``colour``, in English or in Chinese.

    Raises:
        UnknownNameError: none is called so.

    Example:
        >>> background("蓝色").name, background("blue").rgb
        ('blue', (40, 80, 210))
    """
    for candidate in BACKGROUNDS:
        if colour in (candidate.name, candidate.chinese):
            return candidate
    raise UnknownNameError("background colour", colour, [candidate.name for candidate in BACKGROUNDS])


def nearest_colour(rgb: Sequence[float] | np.ndarray) -> str:
    """Return the name of the background that lies nearest to ``rgb`` (0 to 255).

    Example:
        >>> nearest_colour((30, 90, 200))
        'blue'
    """
    distances = np.array([candidate.rgb for candidate in BACKGROUNDS]) - rgb
    return BACKGROUNDS[int((distances**2).sum(axis=1).argmin())].name


def compose(rgba: np.ndarray, colour: str) -> np.ndarray:
    """Lay a picture (height × width × 4, uint8) on a background; return height × width × 3, uint8.

    Raises:
        UnknownNameError: no background is called ``colour``.
    """
    return alpha_composite(rgba, background(colour).rgb)


def alpha_composite(rgba: np.ndarray, rgb: Sequence[int]) -> np.ndarray:
    """Lay a picture (height × width × 4, uint8) on any colour (0 to 255); return height × width × 3, uint8.

    Example:
        >>> import numpy
        >>> transparent = numpy.zeros((64, 64, 4), numpy.uint8)
        >>> alpha_composite(transparent, (40, 80, 210))[0, 0].tolist()
        [40, 80, 210]
    """
    picture = rgba.astype(np.uint16)
    opacity = picture[..., 3:]
    behind = np.array(rgb, dtype=np.uint16)
    # 255 * 255 + 127 still fits into 16 bits.
    return ((picture[..., :3] * opacity + behind * (255 - opacity) + 127) // 255).astype(np.uint8)


def caption(english: str, style: str, colour: str) -> str:
    """Return the English caption, such as ``"tiger, noto style, blue background"``.

    Example:
        >>> caption("tiger", "noto", "蓝色")
        'tiger, noto style, blue background'
    """
    return f"{english}, {style} style, {background(colour).name} background"


def chinese_caption(chinese: str, style: str, colour: str) -> str:
    """Return the Chinese caption, such as ``"老虎，noto 风格，蓝色背景"``."""
    return f"{chinese}，{style} 风格，{background(colour).chinese}背景"
