"""Pictures with their captions, from a folder as trainers of LoRAs keep them: ``cat.png`` beside ``cat.txt``."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from aigc_helpers.errors import ReaderError

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow goes by the content, and knows forty more.
_MOST_PIXELS = 30_000_000  # Decoded, turned and reduced they take some 400 MB.
_LONGEST_CAPTION = 100_000  # Bytes.
_NAMED = 8  # Faults that a message lists.


@dataclass(frozen=True)
class CaptionedPictures:
    """Pictures (count × side × side × RGB, uint8) and the captions of each, one per language."""

    pictures: np.ndarray
    captions: list[tuple[str, ...]]


class _Picture(NamedTuple):
    """The width of a square picture in its file, and the picture reduced: side × side × RGB, uint8."""

    width: int
    reduced: np.ndarray


def read_captioned_pictures(
    folder: Path, side: int, check_caption: Callable[[str], None], *, skip_faulty: bool = False
) -> CaptionedPictures:
    """Read every picture of ``folder`` and the caption in the text file of the same name.

    Args:
        folder: holds the pictures, square and all of one size; transparent parts become white, and a camera's note of
            how it was held is followed.
        side: in pixels, to which they are reduced.
        check_caption: raises ReaderError for a caption that the model could not read.
        skip_faulty: leave out pictures with a fault; without it one fault refuses the folder.

    Raises:
        ReaderError: there are no pictures, or some are broken, have no caption or one that cannot be read, are not
            square, smaller than ``side``, of another size than most, or too large to be read; each is named.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)
    faults: dict[Path, str] = {}
    pictures: dict[Path, _Picture] = {}
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
    return CaptionedPictures(
        np.stack([pictures[path].reduced for path in sound]), [(captions[path],) for path in sound]
    )


def _read_caption(path: Path, check_caption: Callable[[str], None]) -> str:
    if not path.is_file():  # Reading a pipe might never end.
        raise ReaderError(f"there is no caption {path.name}")
    if path.stat().st_size > _LONGEST_CAPTION:
        raise ReaderError(f"its caption {path.name} takes more than {_LONGEST_CAPTION:,} bytes, so it is none")
    try:
        caption = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderError(f"its caption {path.name} is no text in UTF-8") from error
    try:
        check_caption(caption)
    except ReaderError as error:
        raise ReaderError(f"its caption {path.name}: {error}") from error
    return caption


def _read_picture(path: Path, side: int) -> _Picture:
    if not path.is_file():
        raise ReaderError("it is no file")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as opened:
            _check_size(*opened.size, side)
            picture = _with_eight_bits(opened)
            ImageOps.exif_transpose(picture, in_place=True)
            reduced = picture.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
            width = opened.width
    except ReaderError:
        raise
    except Exception as error:  # A changed byte makes Pillow raise anything.
        raise ReaderError("the file is broken, or no picture") from error
    on_white = Image.alpha_composite(Image.new("RGBA", reduced.size, "white"), reduced)
    return _Picture(width, np.asarray(on_white.convert("RGB")))


def _check_size(width: int, height: int, side: int) -> None:
    """Refuse a picture by what its header says, before it is decoded."""
    if width != height or width < side:
        raise ReaderError(f"it is {width} × {height} pixels; a square of {side} or more is needed")
    if width * height > _MOST_PIXELS:
        raise ReaderError(f"it is {width} × {height} pixels, and {_MOST_PIXELS:,} at most are read: make it smaller")


def _with_eight_bits(picture: Image.Image) -> Image.Image:
    """Return a grey picture of 16 bits with the upper eight; Pillow would take all above 255 for white."""
    if not picture.mode.startswith("I"):
        return picture
    grey = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    grey.info = picture.info  # With the camera's note.
    return grey


def _of_another_size(pictures: dict[Path, _Picture]) -> dict[Path, str]:
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
