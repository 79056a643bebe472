"""The exercises of chapter 05, LoRA on BERT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aigc_helpers.notebook import (
    Exercise,
    Mistake,
    Test,
    Text,
    gives,
    is_a_lora_config,
    target_modules,
)

if TYPE_CHECKING:
    from torch import Tensor


def _merge_example(rank: int) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return W₀ (5 × 4), A (rank × 4), B (5 × rank) and alpha, always the same for a rank."""
    import torch

    generator = torch.Generator().manual_seed(rank)
    shapes = [(5, 4), (rank, 4), (5, rank)]
    weight, lora_A, lora_B = (torch.randn(shape, generator=generator) for shape in shapes)  # noqa: N806 - its name
    return weight, lora_A, lora_B, 6.0


def _merges_with(scaling_of: Any) -> Test:  # noqa: ANN401 - a function of alpha and rank
    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        for rank in (1, 2, 3):
            weight, lora_A, lora_B, alpha = _merge_example(rank)  # noqa: N806
            expected = weight + scaling_of(alpha, rank) * lora_B @ lora_A
            if not torch.allclose(answer(weight.clone(), lora_A, lora_B, alpha), expected, atol=1e-5):
                return False
        return True

    return test


def _changes_its_argument(answer: Any) -> bool:  # noqa: ANN401
    import torch

    weight, lora_A, lora_B, alpha = _merge_example(2)  # noqa: N806
    given = weight.clone()
    answer(given, lora_A, lora_B, alpha)
    return not torch.equal(given, weight)


