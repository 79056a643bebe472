"""Pictures with their captions, from a folder as trainers of LoRAs keep them: ``cat.png`` beside ``cat.txt``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from aigc_helpers.errors import ReaderError

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_NAMED = 8  # Faults that a message lists.


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures (count × side × side × RGB, uint8) and the captions of each, one per language."""

    pictures: np.ndarray
    captions: list[tuple[str, ...]]


def read_captioned_pictures(
    folder: Path, side: int, check_caption: Callable[[str], None], *, skip_faulty: bool = False
) -> CaptionedPictures:
    """Read every picture of ``folder`` and the caption in the text file of the same name.

    Args:
        folder: holds the pictures, square and all of one size; transparent parts become white.
        side: in pixels, to which they are reduced.
        check_caption: raises ReaderError for a caption that the model could not read.
        skip_faulty: leave out pictures with a fault; without it one fault refuses the folder.

    Raises:
        ReaderError: there are no pictures, or some are broken, have no caption or one that cannot be read, are not
            square, smaller than ``side``, or of another size than most; each is named.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
    faults: dict[Path, str] = {}
    pictures: dict[Path, Image.Image] = {}
    captions: dict[Path, str] = {}
    for path in paths:
        try:
            captions[path] = _read_caption(path.with_suffix(".txt"), check_caption)
            pictures[path] = _read_picture(path, side)
        except ReaderError as error:
            faults[path] = str(error)
    faults |= _of_another_size(pictures)
    if faults and not skip_faulty:
        raise ReaderError(_refusal(folder, faults))
    sound = [path for path in paths if path not in faults]
    if not sound:
        raise ReaderError(
            f"{folder} holds no picture to train on ({', '.join(PICTURE_ENDINGS)} with a caption in a .txt file of "
            "the same name)."
        )
    reduced = [pictures[path].resize((side, side), Image.Resampling.LANCZOS) for path in sound]
    return CaptionedPictures(np.stack([np.asarray(one) for one in reduced]), [(captions[path],) for path in sound])


def _read_caption(path: Path, check_caption: Callable[[str], None]) -> str:
    try:
        caption = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ReaderError(f"there is no caption {path.name}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderError(f"its caption {path.name} is no text in UTF-8") from error
    try:
        check_caption(caption)
    except ReaderError as error:
        raise ReaderError(f"its caption {path.name}: {error}") from error
    return caption


def _read_picture(path: Path, side: int) -> Image.Image:
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ReaderError("the file is broken, or no picture") from error
    width, height = picture.size
    if width != height or width < side:
        raise ReaderError(f"it is {width} × {height} pixels; a square of {side} or more is needed")
    on_white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(on_white, picture).convert("RGB")


def _of_another_size(pictures: dict[Path, Image.Image]) -> dict[Path, str]:
    if not pictures:
        return {}
    usual = Counter(picture.width for picture in pictures.values()).most_common(1)[0][0]
    return {
        path: f"it is {picture.width} pixels wide, and most are {usual}"
        for path, picture in pictures.items()
        if picture.width != usual
    }


def _refusal(folder: Path, faults: dict[Path, str]) -> str:
    lines = [f"  {path.name}: {fault}" for path, fault in list(faults.items())[:_NAMED]]
    more = f"\n  and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
    listed = "\n".join(lines)
    return (
        f"{folder} has pictures that cannot be trained on:\n{listed}{more}\n"
        "Mend them, or leave them out (skip_faulty=True, or aigc train sd … --skip-faulty)."
    )
