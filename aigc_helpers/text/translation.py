"""English and Chinese for the same thing, by a grammar: dates, numbers, times of day and quantities; and prices.

The first four are the old domain, which data/t5 was trained on; prices are the new one, which it has never seen. Every
pair comes from a seed, and no data file is needed. Which split a pair belongs to is a matter of its own text alone, so
no training pair can turn up in the test.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.text.batches import LengthBatches, TextBatch, pad_batch
from aigc_helpers.text.numerals import capital_amount, chinese_number, english_amount, english_number, figures_amount
from aigc_helpers.text.quantities import COUNTED, MEASURED, TIME_SPANS, Noun

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# T5 is told the task in words, in front of the text. The key is the language to translate into.
PREFIXES = {"zh": "translate English to Chinese: ", "en": "translate Chinese to English: "}
SPLITS = ("train", "validation", "test")

# Lists of one word a line would be harder to read than these.
_MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905
_WEEKDAY_CHARACTERS = "一二三四五六日"
_ORDINALS = [
    *"first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(),  # noqa: SIM905
    *"thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split(),  # noqa: SIM905
]
_DAY_PARTS = (("in the morning", "早上", 5, 11), ("in the afternoon", "下午", 1, 5), ("in the evening", "晚上", 6, 11))


class Pair(NamedTuple):
    """The same thing twice.

    Attributes:
        english: such as ``three cups of tea``.
        chinese: such as ``三杯茶``.
        both_ways: whether the English is also what one would make of the Chinese. ``5.00 yuan`` is not: 伍元整 is
            ``five yuan``.
    """

    english: str
    chinese: str
    both_ways: bool = True

    @property
    def split(self) -> str:
        """Return where it belongs: one pair in 20 to validation, one in 20 to test, by a hash of its text."""
        bucket = hashlib.sha256(f"{self.english}\n{self.chinese}".encode()).digest()[0] % 20
        return {0: "validation", 1: "test"}.get(bucket, "train")


class Example(NamedTuple):
    """What the model reads, prefix included, what it is to write, and the language it writes."""

    source: str
    target: str
    language: str


def draw_pairs(domain: str, split: str, count: int, seed: int = 0) -> list[Pair]:
    """Return different pairs of a domain and split; the same arguments give the same pairs.

    Args:
        domain: ``"old"``, or one of its parts ``"number"``, ``"date"``, ``"time"`` and ``"quantity"``; or ``"price"``.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        count: how many.
        seed: of the drawing.

    Raises:
        UnknownNameError: there is no such domain or split.
        ReaderError: the grammar has not so many.

    Example:
        >>> pair = draw_pairs("price", "test", count=1)[0]
        >>> pair.english, pair.chinese
        ('ten yuan and sixty-three fen', '壹拾元陆角叁分')
    """
    if domain not in _DOMAINS:
        raise UnknownNameError("domain", domain, _DOMAINS)
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if count < 1:
        raise ReaderError(f"{count} pairs cannot be drawn: ask for 1 or more.")
    generator = random.Random(f"{domain} {split} {seed}")
    pairs: dict[Pair, None] = {}
    for _ in range(100 * count + 10_000):
        pair = generator.choice(_DOMAINS[domain])(generator)
        if pair.split == split:
            pairs[pair] = None
            if len(pairs) == count:
                return list(pairs)
    raise ReaderError(f"the grammar has only about {len(pairs):,} pairs of {domain} in {split}. Ask for fewer.")


def to_examples(pairs: Sequence[Pair]) -> list[Example]:
    """Return what to translate: each pair into Chinese, and into English too if it goes both ways.

    Example:
        >>> from aigc_helpers.text import draw_pairs
        >>> [example.language for example in to_examples(draw_pairs("number", "train", count=2))]
        ['zh', 'zh', 'en', 'en']
    """
    into_chinese = [Example(PREFIXES["zh"] + pair.english, pair.chinese, "zh") for pair in pairs]
    into_english = [Example(PREFIXES["en"] + pair.chinese, pair.english, "en") for pair in pairs if pair.both_ways]
    return into_chinese + into_english


class TranslationBatches(LengthBatches):
    """Examples as an encoder-decoder takes them, in batches of like length."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], batch_size: int, seed: int = 0
    ) -> None:
        """Tokenize the examples; the tokenizer ends every text with ``</s>``."""
        sources, targets = ([example[side] for example in examples] for side in (0, 1))
        source_ids = tokenizer(sources)["input_ids"]
        super().__init__(source_ids, None, batch_size, tokenizer.pad_token_id, seed)
        self.targets = [torch.tensor(ids) for ids in tokenizer(targets)["input_ids"]]

    def batch(self, epoch: int, position: int) -> TextBatch:
        """Return ``input_ids`` and ``attention_mask``, and ``labels`` with -100 for padding: (batch, longest) each."""
        indices = self._order_of(epoch)[position]
        batch = pad_batch([self.token_ids[index] for index in indices], self.pad_token_id)
        targets = [self.targets[index] for index in indices]
        return batch | {"labels": pad_sequence(targets, batch_first=True, padding_value=-100)}


def a_number(generator: random.Random) -> Pair:
    """Draw a number in words, or the number of a thing, as in ``No. 305`` and ``第三百零五号``."""
    number = _any_number(generator)
    if generator.random() < 0.5:
        return Pair(english_number(number), chinese_number(number))
    return Pair(f"No. {number}", f"第{chinese_number(number)}号")


