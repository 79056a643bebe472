"""Texts that keep a form, for the chapter on one adapter per form: right and wrong can be counted.

On the embedded profile a form is a tune of ci: so many characters in each line. On the full profile it is a number of
words per line, and the texts are film reviews broken into such lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aigc_helpers.profile import check_profile, current_profile
from aigc_helpers.text import poems
from aigc_helpers.text.poems import load_poems, run_on
from aigc_helpers.text.reviews import load_reviews

LONGEST = 94  # Tokens of a poem in the poet's context, without the marks around it.

_TUNES = {"浣溪沙": "Huan xi sha", "菩萨蛮": "Pu sa man", "鹧鸪天": "Zhe gu tian"}
_WORDS_PER_LINE = (3, 4, 5)
_FEWEST_LINES, _MOST_LINES = 3, 8


@dataclass(frozen=True)
class Form:
    """A form, texts that keep it, and the function that tells whether a text does.

    Attributes:
        name: names the adapter, too: a tune, or ``"3-words"``.
        label: the same in Latin letters, for figures.
        rule: the lengths of the lines, such as ``"7-7-7-7-7-7"``; ``"3-3-3-…"`` where their number is free.
        train: the training texts.
        test: texts that no training text equals.
        keeps: tells whether a text has exactly these lines.
    """

    name: str
    label: str
    rule: str
    train: list[str] = field(repr=False)
    test: list[str] = field(repr=False)
    keeps: Callable[[str], bool] = field(repr=False)


def load_forms(most: int = 500, profile: str | None = None) -> list[Form]:
    """Return three forms of the profile, by default the one in force, with at most ``most`` training texts each.

    Raises:
        UnknownNameError: there is no such profile.

    Example:
        >>> [(form.rule, len(form.train)) for form in load_forms(most=100)][0]
        ('7-7-7-7-7-7', 100)
    """
    if _is_full(profile):
        return [_words_form(words, most) for words in _WORDS_PER_LINE]
    return [_tune_form(tune, label, most) for tune, label in _TUNES.items()]


def load_known_texts(most: int = 200, profile: str | None = None) -> list[str]:
    """Return at most ``most`` test texts of the kind that the profile's base has read: Tang poems, or English prose.

    Raises:
        UnknownNameError: there is no such profile.

    Example:
        >>> len(load_known_texts(most=50))
        50
    """
    if _is_full(profile):
        return load_reviews("test")["text"].head(most).tolist()
    tang = load_poems("tang", "test")
    texts = [run_on(text) for text in tang[tang["regular"]]["text"]]
    return [text for text in texts if len(text) <= LONGEST][:most]


def line_lengths(text: str) -> str:
    """Return the length of each line, as in ``"7-7-5-5"``: characters of a poem, or words on the full profile.

    An empty string is returned for what does not consist of lines of verse.

    Example:
        >>> line_lengths("春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。")
        '5-5-5-5'
    """
    return _words_of_lines(text) if _is_full() else poems.poem_line_lengths(text)


def in_lines(text: str) -> str:
    """Put every line of verse on a line of its own; other texts stay as they are.

    Example:
        >>> print(in_lines("春眠不觉晓，处处闻啼鸟。"))
        春眠不觉晓，
        处处闻啼鸟。
    """
    return text.strip() if _is_full() else poems.in_lines(text)


def _is_full(profile: str | None = None) -> bool:
    check_profile(profile)
    return (profile or current_profile().name) == "full"


def _tune_form(tune: str, label: str, most: int) -> Form:
    texts: dict[str, list[str]] = {}
    rule = ""
    for split in ("train", "test"):
        table = load_poems("ci", split)
        table = table[table["regular"] & (table["form"] == tune)]
        rule = table["line_lengths"].iloc[0]
        texts[split] = [run_on(text) for text in table["text"].head(most)]
    return Form(tune, label, rule, texts["train"], texts["test"], lambda text: poems.poem_line_lengths(text) == rule)


def _words_form(words: int, most: int) -> Form:
    def keeps(text: str) -> bool:
        lengths = _words_of_lines(text).split("-")
        return len(lengths) >= _FEWEST_LINES and set(lengths) == {str(words)}

    train, test = (
        [broken for text in load_reviews(split)["text"] if keeps(broken := _break_into_lines(text, words))][:most]
        for split in ("train", "test")
    )
    return Form(f"{words}-words", f"{words} words a line", f"{words}-" * _FEWEST_LINES + "…", train, test, keeps)


def _words_of_lines(text: str) -> str:
    return "-".join(str(len(line.split())) for line in text.strip().splitlines())


def _break_into_lines(text: str, words: int) -> str:
    """Return whole lines of ``words`` words each; the words left over at the end are dropped."""
    found = text.split()
    count = min(len(found) // words, _MOST_LINES)
    return "\n".join(" ".join(found[words * line : words * (line + 1)]) for line in range(count))
