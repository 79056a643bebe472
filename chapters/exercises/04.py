"""The exercises of chapter 04, LoRA from scratch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

if TYPE_CHECKING:
    from torch import Tensor


def _numbers(*shapes: tuple[int, int]) -> list[Tensor]:
    """Return a tensor for each shape, always the same."""
    import torch

    generator = torch.Generator().manual_seed(4)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _gradients(answer: Any, *, swapped: bool = False, scale: bool = True) -> bool:  # noqa: ANN401
    """Tell whether the pair is autograd's (∂L/∂A, ∂L/∂B), or these in the other order, or without the scaling."""
    import torch

    inputs, gradient, lora_A, lora_B = _numbers((5, 4), (5, 6), (2, 4), (6, 2))  # noqa: N806 - the paper's names
    scaling = 3.0
    leaves = [lora_A.clone().requires_grad_(), lora_B.clone().requires_grad_()]
    output = (scaling if scale else 1.0) * inputs @ leaves[0].T @ leaves[1].T
    output.backward(gradient)
    expected = [leaf.grad for leaf in leaves][:: -1 if swapped else 1]
    given = answer(inputs, gradient, lora_A, lora_B, scaling)
    return all(
        one.shape == other.shape and torch.allclose(one, other, atol=1e-4)
        for one, other in zip(given, expected, strict=True)
    )


def _forward(scaling: Any, *, base: bool = True) -> Test:  # noqa: ANN401 - a function of alpha and rank
    """Make a test: the answer is the forward of a Conv1D with LoRA and this scaling, with or without the base."""

    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        for rank in (1, 3):
            inputs, weight, lora_A, lora_B = _numbers((5, 4), (4, 6), (rank, 4), (6, rank))  # noqa: N806
            expected = base * inputs @ weight + scaling(6.0, rank) * inputs @ lora_A.T @ lora_B.T
            given = answer(inputs, weight, lora_A, lora_B, 6.0)
            if given.shape != expected.shape or not torch.allclose(given, expected, atol=1e-4):
                return False
        return True

    return test


