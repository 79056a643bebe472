"""The exercises of chapter 06, LoRA on GPT-2."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook import (
    Exercise,
    Mistake,
    Test,
    Text,
    gives,
    is_a_lora_config,
    target_modules,
)

# Two texts; 2 marks the end *and* pads, as in GPT-2 with pad_token = eos_token.
_IDS = [[1, 7, 8, 9, 2], [1, 5, 2, 2, 2]]
_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def _labels_are(expected: list[list[int]]) -> Test:
    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        labels = answer(torch.tensor(_IDS), torch.tensor(_MASK))
        return torch.equal(torch.as_tensor(labels), torch.tensor(expected))

    return test


def _changes_its_argument(answer: Any) -> bool:  # noqa: ANN401
    import torch

    given = torch.tensor(_IDS)
    answer(given, torch.tensor(_MASK))
    return given.tolist() != _IDS


_NOT_SORTED = ([0.1, 0.6, 0.3], 0.7)

EXERCISES = [
    Exercise(
        "06-1",
        Text(
            "How many numbers does LoRA on c_attn train?",
            "c_attn 上的 LoRA 要训练多少个数？",
        ),
        tests=[
            gives((4, 256, 8), 32_768),
            gives((12, 768, 8), 294_912),
            gives((1, 10, 3), 120),
        ],
        mistakes=[
            Mistake(
                "a square module",
                gives((4, 256, 8), 16_384),
                Text(
                    "c_attn is not square: it makes query, key and value.",
                    "c_attn 不是方阵：它同时产生 q、k、v。",
                ),
            ),
            Mistake(
                "three modules",
                gives((4, 256, 8), 49_152),
                Text(
                    "That is three modules with an A each. c_attn is one module, with one A.",
                    "这是三个模块、三个 A。c_attn 只是一个模块，只有一个 A。",
                ),
            ),
        ],
        hints=[
            Text(
                "One module per layer, width inputs, 3 × width outputs.",
                "每层一个模块，输入是宽，输出是 3 × 宽。",
            ),
            Text("A: rank × width. B: 3 · width × rank.", "A 是 秩 × 宽，B 是 3 · 宽 × 秩。"),
        ],
    ),
    Exercise(
        "06-2",
        Text("Write a LoraConfig for GPT-2.", "为 GPT-2 写一个 LoraConfig。"),
        tests=[
            is_a_lora_config,
            lambda config: config.task_type == "CAUSAL_LM",
            lambda config: config.fan_in_fan_out is True,
            lambda config: config.r == 4,
            lambda config: config.lora_alpha / config.r == 2,
            lambda config: target_modules(config) == {"c_attn", "c_proj"},
        ],
        mistakes=[
            Mistake(
                "names of another model",
                lambda config: bool(target_modules(config) & {"q_proj", "k_proj", "v_proj", "query", "value"}),
                Text(
                    "Those names belong to other models; look at section 4.",
                    "那是别的模型里的名字，看第 4 节。",
                ),
            ),
            Mistake(
                "the weights are transposed",
                lambda config: not config.fan_in_fan_out,
                Text(
                    "Conv1D keeps its weight transposed. Which argument says so?",
                    "Conv1D 的权重是转置存放的，哪个参数用来说明这一点？",
                ),
            ),
            Mistake(
                "no task type",
                lambda config: config.task_type is None,
                Text(
                    "The kind of task is missing: a causal language model.",
                    "少了任务类型：因果语言模型。",
                ),
            ),
        ],
        hints=[
            Text("Start from the configuration of section 4.", "从第 4 节的配置出发。"),
            Text(
                'r=4, lora_alpha=?, fan_in_fan_out=?, target_modules=["c_attn", ?]',
                '填空：r=4，lora_alpha=?，fan_in_fan_out=?，target_modules=["c_attn", ?]',
            ),
        ],
    ),
    Exercise(
        "06-3",
        Text("Make the labels of a padded batch.", "为补齐过的批次做标签。"),
        tests=[
            lambda answer: (
                Text(
                    "The ids you were given were changed; return new ones.",
                    "你改动了传进来的编号；请返回新的。",
                )
                if _changes_its_argument(answer)
                else True
            ),
            _labels_are([[1, 7, 8, 9, 2], [1, 5, 2, -100, -100]]),
        ],
        mistakes=[
            Mistake(
                "padding counts",
                _labels_are(_IDS),
                Text(
                    "These are the ids as they were: the padding is still to be learnt.",
                    "这还是原来的编号：补齐位仍会算进损失。",
                ),
            ),
            Mistake(
                "the end is lost",
                _labels_are([[1, 7, 8, 9, -100], [1, 5, -100, -100, -100]]),
                Text(
                    "Here the padding token also marks the end. Ask the mask, not the id.",
                    "这里补齐用的 token 也是结束标记。要看掩码，别看编号。",
                ),
            ),
            Mistake(
                "shifted",
                _labels_are([[7, 8, 9, 2, -100], [5, 2, -100, -100, -100]]),
                Text("Do not shift: the model does that itself.", "不要移位：模型自己会移。"),
            ),
        ],
        hints=[
            Text(
                "Padding is where the attention mask is 0.",
                "注意力掩码为 0 的地方就是补齐位。",
            ),
            Text(
                "input_ids.masked_fill(attention_mask == 0, ?)",
                "用 input_ids.masked_fill(attention_mask == 0, ?)。",
            ),
            Text(
                "The number that the loss leaves out is -100.",
                "损失会跳过的那个数是 -100。",
            ),
        ],
    ),
    Exercise(
        "06-4",
        Text("Write top-p yourself.", "自己写 top-p。"),
        tests=[
            gives(_NOT_SORTED, [0, 2 / 3, 1 / 3], tolerance=1e-6),
            gives(([0.5, 0.3, 0.2], 0.7), [0.625, 0.375, 0], tolerance=1e-6),
            gives(([0.2, 0.8], 0.5), [0, 1], tolerance=1e-6),
            gives(([0.25, 0.35, 0.4], 0.95), [0.25, 0.35, 0.4], tolerance=1e-6),
        ],
        mistakes=[
            Mistake(
                "not rescaled",
                gives(_NOT_SORTED, [0, 0.6, 0.3], tolerance=1e-6),
                Text(
                    "The right ones are kept; now make them add up to 1.",
                    "留对了；还要让它们加起来等于 1。",
                ),
            ),
            Mistake(
                "stops too early",
                gives(_NOT_SORTED, [0, 1, 0], tolerance=1e-6),
                Text(
                    "Your sum stays below p. The one that reaches p is kept, too.",
                    "你留下的加起来还不到 p。让总和达到 p 的那一个也要留下。",
                ),
            ),
            Mistake(
                "not sorted",
                gives(_NOT_SORTED, [1 / 7, 6 / 7, 0], tolerance=1e-6),
                Text(
                    "Begin with the largest, not with the first.",
                    "要从最大的开始，而不是从第一个开始。",
                ),
            ),
        ],
        hints=[
            Text(
                "Go through the indices from the largest probability down.",
                "按概率从大到小走一遍下标。",
            ),
            Text(
                "order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])",
                "先排好下标：order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])",
            ),
            Text(
                "Add up until the sum is at least p; divide what was kept by that sum.",
                "一直累加到总和不小于 p；再把留下的除以这个总和。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "06-1": [
        ("return layers * rank * (width + width)", "a square module"),
        ("return layers * 3 * rank * (width + width)", "three modules"),
    ],
    "06-2": [
        (
            "my_config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=8, fan_in_fan_out=True, "
            'target_modules=["q_proj", "v_proj"])',
            "names of another model",
        ),
        (
            "my_config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=8, "
            'target_modules=["c_attn", "c_proj"])',
            "the weights are transposed",
        ),
        (
            'my_config = LoraConfig(r=4, lora_alpha=8, fan_in_fan_out=True, target_modules=["c_attn", "c_proj"])',
            "no task type",
        ),
    ],
    "06-3": [
        ("return input_ids.clone()", "padding counts"),
        ("return input_ids.masked_fill(input_ids == 2, -100)", "the end is lost"),
        (
            "labels = input_ids.masked_fill(attention_mask == 0, -100)\n"
            "return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)",
            "shifted",
        ),
    ],
    "06-4": [
        (
            "kept, total = [0] * len(probabilities), 0\n"
            "for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):\n"
            "    if total < p:\n"
            "        kept[i] = probabilities[i]\n"
            "        total += probabilities[i]\n"
            "return kept",
            "not rescaled",
        ),
        (
            "kept, total = [0] * len(probabilities), 0\n"
            "for i in sorted(range(len(probabilities)), key=lambda i: -probabilities[i]):\n"
            "    if total + probabilities[i] > p:\n"
            "        break\n"
            "    kept[i] = probabilities[i]\n"
            "    total += probabilities[i]\n"
            "return [one / total for one in kept]",
            "stops too early",
        ),
        (
            "kept, total = [0] * len(probabilities), 0\n"
            "for i in range(len(probabilities)):\n"
            "    if total < p:\n"
            "        kept[i] = probabilities[i]\n"
            "        total += probabilities[i]\n"
            "return [one / total for one in kept]",
            "not sorted",
        ),
    ],
}
