"""The exercises of chapter 11, training an SD LoRA."""

from __future__ import annotations

from collections.abc import Callable
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

_ATTENTION = {"to_q", "to_k", "to_v", "to_out.0"}
_NOISY, _CLEAN, _LIMIT = 0.2, 0.99, 5.0  # SNR 0.25, and 99.

Lora = tuple["Tensor", "Tensor", float, float]


def _weight_and_loras() -> tuple[Tensor, list[Lora]]:
    """Return a matrix of 3 × 5 and two LoRAs, of ranks 2 and 4, in which alpha, rank and scale all matter."""
    import torch

    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return numbers(3, 5), [
        (numbers(2, 5), numbers(3, 2), 8.0, 0.5),
        (numbers(4, 5), numbers(3, 4), 4.0, 1.5),
    ]


def _mixes_with(share: Callable[[Tensor, float, float], float], weight_counts: bool = True) -> Test:
    """Make a test: the answer adds each B·A with ``share`` of down, alpha and scale, to the weight or to nothing."""

    def test(answer: Any) -> bool:  # noqa: ANN401 - whatever the reader wrote
        import torch

        weight, loras = _weight_and_loras()
        expected = weight.clone() if weight_counts else torch.zeros_like(weight)
        for down, up, alpha, scale in loras:
            expected += share(down, alpha, scale) * (up @ down)
        given = answer(weight.clone(), loras)
        return given.shape == expected.shape and torch.allclose(given, expected, atol=1e-4)

    return test


def _leaves_the_weight(answer: Any) -> bool | Text:  # noqa: ANN401
    import torch

    weight, loras = _weight_and_loras()
    given = weight.clone()
    answer(given, loras)
    if torch.equal(given, weight):
        return True
    return Text(
        "Right, but the weight you were given was changed: clone() it first.",
        "对了，但改动了传进来的权重：先 clone()。",
    )


EXERCISES = [
    Exercise(
        "11-1",
        Text(
            "How many parameters has a LoRA on a convolution?",
            "卷积上的 LoRA 有多少个参数？",
        ),
        tests=[
            gives((96, 160, 3, 8), 8_192),
            gives((320, 640, 3, 4), 14_080),
            gives((10, 20, 1, 2), 60),
        ],
        mistakes=[
            Mistake(
                "both with a kernel",
                gives((96, 160, 3, 8), 18_432),
                Text(
                    "Only A has the kernel; B is a convolution of 1 × 1.",
                    "只有 A 带卷积核，B 是 1 × 1 的卷积。",
                ),
            ),
            Mistake(
                "no kernel",
                gives((96, 160, 3, 8), 2_048),
                Text(
                    "That is a linear layer. Here A has kernel × kernel numbers for each pair of channels.",
                    "这是线性层的算法。这里 A 的每一对通道都有 kernel × kernel 个数。",
                ),
            ),
            Mistake(
                "kernel once",
                gives((96, 160, 3, 8), 3_584),
                Text("The kernel has two sides: kernel².", "卷积核有两条边：kernel²。"),
            ),
        ],
        hints=[
            Text(
                "A: from inputs to rank channels, with the kernel.",
                "A：从 inputs 个通道到 rank 个通道，带卷积核。",
            ),
            Text(
                "B: from rank to outputs channels, 1 × 1.",
                "B：从 rank 个通道到 outputs 个通道，1 × 1。",
            ),
            Text(
                "rank * inputs * kernel**2 + outputs * rank",
                "返回：rank * inputs * kernel**2 + outputs * rank",
            ),
        ],
    ),
    Exercise(
        "11-2",
        Text("Write the LoraConfig for a subject.", "为一个主体写 LoraConfig。"),
        tests=[
            is_a_lora_config,
            lambda config: config.r == 4,
            lambda config: config.lora_alpha == 4,
            lambda config: config.init_lora_weights == "gaussian",
            lambda config: target_modules(config) == _ATTENTION,
        ],
        mistakes=[
            Mistake(
                "names of another model",
                lambda config: bool(target_modules(config) & {"q_proj", "k_proj", "v_proj", "c_attn", "query"}),
                Text(
                    "Those names belong to other models; look at section 5.",
                    "那是别的模型里的名字，看第 5 节。",
                ),
            ),
            Mistake(
                "convolutions, too",
                lambda config: target_modules(config) > _ATTENTION,
                Text("Attention only, this time.", "这次只装在注意力上。"),
            ),
            Mistake(
                "output left out",
                lambda config: target_modules(config) < _ATTENTION,
                Text(
                    "One is missing: attention has a query, a key, a value and an output.",
                    "少了一个：注意力有 query、key、value，还有输出。",
                ),
            ),
            Mistake(
                "alpha left out",
                lambda config: config.lora_alpha == 8,
                Text(
                    "peft's default for lora_alpha is 8, whatever the rank: α / r is 2 here.",
                    "peft 里 lora_alpha 默认是 8，与秩无关：这里 α / r 成了 2。",
                ),
            ),
            Mistake(
                "other beginning",
                lambda config: config.init_lora_weights != "gaussian",
                Text(
                    "The initialisation is missing: which word stands in section 5?",
                    "少了初始化：第 5 节里写的是哪个词？",
                ),
            ),
        ],
        hints=[
            Text("Start from the configuration of section 12.", "从第 12 节的配置出发。"),
            Text(
                "α / r = 1 means that alpha is the rank.",
                "α / r = 1，也就是 alpha 等于秩。",
            ),
            Text(
                'r=4, lora_alpha=?, init_lora_weights="gaussian", target_modules=["to_q", ?, ?, ?]',
                '填空：r=4，lora_alpha=?，init_lora_weights="gaussian"，target_modules=["to_q", ?, ?, ?]',
            ),
        ],
    ),
    Exercise(
        "11-3",
        Text("Write the min-SNR weight.", "写出 min-SNR 的权重。"),
        tests=[
            gives((_NOISY, _LIMIT), 1.0, tolerance=1e-6),
            gives((_CLEAN, _LIMIT), 5 / 99, tolerance=1e-6),
            gives((0.9, 1.0), 1 / 9, tolerance=1e-6),
        ],
        mistakes=[
            Mistake(
                "not divided",
                gives((_CLEAN, _LIMIT), 5.0, tolerance=1e-6),
                Text(
                    "min(SNR, limit) is the weight of the error in the picture. For the noise, divide by SNR.",
                    "min(SNR, 上限) 是“画的误差”的权重。换成噪声的误差，要再除以 SNR。",
                ),
            ),
            Mistake(
                "larger instead of smaller",
                gives((_NOISY, _LIMIT), 20.0, tolerance=1e-6),
                Text(
                    "That is the larger of the two; take the smaller.",
                    "取的是两者中较大的；应该取较小的。",
                ),
            ),
            Mistake(
                "upside down",
                gives((_CLEAN, _LIMIT), 1.0, tolerance=1e-6),
                Text(
                    "SNR is signal over noise: ᾱ / (1 − ᾱ).",
                    "信噪比是信号比噪声：ᾱ / (1 − ᾱ)。",
                ),
            ),
        ],
        hints=[
            Text("First the ratio: ᾱ / (1 − ᾱ).", "先算信噪比：ᾱ / (1 − ᾱ)。"),
            Text("return min(snr, limit) / snr", "返回：min(snr, limit) / snr"),
        ],
    ),
    Exercise(
        "11-4",
        Text("Add several LoRAs to a weight.", "把几个 LoRA 加到权重上。"),
        tests=[
            _mixes_with(lambda down, alpha, scale: scale * alpha / len(down)),
            _leaves_the_weight,
        ],
        mistakes=[
            Mistake(
                "rank forgotten",
                _mixes_with(lambda down, alpha, scale: scale * alpha),
                Text("alpha counts divided by the rank.", "alpha 要除以秩。"),
            ),
            Mistake(
                "alpha forgotten",
                _mixes_with(lambda down, alpha, scale: scale),
                Text("Each B·A also counts α / r times.", "每个 B·A 还要乘 α / r。"),
            ),
            Mistake(
                "scale forgotten",
                _mixes_with(lambda down, alpha, scale: alpha / len(down)),
                Text("Each LoRA has a scale of its own.", "每个 LoRA 还有自己的强度。"),
            ),
            Mistake(
                "base forgotten",
                _mixes_with(
                    lambda down, alpha, scale: scale * alpha / len(down),
                    weight_counts=False,
                ),
                Text(
                    "That is what is added; begin with the base's weight.",
                    "这只是加上去的部分，要从基座的权重开始。",
                ),
            ),
        ],
        hints=[
            Text(
                "For each: scale · α / r · up @ down.",
                "每个 LoRA：强度 · α / r · up @ down。",
            ),
            Text(
                "The rank is the number of rows of down: len(down).",
                "秩就是 down 的行数：len(down)。",
            ),
            Text(
                "total = weight.clone(); in the loop: total += scale * alpha / len(down) * (up @ down)",
                "先 total = weight.clone()，循环里 total += scale * alpha / len(down) * (up @ down)",
            ),
        ],
    ),
]

