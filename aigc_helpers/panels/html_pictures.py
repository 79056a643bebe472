"""A picture as an ``img`` element, which has alt text; an Image widget has none."""

from __future__ import annotations

import io
from base64 import b64encode

from PIL.Image import Image

from aigc_helpers.terminal import in_html


def img_element(png: bytes, alt: str, style: str = "") -> str:
    """Return the element with the picture in it.

    Args:
        png: the bytes of a PNG file.
        alt: what a reader who cannot see the picture needs to know.
        style: CSS, if any.

    Example:
        >>> img_element(b"...", alt="a tiger", style="width: 64px")
        '<img alt="a tiger" src="data:image/png;base64,Li4u" style="width: 64px">'
    """
    styled = f' style="{style}"' if style else ""
    return f'<img alt="{in_html(alt)}" src="data:image/png;base64,{b64encode(png).decode()}"{styled}>'


def png_of(picture: Image) -> bytes:
    """Return a picture as the bytes of a PNG file.

    Example:
        >>> from PIL import Image
        >>> png_of(Image.new("RGB", (64, 64), "white"))[:4]
        b'\\x89PNG'
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
