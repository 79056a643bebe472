"""The exercises of chapter 00, start here."""

from __future__ import annotations

from aigc_helpers.notebook import Exercise, Mistake, Text, gives, is_value

EXERCISES = [
    Exercise(
        "00-1",
        Text("How large is a model in float16?", "模型用 float16 存有多大？"),
        tests=[is_value(220_000_000)],
        mistakes=[
            Mistake(
                "float32",
                is_value(440_000_000),
                Text(
                    "That is float32; float16 takes half of it.",
                    "这是 float32 的大小，float16 只要一半。",
                ),
            ),
            Mistake(
                "bits",
                is_value(110_000_000 * 16),
                Text(
                    "Those are bits; eight of them make a byte.",
                    "这是比特数，8 个比特才是 1 个字节。",
                ),
            ),
        ],
        hints=[
            Text("Size = numbers × bytes per number.", "大小 = 个数 × 每个数的字节数。"),
            Text("110_000_000 numbers, 2 bytes each.", "110_000_000 个数，每个 2 字节。"),
        ],
    ),
    Exercise(
        "00-2",
        Text("Count the numbers in some tensors.", "数一数若干张量里一共有多少个数。"),
        tests=[
            gives(([(2, 3), (4,)],), 10),
            gives(([(384, 384), (384,), ()],), 384 * 384 + 384 + 1),
            gives(([],), 0),
        ],
        mistakes=[
            Mistake(
                "sum of the sizes",
                gives(([(2, 3), (4,)],), 9),
                Text(
                    "You added the sides. A 2 × 3 matrix holds 6 numbers, not 5.",
                    "你把边长加起来了。2 × 3 的矩阵有 6 个数，不是 5 个。",
                ),
            ),
            Mistake(
                "the number of tensors",
                gives(([(2, 3), (4,)],), 2),
                Text(
                    "That counts the tensors; multiply out each shape.",
                    "这数的是张量的个数；要把每个形状的边长乘起来。",
                ),
            ),
        ],
        hints=[
            Text(
                "One shape holds math.prod(shape) numbers.",
                "一个形状有 math.prod(shape) 个数。",
            ),
            Text("Sum that over all shapes.", "对所有形状求和。"),
        ],
    ),
    Exercise(
        "00-3",
        Text("Compute the cosine similarity.", "计算余弦相似度。"),
        tests=[
            gives(([1.0, 0.0], [1.0, 0.0]), 1.0, tolerance=1e-9),
            gives(([1.0, 0.0], [0.0, 2.0]), 0.0, tolerance=1e-9),
            gives(([3.0, 4.0], [4.0, 3.0]), 0.96, tolerance=1e-9),
            gives(([1.0, 2.0, 2.0], [-2.0, -4.0, -4.0]), -1.0, tolerance=1e-9),
        ],
        mistakes=[
            Mistake(
                "the dot product",
                gives(([3.0, 4.0], [4.0, 3.0]), 24.0, tolerance=1e-9),
                Text(
                    "That is the dot product; divide by both lengths.",
                    "这是点积，还要除以两个长度。",
                ),
            ),
            Mistake(
                "one length",
                gives(([3.0, 4.0], [4.0, 3.0]), 4.8, tolerance=1e-9),
                Text(
                    "You divided by one length; divide by both.",
                    "你只除了一个长度，两个都要除。",
                ),
            ),
            Mistake(
                "squared lengths",
                gives(([3.0, 4.0], [4.0, 3.0]), 24 / 625, tolerance=1e-9),
                Text(
                    "A length is the square root of the sum of squares.",
                    "长度是平方和的平方根，别忘了开方。",
                ),
            ),
        ],
        hints=[
            Text("The cosine is (a · b) / (|a| |b|).", "余弦等于 (a · b) / (|a| |b|)。"),
            Text(
                "a · b is the sum of a[i] * b[i]; |a| is math.sqrt of the sum of a[i] ** 2.",
                "a · b 是 a[i] * b[i] 之和；|a| 是 a[i] ** 2 之和的平方根（math.sqrt）。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "00-1": [(440_000_000, "float32"), (1_760_000_000, "bits")],
    "00-2": [
        ("return sum(sum(shape) for shape in shapes)", "sum of the sizes"),
        ("return len(shapes)", "the number of tensors"),
    ],
    "00-3": [
        ("return sum(a * b for a, b in zip(left, right))", "the dot product"),
        (
            "return sum(a * b for a, b in zip(left, right)) / math.sqrt(sum(a * a for a in left))",
            "one length",
        ),
        (
            "return sum(a * b for a, b in zip(left, right)) / (sum(a * a for a in left) * sum(b * b for b in right))",
            "squared lengths",
        ),
    ],
}
