"""The poems of the book (data/poems, see the card there), and how a poem becomes text for the model and back.

For the model a poem is one run of characters: ``春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。``
It needs no line breaks, because each line ends with its punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.store import install_asset

if TYPE_CHECKING:
    import pandas
    from transformers import PreTrainedTokenizerBase

POEM_FILES = ("tang", "song", "ci")
POEM_SPLITS = ("train", "validation", "test")
MARKS = 2  # <bos> and <eos> around a poem's tokens.

_HAN = "〇\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
_LINE = re.compile(f"[{_HAN}]+(?:、[{_HAN}]+)*[，。？！；：]")


def load_poems(file: str, split: str) -> pandas.DataFrame:
    """Return the poems of one split, with the columns of ``data/poems/README.md``.

    Args:
        file: ``"tang"`` or ``"song"`` (shi), or ``"ci"``.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Raises:
        UnknownNameError: there is no such file or split.
        ReaderError: the file is missing or altered.

    Example:
        >>> poems = load_poems("tang", "test")
        >>> poems.loc[0, ["title", "author"]].tolist()
        ['帝京篇十首 二', '太宗皇帝']
    """
    import pandas

    if file not in POEM_FILES:
        raise UnknownNameError("file of poems", file, POEM_FILES)
    if split not in POEM_SPLITS:
        raise UnknownNameError("split", split, POEM_SPLITS)
    table = pandas.read_parquet(install_asset("poems") / f"{file}.parquet")
    return table[table["split"] == split].reset_index(drop=True)


def load_regular_shi(split: str, longest: int) -> pandas.DataFrame:
    """Return the Tang and Song shi whose lines have five or seven characters throughout.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``.
        longest: the most characters a poem may have, punctuation counted.

    Example:
        >>> poems = load_regular_shi("validation", longest=64)
        >>> sorted(set(poems["form"]))
        ['七言', '五言']
    """
    import pandas

    table = pandas.concat([load_poems(file, split) for file in ("tang", "song")], ignore_index=True)
    short_enough = table["text"].map(lambda text: len(run_on(text))) <= longest
    return table[table["regular"] & short_enough].reset_index(drop=True)


def run_on(text: str) -> str:
    """Remove line breaks and all other white space: a poem as the model reads it.

    Example:
        >>> run_on("春眠不觉晓， 处处闻啼鸟。")
        '春眠不觉晓，处处闻啼鸟。'
    """
    return "".join(text.split())


def poem_token_ids(tokenizer: PreTrainedTokenizerBase, poems: Iterable[str]) -> list[list[int]]:
    """Return the token ids of each poem from ``<bos>`` to ``<eos>``, ``MARKS`` more than it has characters.

    Example:
        >>> from aigc_helpers.text import load_poet
        >>> tokenizer, _ = load_poet()
        >>> tokenizer.convert_ids_to_tokens(poem_token_ids(tokenizer, ["春眠，"])[0])
        ['<bos>', '春', '眠', '，', '<eos>']
    """
    texts = [run_on(poem) for poem in poems]
    return [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]


@dataclass(frozen=True)
class ParsedPoem:
    """What a model wrote, taken apart into ``lines`` of verse with their punctuation."""

    lines: tuple[str, ...]

    @property
    def line_lengths(self) -> str:
        """Characters per line, as in ``"5-5-5-5"``; punctuation does not count."""
        return "-".join(str(len(re.findall(f"[{_HAN}]", line))) for line in self.lines)

    @property
    def is_regular(self) -> bool:
        """Whether all lines have five characters, or all seven, and their number is even and at least four.

        This is the rule of the column ``regular`` for shi.
        """
        found = {int(length) for length in self.line_lengths.split("-")}
        return found in ({5}, {7}) and len(self.lines) >= 4 and len(self.lines) % 2 == 0

    def __str__(self) -> str:
        """Put every line on a line of its own; ``parse_poem`` reads it again."""
        return "\n".join(self.lines)


def parse_poem(text: str) -> ParsedPoem:
    """Take a poem apart into lines; line breaks in ``text`` do not matter.

    Raises:
        ReaderError: it is empty, or does not consist of lines of Chinese characters that end with ，。？！； or ：.

    Example:
        >>> poem = parse_poem("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。")
        >>> poem.lines[0], poem.line_lengths, poem.is_regular
        ('春眠不觉晓，', '5-5-5-5', True)
    """
    joined = run_on(text)
    lines = tuple(_LINE.findall(joined))
    if not lines or "".join(lines) != joined:
        rest = joined[len("".join(lines)) :] if joined.startswith("".join(lines)) else joined
        raise ReaderError(f"not a poem: {rest[:20]!r} is no line of Chinese characters that ends with punctuation.")
    return ParsedPoem(lines)


def in_lines(text: str) -> str:
    """Put every line of verse on a line of its own; what is no poem stays as it is."""
    try:
        return str(parse_poem(text))
    except ReaderError:
        return text


def poem_line_lengths(text: str) -> str:
    """Return the characters per line, as in ``"7-7-5-5"``; an empty string for what is no poem.

    Example:
        >>> poem_line_lengths("春眠不觉晓，处处闻啼鸟。"), poem_line_lengths("no poem")
        ('5-5', '')
    """
    try:
        return parse_poem(text).line_lengths
    except ReaderError:
        return ""
