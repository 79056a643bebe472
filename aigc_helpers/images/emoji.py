"""The emoji of the book (data/emoji, see the card there): concepts in three styles, on backgrounds drawn when used."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from aigc_helpers.errors import UnknownNameError
from aigc_helpers.images.backgrounds import BACKGROUNDS, caption, chinese_caption, compose
from aigc_helpers.store import install_asset

STYLES = ("noto", "twemoji", "fluent")
BASE_STYLES = ("noto", "twemoji")  # What ``data/sd`` draws; fluent is left for LoRAs to learn.
# Left for LoRAs to learn, too: none of the training pictures of ``data/sd`` shows them.
HELD_OUT_CONCEPTS = (
    "bubble-tea",
    "flamingo",
    "jellyfish",
    "koala",
    "lobster",
    "peacock",
    "pineapple",
    "pretzel",
    "sauropod",
    "snail",
)
LANGUAGES = ("en", "zh")
COLOURS = tuple(background.name for background in BACKGROUNDS)
_HELD_OUT = 2  # Backgrounds per concept.


class Facts(NamedTuple):
    """What a caption states: the concept's number, the style, and the background's colour."""

    concept: int
    style: str
    colour: str


@dataclass(frozen=True)
class EmojiSet:
    """Concepts with their drawings.

    Attributes:
        names: of the concepts, such as ``"mans-shoe"``.
        groups: their Unicode groups, such as ``"Food & Drink"``.
        english: their English names for captions, such as ``"man's shoe"``.
        chinese: their Chinese names for captions.
        drawings: concept × style (in the order of ``STYLES``) × 64 × 64 × RGBA, uint8.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    drawings: np.ndarray

    @cached_property
    def number_of(self) -> dict[str, int]:
        """Return each concept's position by its name."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def drawn(self) -> list[tuple[int, str]]:
        """All drawings: the number of the concept, and the style."""
        return [(concept, style) for concept in range(len(self.names)) for style in STYLES]

    def picture(self, concept: int, style: str, colour: str) -> np.ndarray:
        """Return a concept in a style on a background: 64 × 64 × RGB, uint8."""
        return compose(self.drawings[concept, STYLES.index(style)], colour)

    def caption(self, concept: int, style: str, colour: str, language: str) -> str:
        """Return what ``picture`` shows, in words; ``language`` is ``"en"`` or ``"zh"``."""
        if language == "zh":
            return chinese_caption(self.chinese[concept], style, colour)
        return caption(self.english[concept], style, colour)

    def pictures(self, facts: Iterable[Facts]) -> np.ndarray:
        """Return one picture each: pictures × 64 × 64 × RGB, uint8."""
        return np.stack([self.picture(*one) for one in facts])

    def captions(self, facts: Iterable[Facts]) -> list[tuple[str, ...]]:
        """Return the captions of each, one per language in the order of ``LANGUAGES``."""
        return [tuple(self.caption(*one, language) for language in LANGUAGES) for one in facts]

    def facts(self, styles: Iterable[str], colours_of: Callable[[str], Iterable[str]]) -> list[Facts]:
        """Return every concept in every style, on the backgrounds that ``colours_of`` gives for its name."""
        return [
            Facts(concept, style, colour)
            for concept, name in enumerate(self.names)
            for style in styles
            for colour in colours_of(name)
        ]

    def only(self, names: tuple[str, ...]) -> EmojiSet:
        """Return these concepts alone, in this order.

        Raises:
            UnknownNameError: one of them is not there.
        """
        for name in names:
            if name not in self.number_of:
                raise UnknownNameError("concept", name, self.names)
        chosen = [self.number_of[name] for name in names]
        return EmojiSet(
            names,
            tuple(self.groups[number] for number in chosen),
            tuple(self.english[number] for number in chosen),
            tuple(self.chinese[number] for number in chosen),
            self.drawings[chosen],
        )


def load_emoji() -> EmojiSet:
    """Return all concepts, in the order of their names.

    Raises:
        ReaderError: the file is missing or altered.

    Example:
        >>> emoji = load_emoji()
        >>> emoji.drawings.shape  # Concepts × styles × height × width × RGBA.
        (1234, 3, 64, 64, 4)
        >>> emoji.caption(emoji.number_of["tiger"], "noto", "blue", "zh")
        '老虎，noto 风格，蓝色背景'
    """
    import pandas

    table = pandas.read_parquet(install_asset("emoji") / "emoji.parquet")
    by_style = {style: table[table["style"] == style].sort_values("name") for style in STYLES}
    first = by_style[STYLES[0]]
    drawings = [[_open_rgba(png) for png in by_style[style]["png"]] for style in STYLES]
    return EmojiSet(
        tuple(first["name"]),
        tuple(first["group"]),
        tuple(first["english"]),
        tuple(first["chinese"]),
        np.array(drawings).swapaxes(0, 1),
    )


def held_out_colours(concept: str) -> tuple[str, ...]:
    """Return the two backgrounds on which no model of the book was shown a concept in training.

    On them one sees whether a model has understood a caption's words one by one. They follow from a hash of the name.

    Example:
        >>> held_out_colours("tiger")
        ('green', 'blue')
    """
    keys = {colour: hashlib.sha256(f"{concept} {colour}".encode()).digest() for colour in COLOURS}
    return tuple(sorted(sorted(COLOURS, key=keys.__getitem__)[:_HELD_OUT], key=COLOURS.index))


def training_colours(concept: str) -> tuple[str, ...]:
    """Return the eight backgrounds on which a concept is shown in training.

    Example:
        >>> len(training_colours("tiger"))
        8
    """
    held_out = held_out_colours(concept)
    return tuple(colour for colour in COLOURS if colour not in held_out)


def _open_rgba(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