EXERCISES = [
    Exercise(
        "04-1",
        Text("Which scaling does PEFT apply?", "PEFT 使用的缩放系数是多少？"),
        tests=[
            gives((8, 16, False), 2.0, 1e-9),
            gives((16, 16, True), 4.0, 1e-9),
            gives((64, 16, False), 0.25, 1e-9),
            gives((64, 16, True), 2.0, 1e-9),
        ],
        mistakes=[
            Mistake(
                "always by the rank",
                gives((16, 16, True), 1.0, 1e-9),
                Text(
                    "With use_rslora=True PEFT divides by √r, not by r.",
                    "use_rslora=True 时除以的是 √r，不是 r。",
                ),
            ),
            Mistake(
                "the wrong way round",
                gives((8, 16, False), 0.5, 1e-9),
                Text("α stands above, the rank below.", "α 在分子上，秩在分母上。"),
            ),
        ],
        hints=[
            Text(
                "Section 2 for the one case, section 6 for the other.",
                "一种情况见第 2 节，另一种见第 6 节。",
            ),
            Text(
                "alpha / rank, or alpha / rank**0.5 if use_rslora.",
                "alpha / rank；若 use_rslora，则 alpha / rank**0.5。",
            ),
        ],
    ),
    Exercise(
        "04-2",
        Text("How many directions hold a given share?", "多少个方向能占到给定的比例？"),
        tests=[
            gives(([3.0, 2.0, 1.0], 0.9), 2),
            gives(([3.0, 2.0, 1.0], 0.6), 1),
            gives(([3.0, 2.0, 1.0], 1.0), 3),
            gives(([1.0, 1.0, 1.0, 1.0], 0.75), 3),
        ],
        mistakes=[
            Mistake(
                "not squared",
                gives(([3.0, 2.0, 1.0], 0.6), 2),
                Text(
                    "E(r) adds up the squares of the singular values.",
                    "E(r) 加的是奇异值的平方。",
                ),
            ),
            Mistake(
                "counted from zero",
                gives(([3.0, 2.0, 1.0], 0.9), 1),
                Text(
                    "One too few: a rank counts from 1, an index from 0.",
                    "少了一个：秩从 1 数起，下标从 0 数起。",
                ),
            ),
        ],
        hints=[
            Text(
                "Add up squares from the largest on, until the share of the total is reached.",
                "从最大的开始累加平方，直到达到总和的给定比例。",
            ),
            Text(
                "enumerate(singular_values, start=1) gives the rank along with each value.",
                "enumerate(singular_values, start=1) 会同时给出秩和对应的值。",
            ),
        ],
    ),
    Exercise(
        "04-3",
        Text("Write the gradients of A and B.", "写出 A 和 B 的梯度。"),
        tests=[_gradients],
        mistakes=[
            Mistake(
                "the other order",
                lambda answer: _gradients(answer, swapped=True),
                Text(
                    "Both are right, in the wrong order: first A's, then B's.",
                    "两个都对，顺序反了：先 A 的，后 B 的。",
                ),
            ),
            Mistake(
                "no scaling",
                lambda answer: _gradients(answer, scale=False),
                Text("The scaling s is missing in both.", "两个都少了缩放 s。"),
            ),
        ],
        hints=[
            Text(
                "The two formulas stand in section 4. A gradient has the shape of its matrix.",
                "两个公式在第 4 节。梯度的形状和矩阵本身一样。",
            ),
            Text(
                "∂L/∂A is s * (G @ B).T @ X. And ∂L/∂B?",
                "∂L/∂A 是 s * (G @ B).T @ X。那 ∂L/∂B 呢？",
            ),
        ],
    ),
    Exercise(
        "04-4",
        Text("Write the forward of a Conv1D with LoRA.", "写出带 LoRA 的 Conv1D 前向。"),
        tests=[_forward(lambda alpha, rank: alpha / rank)],
        mistakes=[
            Mistake(
                "no division by the rank",
                _forward(lambda alpha, rank: alpha),
                Text(
                    "The scaling is α / r; r is a shape of A.",
                    "缩放是 α / r，r 可以从 A 的形状读出来。",
                ),
            ),
            Mistake(
                "no base",
                _forward(lambda alpha, rank: alpha / rank, base=False),
                Text(
                    "That is the adapter alone; X W₀ stands beside it.",
                    "这只是适配器那一路，旁边还有 X W₀。",
                ),
            ),
        ],
        hints=[
            Text(
                "W₀ needs no transposition here, A and B do: X is (n × k), A is (r × k).",
                "这里 W₀ 不用转置，A 和 B 要：X 是 (n × k)，A 是 (r × k)。",
            ),
            Text(
                "X @ weight + scaling * (X @ A.T) @ B.T",
                "X @ weight + 缩放 * (X @ A.T) @ B.T",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "04-1": [
        ("return alpha / rank", "always by the rank"),
        ("return rank**0.5 / alpha if use_rslora else rank / alpha", "the wrong way round"),
    ],
    "04-2": [
        (
            "total, kept = sum(singular_values), 0.0\n"
            "for rank, value in enumerate(singular_values, start=1):\n"
            "    kept += value\n"
            "    if kept >= share * total:\n"
            "        return rank",
            "not squared",
        ),
        (
            "total, kept = sum(value**2 for value in singular_values), 0.0\n"
            "for rank, value in enumerate(singular_values):\n"
            "    kept += value**2\n"
            "    if kept >= share * total:\n"
            "        return rank",
            "counted from zero",
        ),
    ],
    "04-3": [
        ("return s * G.T @ (X @ A.T), s * (G @ B).T @ X", "the other order"),
        ("return (G @ B).T @ X, G.T @ (X @ A.T)", "no scaling"),
    ],
    "04-4": [
        ("return X @ weight + alpha * (X @ A.T) @ B.T", "no division by the rank"),
        ("return alpha / A.shape[0] * (X @ A.T) @ B.T", "no base"),
    ],
}
