"""The exercises of chapter 12, Evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives, is_value

_PAIR = ([0, 0, 1, 0, 2, 0], [0, 0, 1, 1, 1, 0])
# Class 0: 3 hits, 4 predicted, 3 there. Class 1: 1, 1, 3. Class 2: 0, 1, 0.
_F1_PER_CLASS = (6 / 7, 2 / 4, 0.0)

_FIRST = [[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]
_SECOND = [[2.0, 1.0], [0.0, 0.0]]


def _kernel_means(diagonal: bool) -> tuple[float, float, float]:
    """Return the mean of the kernel within each of the two sets above and across, pictures with themselves or not."""
    import numpy

    def kernel(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> numpy.ndarray:
        return (numpy.array(left) @ numpy.array(right).T / 2 + 1) ** 3

    def within(some: Sequence[Sequence[float]]) -> float:
        values, count = kernel(some, some), len(some)
        if diagonal:
            return float(values.mean())
        return float((values.sum() - values.trace()) / (count * (count - 1)))

    return within(_FIRST), within(_SECOND), float(kernel(_FIRST, _SECOND).mean())


def _kid_is(diagonal: bool, twice: int = 2) -> Test:
    """Make a test that the answer gives the sum of the three means; ``diagonal`` and ``twice`` make the wrong ones."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import numpy

        first, second, across = _kernel_means(diagonal)
        return abs(float(answer(numpy.array(_FIRST), numpy.array(_SECOND))) - (first + second - twice * across)) < 1e-9

    return test


EXERCISES = [
    Exercise(
        "12-1",
        Text(
            "How many examples make the interval 0.04 wide?",
            "要多少个样本，区间才只有 0.04 宽？",
        ),
        tests=[is_value(900)],
        mistakes=[
            Mistake(
                "half the width",
                is_value(300),
                Text(
                    "That makes it ± 0.04, which is 0.08 wide. The whole width is asked for.",
                    "这样是 ± 0.04，宽度是 0.08。要求的是整个宽度。",
                ),
            ),
            Mistake(
                "too few",
                lambda answer: 0 < answer < 900,
                Text(
                    "Too wide still: print high − low of wilson_interval for your number.",
                    "还是太宽：把你的数代入 wilson_interval，打印 high − low。",
                ),
            ),
            Mistake(
                "too many",
                lambda answer: answer > 900,
                Text("That is enough, but fewer are, too.", "够了，但再少一些也够。"),
            ),
        ],
        hints=[
            Text(
                "wilson_interval(90, 100) is one: 90 hits of 100.",
                "例如 wilson_interval(90, 100)：100 个中 90 个。",
            ),
            Text("Four times as many examples halve the width.", "样本数变成四倍，宽度减半。"),
            Text(
                "for n in range(100, 3000, 100): one = wilson_interval(9 * n // 10, n); print(n, one.high - one.low)",
                "循环：for n in range(100, 3000, 100)，对 wilson_interval(9 * n // 10, n) 打印 n 和 high − low",
            ),
        ],
    ),
    Exercise(
        "12-2",
        Text("Write macro-F1 by hand.", "手写 macro-F1。"),
        tests=[
            gives(([1, 0, 1, 1], [1, 0, 0, 1]), (0.8 + 2 / 3) / 2, tolerance=1e-9),
            gives(_PAIR, sum(_F1_PER_CLASS) / 3, tolerance=1e-9),
            gives(([5, 5], [5, 7]), (2 / 3 + 0) / 2, tolerance=1e-9),
        ],
        mistakes=[
            Mistake(
                "micro",
                gives(_PAIR, 4 / 6, tolerance=1e-9),
                Text(
                    "That is the accuracy, which is micro-F1. Work out F1 per class first, then average.",
                    "这是准确率，也就是 micro-F1。先算每个类别的 F1，再取平均。",
                ),
            ),
            Mistake(
                "only classes of the references",
                gives(_PAIR, sum(_F1_PER_CLASS[:2]) / 2, tolerance=1e-9),
                Text(
                    "A class that is predicted but never there counts, too, with 0.",
                    "被预测到、但实际没有的类别也要算，算 0。",
                ),
            ),
            Mistake(
                "recall",
                gives(_PAIR, (1 + 1 / 3 + 0) / 3, tolerance=1e-9),
                Text(
                    "That averages recall. The predicted ones belong in the denominator, too.",
                    "这是召回率的平均。分母里还要有预测为它的个数。",
                ),
            ),
        ],
        hints=[
            Text(
                "Loop over set(predictions) | set(references).",
                "对 set(predictions) | set(references) 做循环。",
            ),
            Text(
                "Hits are the places where both lists hold this class.",
                "命中，就是两个列表同一位置都是这个类别。",
            ),
            Text(
                "2 * hits / (predictions.count(one) + references.count(one)), then the mean.",
                "先算 2 * hits / (predictions.count(one) + references.count(one))，再取平均。",
            ),
        ],
    ),
    Exercise(
        "12-3",
        Text("Write KID.", "手写 KID。"),
        tests=[_kid_is(diagonal=False)],
        mistakes=[
            Mistake(
                "pictures with themselves",
                _kid_is(diagonal=True),
                Text(
                    "Pairs of a picture with itself are in: that is the bias which KID is meant to avoid.",
                    "图片和自己的配对也算进去了：KID 要避免的正是这个偏差。",
                ),
            ),
            Mistake(
                "across only once",
                _kid_is(diagonal=False, twice=1),
                Text(
                    "The mean across the sets is taken off twice.",
                    "两组之间的平均要减两次。",
                ),
            ),
        ],
        hints=[
            Text(
                "(x @ y.T / x.shape[1] + 1) ** 3 holds all pairs at once.",
                "(x @ y.T / x.shape[1] + 1) ** 3 一次算出所有配对。",
            ),
            Text(
                "Pairs with itself stand on the diagonal: k.trace().",
                "自己和自己的配对在对角线上：k.trace()。",
            ),
            Text(
                "Within: (k.sum() - k.trace()) / (n * (n - 1)). Across: k.mean(), twice.",
                "组内是 (k.sum() - k.trace()) / (n * (n - 1))；组间是 k.mean()，乘以二。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "12-1": [(300, "half the width"), (500, "too few"), (1000, "too many")],
    "12-2": [
        (
            "return sum(p == r for p, r in zip(predictions, references)) / len(references)",
            "micro",
        ),
        (
            "scores = []\n"
            "for one in set(references):\n"
            "    hits = sum(p == r == one for p, r in zip(predictions, references))\n"
            "    scores.append(2 * hits / (predictions.count(one) + references.count(one)))\n"
            "return sum(scores) / len(scores)",
            "only classes of the references",
        ),
        (
            "scores = []\n"
            "for one in set(predictions) | set(references):\n"
            "    hits = sum(p == r == one for p, r in zip(predictions, references))\n"
            "    scores.append(hits / max(1, references.count(one)))\n"
            "return sum(scores) / len(scores)",
            "recall",
        ),
    ],
    "12-3": [
        (
            "def k(a, b):\n    return ((a @ b.T / a.shape[1] + 1) ** 3).mean()\nreturn k(x, x) + k(y, y) - 2 * k(x, y)",
            "pictures with themselves",
        ),
        (
            "def within(a):\n"
            "    k = (a @ a.T / a.shape[1] + 1) ** 3\n"
            "    return (k.sum() - k.trace()) / (len(a) * (len(a) - 1))\n"
            "return within(x) + within(y) - ((x @ y.T / x.shape[1] + 1) ** 3).mean()",
            "across only once",
        ),
    ],
}