EXERCISES = [
    Exercise(
        "05-1",
        Text("How many trainable parameters has LoRA?", "LoRA 有多少可训练参数？"),
        tests=[
            gives((6, 2, 384, 8), 73_728),
            gives((12, 2, 768, 8), 294_912),
            gives((1, 1, 10, 3), 60),
        ],
        mistakes=[
            Mistake(
                "one matrix only",
                gives((6, 2, 384, 8), 36_864),
                Text("That is A alone. B has parameters too.", "这只算了 A，B 也有参数。"),
            ),
            Mistake(
                "the whole weight",
                gives((6, 2, 384, 8), 6 * 2 * 384 * 384),
                Text(
                    "That is the frozen weight itself; only A and B are trained.",
                    "这是冻结的原权重，训练的只有 A 和 B。",
                ),
            ),
        ],
        hints=[
            Text(
                "A has shape rank × width, B has shape width × rank.",
                "A 的形状是 秩 × 宽，B 的形状是 宽 × 秩。",
            ),
            Text(
                "Per module: rank × (width + width). How many modules?",
                "每个模块是 秩 × (宽 + 宽)。一共几个模块？",
            ),
        ],
    ),
    Exercise(
        "05-2",
        Text("Write a LoraConfig for a classifier.", "为分类任务写一个 LoraConfig。"),
        tests=[
            is_a_lora_config,
            lambda config: config.task_type == "SEQ_CLS",
            lambda config: config.r == 4,
            lambda config: config.lora_alpha / config.r == 2,
            lambda config: target_modules(config) == {"query", "key", "value"},
        ],
        mistakes=[
            Mistake(
                "no task type",
                lambda config: config.task_type is None,
                Text(
                    "Without task_type the head is neither trained nor saved.",
                    "没有 task_type，分类头既不训练也不保存。",
                ),
            ),
            Mistake(
                "names of another model",
                lambda config: bool(target_modules(config) & {"q", "k", "v", "q_proj", "k_proj", "v_proj"}),
                Text(
                    "Those are names in other models; BERT's are query, key, value.",
                    "那是别的模型里的名字；BERT 的是 query、key、value。",
                ),
            ),
            Mistake(
                "alpha is the scaling",
                lambda config: config.r == 4 and config.lora_alpha == 2,
                Text(
                    "The scaling is α / r, not α: here α must be 8.",
                    "缩放是 α / r，不是 α：这里 α 应为 8。",
                ),
            ),
        ],
        hints=[
            Text(
                "Start from the configuration of section 6 and change three things.",
                "从第 6 节的配置出发，改三处就行。",
            ),
            Text(
                "task_type=TaskType.SEQ_CLS, r=4, lora_alpha=?, target_modules=[three names]",
                "task_type=TaskType.SEQ_CLS，r=4，lora_alpha=?，target_modules=[三个名字]",
            ),
        ],
    ),
    Exercise(
        "05-3",
        Text("Merge an adapter by hand.", "手工合并适配器。"),
        tests=[
            lambda answer: (
                Text(
                    "The weight you were given was changed; return a new one.",
                    "你改动了传进来的权重；请返回一个新的。",
                )
                if _changes_its_argument(answer)
                else True
            ),
            _merges_with(lambda alpha, rank: alpha / rank),
        ],
        mistakes=[
            Mistake(
                "no division by the rank",
                _merges_with(lambda alpha, rank: alpha),
                Text(
                    "The scaling is α / r: divide by the rank.",
                    "缩放是 α / r，还要除以秩。",
                ),
            ),
            Mistake(
                "no scaling",
                _merges_with(lambda alpha, rank: 1.0),
                Text(
                    "The product B·A is right; the scaling α / r is missing.",
                    "B·A 对了，少了缩放 α / r。",
                ),
            ),
        ],
        hints=[
            Text(
                "W = W₀ + (α / r) · B · A. The rank is a shape.",
                "W = W₀ + (α / r) · B · A。秩可以从形状里读出来。",
            ),
            Text(
                "rank = lora_A.shape[0]; matrices multiply with @.",
                "rank = lora_A.shape[0]；矩阵乘法用 @。",
            ),
        ],
    ),
    Exercise(
        "05-4",
        Text(
            "Count on how many examples exactly one model is right.",
            "数一数只有一个模型答对的条数。",
        ),
        tests=[
            gives(([1, 1, 0, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1]), (2, 1)),
            gives(([0, 0], [0, 0], [0, 1]), (0, 0)),
            gives(([1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 1]), (1, 3)),
        ],
        mistakes=[
            Mistake(
                "all right answers",
                gives(([1, 1, 0, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1]), (3, 2)),
                Text(
                    "You counted every right answer. Leave out those that both have right.",
                    "你数的是所有答对的。两个都答对的要去掉。",
                ),
            ),
            Mistake(
                "the wrong way round",
                gives(([1, 1, 0, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 1, 1]), (1, 2)),
                Text("The two counts are the wrong way round.", "两个计数的顺序反了。"),
            ),
        ],
        hints=[
            Text(
                "Go through the three lists together with zip.",
                "用 zip 把三个列表一起走一遍。",
            ),
            Text(
                "First count: first == truth and second != truth.",
                "第一个计数：first == truth 且 second != truth。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "05-1": [
        ("return layers * modules * rank * width", "one matrix only"),
        ("return layers * modules * width * width", "the whole weight"),
    ],
    "05-2": [
        (
            'my_config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "key", "value"])',
            "no task type",
        ),
        (
            'my_config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["q", "k", "v"])',
            "names of another model",
        ),
        (
            "my_config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=2, "
            'target_modules=["query", "key", "value"])',
            "alpha is the scaling",
        ),
    ],
    "05-3": [
        ("return weight + alpha * lora_B @ lora_A", "no division by the rank"),
        ("return weight + lora_B @ lora_A", "no scaling"),
    ],
    "05-4": [
        (
            "return sum(a == t for a, t in zip(first, truth)), sum(b == t for b, t in zip(second, truth))",
            "all right answers",
        ),
        (
            "rows = list(zip(first, second, truth))\n"
            "return sum(b == t != a for a, b, t in rows), sum(a == t != b for a, b, t in rows)",
            "the wrong way round",
        ),
    ],
}