_LOOP = "total = weight.clone()\nfor down, up, alpha, scale in loras:\n    total += {} * (up @ down)\nreturn total"

WRONG_ANSWERS = {
    "11-1": [
        ("return rank * kernel**2 * (inputs + outputs)", "both with a kernel"),
        ("return rank * (inputs + outputs)", "no kernel"),
        ("return rank * inputs * kernel + outputs * rank", "kernel once"),
    ],
    "11-2": [
        (
            'my_config = LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", '
            'target_modules=["q_proj", "k_proj", "v_proj", "out_proj"])',
            "names of another model",
        ),
        (
            'my_config = LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", '
            'target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2"])',
            "convolutions, too",
        ),
        (
            'my_config = LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian", '
            'target_modules=["to_q", "to_k", "to_v"])',
            "output left out",
        ),
        (
            'my_config = LoraConfig(r=4, init_lora_weights="gaussian", '
            'target_modules=["to_q", "to_k", "to_v", "to_out.0"])',
            "alpha left out",
        ),
        (
            'my_config = LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"])',
            "other beginning",
        ),
    ],
    "11-3": [
        ("return min(alpha_bar / (1 - alpha_bar), limit)", "not divided"),
        ("snr = (1 - alpha_bar) / alpha_bar\nreturn min(snr, limit) / snr", "upside down"),
        (
            "snr = alpha_bar / (1 - alpha_bar)\nreturn max(snr, limit) / snr",
            "larger instead of smaller",
        ),
    ],
    "11-4": [
        (
            _LOOP.format("scale * alpha"),
            "rank forgotten",
        ),
        (
            _LOOP.format("scale"),
            "alpha forgotten",
        ),
        (
            _LOOP.format("alpha / len(down)"),
            "scale forgotten",
        ),
        (
            "return sum(scale * alpha / len(down) * (up @ down) for down, up, alpha, scale in loras)",
            "base forgotten",
        ),
    ],
}