def a_date(generator: random.Random) -> Pair:
    """Draw a day from 1900 to 2099, with its weekday or without, or a day of any year in words."""
    day = date(1900, 1, 1) + timedelta(days=generator.randrange(73_049))
    month = _MONTHS[day.month - 1]
    style = generator.randrange(4)
    if style == 0:
        return Pair(f"the {_ordinal(day.day)} of {month}", f"{chinese_number(day.month)}月{chinese_number(day.day)}日")
    english, chinese = f"{month} {day.day}, {day.year}", f"{day.year}年{day.month}月{day.day}日"
    if style == 1:
        weekday = day.weekday()
        return Pair(f"{_WEEKDAYS[weekday]}, {english}", f"{chinese}，星期{_WEEKDAY_CHARACTERS[weekday]}")
    return Pair(english, chinese)


def a_time(generator: random.Random) -> Pair:
    """Draw a time of day, in figures or in words."""
    minute = generator.randrange(60)
    if generator.random() < 0.5:
        hour, afternoon = generator.randint(1, 12), generator.random() < 0.5
        clock = f"{hour}:{minute:02}"
        return Pair(f"{clock} {'p.m.' if afternoon else 'a.m.'}", f"{'下午' if afternoon else '上午'}{clock}")
    english_part, chinese_part, earliest, latest = generator.choice(_DAY_PARTS)
    hour = generator.randint(earliest, latest)
    english, chinese = _clock_in_words(hour, minute)
    return Pair(f"{english} {english_part}", f"{chinese_part}{chinese}")


def a_quantity(generator: random.Random) -> Pair:
    """Draw things that are counted or measured, the number in words or in figures."""
    number = generator.randint(1, 20) if generator.random() < 0.4 else max(1, _any_number(generator) % 1000)
    in_figures = generator.random() < 0.3
    english = str(number) if in_figures else english_number(number)
    chinese = str(number) if in_figures else "两" if number == 2 else chinese_number(number)
    kind = generator.randrange(5)
    if kind == 0:
        span = generator.choice(TIME_SPANS)
        return Pair(f"{english} {_name(span, number)}", f"{chinese}{span.chinese}")
    if kind <= 2:
        measure, stuffs = generator.choice(MEASURED)
        stuff = generator.choice(stuffs)
        if in_figures and measure.singular == "kilogram":  # Half a pair of shoes would be odd.
            number, english = 2, f"{number}.{generator.randint(1, 9)}"
            chinese = english
        return Pair(
            f"{english} {_name(measure, number)} of {stuff.plural}", f"{chinese}{measure.chinese}{stuff.chinese}"
        )
    noun = generator.choice(COUNTED)
    return Pair(f"{english} {_name(noun, number)}", f"{chinese}{noun.chinese}")


def a_price(generator: random.Random) -> Pair:
    """Draw an amount of money in capitals, its English in words or in figures."""
    yuan = _any_number(generator)
    rest = generator.choice([0, 10 * generator.randrange(10), generator.randrange(10), *[generator.randrange(100)] * 2])
    fen = max(1, 100 * yuan + rest)
    if generator.random() < 0.5:
        return Pair(english_amount(fen), capital_amount(fen))
    return Pair(figures_amount(fen), capital_amount(fen), both_ways=False)


def _any_number(generator: random.Random) -> int:
    """Draw 0 to 9,999, one to four digits equally often, and zeros often enough to learn where 零 stands."""
    digits = [generator.randrange(10) if generator.random() < 0.8 else 0 for _ in range(generator.randint(1, 4))]
    return int("".join(map(str, digits)))


def _ordinal(day: int) -> str:
    if day < 20:
        return _ORDINALS[day - 1]
    tens, rest = divmod(day, 10)
    return f"{english_number(10 * tens)}-{_ORDINALS[rest - 1]}" if rest else {2: "twentieth", 3: "thirtieth"}[tens]


def _clock_in_words(hour: int, minute: int) -> tuple[str, str]:
    name, character = english_number(hour), "两" if hour == 2 else chinese_number(hour)
    if minute == 0:
        return f"{name} o'clock", f"{character}点"
    if minute == 30:
        return f"half past {name}", f"{character}点半"
    span = minute if minute < 30 else 60 - minute
    english = "a quarter" if span == 15 else english_number(span)
    chinese = "一刻" if span == 15 else f"{chinese_number(span)}分"
    if minute < 30:
        return f"{english} past {name}", f"{character}点{'零' if span < 10 else ''}{chinese}"
    following = hour + 1
    return (
        f"{english} to {english_number(following)}",
        f"差{chinese}{'两' if following == 2 else chinese_number(following)}点",
    )


def _name(noun: Noun, number: int) -> str:
    return noun.singular if number == 1 else noun.plural


_OLD: list[Callable[[random.Random], Pair]] = [a_number, a_date, a_time, a_quantity]
_DOMAINS: dict[str, list[Callable[[random.Random], Pair]]] = {
    "old": _OLD,
    "number": [a_number],
    "date": [a_date],
    "time": [a_time],
    "quantity": [a_quantity],
    "price": [a_price],
}
