"""The exercises of chapter 01, What AIGC is."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

_DRAWN = ["ring", None, "ring", "plus", None, None, "ring"]
_NEXT = {"a": {"a": 0.4, "b": 0.6}, "b": {"c": 0.9, "a": 0.1}, "c": {"b": 0.3, "a": 0.7}}


def _table(text: str) -> dict[str, float]:
    """Stand for a language model: what may follow depends on the last letter, and after ``bc`` on two."""
    return {"d": 1.0} if text.endswith("abc") else _NEXT.get(text[-1], {"a": 1.0})


def _continues(text: str, count: int, expected: str) -> Test:
    def test(answer: Any) -> bool:  # noqa: ANN401
        return answer(_table, text, count) == expected

    return test


EXERCISES = [
    Exercise(
        "01-1",
        Text("How many valid pictures are there?", "一共有多少张合格的图？"),
        tests=[
            gives((8, 6, 3), 128),
            gives((8, 8, 3), 288),
            gives((5, 4, 4), 5),
            gives((2, 10, 4), 98),
        ],
        mistakes=[
            Mistake(
                "one place too few",
                gives((8, 6, 3), 72),
                Text(
                    "A tile as wide as the picture has one place, not none.",
                    "小图和画面一样宽时，有一个位置，而不是零个。",
                ),
            ),
            Mistake(
                "one direction only",
                gives((8, 6, 3), 32),
                Text(
                    "The tile moves down as well as to the right.",
                    "小图可以横着移，也可以竖着移。",
                ),
            ),
        ],
        hints=[
            Text(
                "How many places are there in one row? Try side 3, tile 3.",
                "一行里有几个位置？拿 side 3、tile 3 试试。",
            ),
            Text(
                "(side - tile + 1) places in each direction.",
                "每个方向有 (side - tile + 1) 个位置。",
            ),
        ],
    ),
    Exercise(
        "01-2",
        Text("Measure mode collapse.", "度量模式崩塌。"),
        tests=[
            gives((_DRAWN, 8), 0.25, tolerance=1e-9),
            gives((["a", "b", "c"], 3), 1.0, tolerance=1e-9),
            gives(([None, None], 4), 0.0, tolerance=1e-9),
        ],
        mistakes=[
            Mistake(
                "None is no kind",
                gives((_DRAWN, 8), 0.375, tolerance=1e-9),
                Text(
                    "None stands for an invalid picture; it is no kind.",
                    "None 表示不合格的图，不算一种。",
                ),
            ),
            Mistake(
                "draws, not kinds",
                gives((_DRAWN, 8), 0.5, tolerance=1e-9),
                Text(
                    "You count draws. However often a kind comes, it counts once.",
                    "你数的是次数。一种出现多少次都只算一次。",
                ),
            ),
            Mistake(
                "share of valid draws",
                gives((_DRAWN, 8), 4 / 7, tolerance=1e-9),
                Text(
                    "That is the share of valid draws, which a collapsed generator can bring to 1.",
                    "这是合格率，崩塌的生成器照样可以做到 1。",
                ),
            ),
        ],
        hints=[
            Text("A set keeps each thing once.", "集合（set）里每样东西只留一个。"),
            Text(
                "len({name for name in names if name is not None}) / ?",
                "len({name for name in names if name is not None}) / ? 填上分母。",
            ),
        ],
    ),
    Exercise(
        "01-3",
        Text("Write autoregression yourself.", "自己写自回归。"),
        tests=[
            _continues("a", 1, "ab"),
            _continues("a", 3, "abcd"),
            _continues("c", 2, "cab"),
            _continues("b", 0, "b"),
        ],
        mistakes=[
            Mistake(
                "asks only once",
                _continues("a", 3, "abbb"),
                Text(
                    "You ask once and repeat the answer. Ask again with the text so far.",
                    "你只问了一次，然后重复那个答案。要拿到目前为止的文本再问。",
                ),
            ),
            Mistake(
                "forgets the beginning",
                _continues("a", 3, "bcd"),
                Text("Return the beginning, too.", "开头也要一并返回。"),
            ),
            Mistake(
                "shows only the last letter",
                _continues("a", 3, "abca"),
                Text(
                    "The model has to see the whole text so far, not only its last letter.",
                    "要把到目前为止的整段文本给模型看，而不只是最后一个字母。",
                ),
            ),
        ],
        hints=[
            Text(
                "A loop of `count` rounds; each makes the text one letter longer.",
                "循环 `count` 次，每次让文本长一个字母。",
            ),
            Text(
                "max(answer, key=answer.get) is the likeliest letter.",
                "max(answer, key=answer.get) 就是最可能的字母。",
            ),
            Text(
                "text += max(answer, key=answer.get), with answer = probabilities(text)",
                "先 answer = probabilities(text)，再 text += max(answer, key=answer.get)。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "01-1": [
        ("return kinds * (side - tile) ** 2", "one place too few"),
        ("return kinds * (side - tile + 1)", "one direction only"),
    ],
    "01-2": [
        ("return len(set(names)) / kinds", "None is no kind"),
        ("return sum(name is not None for name in names) / kinds", "draws, not kinds"),
        (
            "return sum(name is not None for name in names) / len(names)",
            "share of valid draws",
        ),
    ],
    "01-3": [
        (
            "answer = probabilities(text)\nreturn text + count * max(answer, key=answer.get)",
            "asks only once",
        ),
        (
            'made = ""\nfor _ in range(count):\n    answer = probabilities(text + made)\n'
            "    made += max(answer, key=answer.get)\nreturn made",
            "forgets the beginning",
        ),
        (
            "for _ in range(count):\n    answer = probabilities(text[-1])\n"
            "    text += max(answer, key=answer.get)\nreturn text",
            "shows only the last letter",
        ),
    ],
}
