"""The exercises of chapter 10, installing LoRA files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

if TYPE_CHECKING:
    from torch import Tensor

_LAYER = "down_blocks.1.attentions.0.proj_in"
_FLAT = "down_blocks_1_attentions_0_proj_in"
_TO_K = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
_TO_Q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_q"


def _shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a file of rank 4 whose text encoder has ``width``; queries first, as in most files."""
    return {
        f"{_TO_Q}.lora_down.weight": (4, 640),
        f"{_TO_Q}.lora_up.weight": (640, 4),
        f"{_TO_K}.alpha": (),
        f"{_TO_K}.lora_up.weight": (640, 4),
        f"{_TO_K}.lora_down.weight": (4, width),
    }


_NO_ATTENTION = {
    "lora_unet_conv_in.lora_down.weight": (4, 4, 3, 3),
    "lora_unet_conv_in.lora_up.weight": (320, 4, 1, 1),
}


def _file(*layers: tuple[float, float]) -> dict[str, Tensor]:
    """Return the tensors of a kohya file; per layer one number of A and one of B, the others zero."""
    import torch

    tensors = {}
    for number, (down, up) in enumerate(layers):
        stem = f"lora_unet_down_blocks_{number}_resnets_0_conv1"
        tensors[f"{stem}.alpha"] = torch.tensor(4.0)
        tensors[f"{stem}.lora_down.weight"] = torch.zeros(4, 3)
        tensors[f"{stem}.lora_down.weight"][0, 1] = down
        tensors[f"{stem}.lora_up.weight"] = torch.zeros(5, 4)
        tensors[f"{stem}.lora_up.weight"][2, 0] = up
    return tensors


def _says(layers: tuple[tuple[float, float], ...], expected: bool) -> Test:
    """Make a test: about a file with these layers the answer is ``expected``."""
    return lambda answer: bool(answer(_file(*layers))) == expected


_B_ZERO, _A_ZERO, _ONE_WORKS, _EACH_ANOTHER, _OPPOSITE, _WORKS = (
    ((0.5, 0), (0.5, 0)),
    ((0, 0.5), (0, 0.5)),
    ((0.5, 0), (0.5, 0.5)),
    ((0.5, 0), (0, 0.5)),
    ((-0.5, -0.5),),
    ((0.5, 0.5), (0.5, 0.5)),
)

EXERCISES = [
    Exercise(
        "10-1",
        Text("Which scale makes up for a lost alpha?", "丢了 alpha，强度该给多少？"),
        tests=[
            gives((8, 4), 2.0, 1e-9),
            gives((1, 16), 0.0625, 1e-9),
            gives((32, 32), 1.0, 1e-9),
        ],
        mistakes=[
            Mistake(
                "upside down",
                gives((8, 4), 0.5, 1e-9),
                Text(
                    "Upside down: with alpha above the rank it was trained stronger than it now is.",
                    "反了：alpha 比秩大，说明训练时比现在强。",
                ),
            ),
            Mistake(
                "alpha itself",
                gives((8, 4), 8.0, 1e-9),
                Text(
                    "The library still divides by the rank: alpha / rank.",
                    "程序库还会除以秩：alpha / 秩。",
                ),
            ),
            Mistake(
                "nothing to do",
                gives((8, 4), 1.0, 1e-9),
                Text(
                    "1 is what the library does now: rank / rank. It was trained with alpha / rank.",
                    "1 就是现在的样子：秩 / 秩。训练时是 alpha / 秩。",
                ),
            ),
        ],
        hints=[
            Text(
                "What is added is factor · B·A. What is the factor now, and what was it?",
                "加上去的是 系数 · B·A。现在系数是多少，训练时又是多少？",
            ),
            Text(
                "Now rank / rank = 1; in training alpha / rank.",
                "现在是 秩 / 秩 = 1；训练时是 alpha / 秩。",
            ),
        ],
    ),
    Exercise(
        "10-2",
        Text(
            "Write the name of a layer's A in kohya's format.",
            "写出某层的 A 矩阵在 kohya 格式里的名字。",
        ),
        tests=[
            gives((_LAYER,), f"lora_unet_{_FLAT}.lora_down.weight"),
            gives(("conv_in",), "lora_unet_conv_in.lora_down.weight"),
        ],
        mistakes=[
            Mistake(
                "B",
                gives((_LAYER,), f"lora_unet_{_FLAT}.lora_up.weight"),
                Text(
                    "That is B: A goes down to the rank.",
                    "这是 B：A 是降到秩的那个，叫 down。",
                ),
            ),
            Mistake(
                "dots kept",
                gives((_LAYER,), f"lora_unet_{_LAYER}.lora_down.weight"),
                Text(
                    "In the layer's own name dots become underscores.",
                    "层名里的点要换成下划线。",
                ),
            ),
            Mistake(
                "all dots replaced",
                gives((_LAYER,), f"lora_unet_{_FLAT}_lora_down_weight"),
                Text(
                    "Only in the layer's name; before lora_down and weight the dots stay.",
                    "只换层名里的点；lora_down 和 weight 前面的点要留着。",
                ),
            ),
            Mistake(
                "prefix forgotten",
                gives((_LAYER,), f"{_FLAT}.lora_down.weight"),
                Text("It begins with lora_unet_.", "开头是 lora_unet_。"),
            ),
            Mistake(
                "PEFT's ending",
                gives((_LAYER,), f"lora_unet_{_FLAT}.lora_A.weight"),
                Text(
                    "lora_A is PEFT's and diffusers' word.",
                    "lora_A 是 PEFT 和 diffusers 的叫法。",
                ),
            ),
        ],
        hints=[
            Text("Look at the three names in section 5.", "看看第 5 节里的三种名字。"),
            Text(
                '"lora_unet_" + the layer with underscores + ".lora_down.weight"',
                '"lora_unet_" + 换成下划线的层名 + ".lora_down.weight"',
            ),
        ],
    ),
    Exercise(
        "10-3",
        Text("Tell the family from the shapes.", "从形状看出家族。"),
        tests=[
            gives((_shapes(768),), "SD 1.x"),
            gives((_shapes(1024),), "SD 2.x"),
            gives((_shapes(2048),), "SDXL"),
            gives((_NO_ATTENTION,), "unknown"),
        ],
        mistakes=[
            Mistake(
                "a family for any file",
                lambda answer: answer(_shapes(2048)) == "SDXL" and answer(_NO_ATTENTION) != "unknown",
                Text(
                    'If no layer tells, the answer is "unknown".',
                    '没有哪一层能说明时，应返回 "unknown"。',
                ),
            ),
            Mistake(
                "only one family",
                lambda answer: (
                    (answer(_shapes(768)), answer(_shapes(1024)), answer(_shapes(2048)))
                    in (("SD 1.x",) * 3, ("SDXL",) * 3)
                ),
                Text(
                    "The width decides: 768, 1,024 or 2,048.",
                    "由宽度决定：768、1024 还是 2048。",
                ),
            ),
            Mistake(
                "outputs or rank",
                lambda answer: answer(_shapes(768)) == answer(_NO_ATTENTION) == "unknown",
                Text(
                    "Is it the number of inputs? A is lora_down, rank × inputs: shape[1].",
                    "看的是输入宽度吗？A 是 lora_down，形状是 秩 × 输入：shape[1]。",
                ),
            ),
        ],
        hints=[
            Text(
                'Look for names that end with "attn2_to_k.lora_down.weight".',
                "找以 attn2_to_k.lora_down.weight 结尾的名字。",
            ),
            Text(
                "Its shape[1] is 768, 1024 or 2048 (section 3).",
                "它的 shape[1] 是 768、1024 或 2048（第 3 节）。",
            ),
        ],
    ),
    Exercise(
        "10-4",
        Text("Does this LoRA change nothing?", "这个 LoRA 是不是什么也不改？"),
        tests=[
            _says(_B_ZERO, True),
            _says(_WORKS, False),
            _says(_ONE_WORKS, False),
            _says(_A_ZERO, True),
            _says(_EACH_ANOTHER, True),
            _says(_OPPOSITE, False),
        ],
        mistakes=[
            Mistake(
                "the other way round",
                lambda answer: _says(_B_ZERO, False)(answer) and _says(_WORKS, True)(answer),
                Text(
                    "The other way round: True if it changes nothing.",
                    "反了：什么也不改时才是 True。",
                ),
            ),
            Mistake(
                "one layer is enough",
                lambda answer: _says(_B_ZERO, True)(answer) and _says(_ONE_WORKS, True)(answer),
                Text(
                    "One layer that works is enough to change something.",
                    "只要有一层起作用，就算改了。",
                ),
            ),
            Mistake(
                "B alone",
                lambda answer: _says(_B_ZERO, True)(answer) and _says(_A_ZERO, False)(answer),
                Text("With A zero the product is zero, too.", "A 为零时，乘积同样是零。"),
            ),
            Mistake(
                "all of one kind",
                lambda answer: _says(_A_ZERO, True)(answer) and _says(_EACH_ANOTHER, False)(answer),
                Text(
                    "It may be A in one layer and B in another: go layer by layer.",
                    "可能这层是 A 为零，那层是 B 为零：要一层一层看。",
                ),
            ),
            Mistake(
                "sums",
                lambda answer: _says(_ONE_WORKS, False)(answer) and _says(_OPPOSITE, True)(answer),
                Text(
                    "A sum below zero is not zero: use any().",
                    "和小于零不等于没有：用 any()。",
                ),
            ),
        ],
        hints=[
            Text(
                "Pair each lora_up with the lora_down of the same layer.",
                "把每个 lora_up 和同一层的 lora_down 配成对。",
            ),
            Text(
                "tensor.any() is false if all of it is zero.",
                "tensor 全为零时，tensor.any() 是假。",
            ),
            Text(
                "Return: not any(up.any() and down.any() for …)",
                "返回：not any(up.any() and down.any() for …)",
            ),
        ],
    ),
]

_PAIRS = (
    'ups = [name for name in tensors if name.endswith(".lora_up.weight")]\n'
    'pairs = [(tensors[up], tensors[up.replace("lora_up", "lora_down")]) for up in ups]\n'
)
_TABLE = '{768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL"}'
WRONG_ANSWERS = {
    "10-1": [
        ("return rank / alpha", "upside down"),
        ("return alpha", "alpha itself"),
        ("return 1.0", "nothing to do"),
    ],
    "10-2": [
        ('return "lora_unet_" + layer.replace(".", "_") + ".lora_up.weight"', "B"),
        ('return "lora_unet_" + layer + ".lora_down.weight"', "dots kept"),
        (
            'return ("lora_unet_" + layer + ".lora_down.weight").replace(".", "_")',
            "all dots replaced",
        ),
        ('return layer.replace(".", "_") + ".lora_down.weight"', "prefix forgotten"),
        (
            'return "lora_unet_" + layer.replace(".", "_") + ".lora_A.weight"',
            "PEFT's ending",
        ),
    ],
    "10-3": [
        (
            "for name, shape in shapes.items():\n"
            '    if name.endswith("attn2_to_k.lora_down.weight"):\n'
            f"        return {_TABLE}.get(shape[1])\n"
            'return "SD 1.x"',
            "a family for any file",
        ),
        (
            'return "SDXL" if any("attn2_to_k" in name for name in shapes) else "unknown"',
            "only one family",
        ),
        (
            "for name, shape in shapes.items():\n"
            '    if name.endswith("attn2_to_k.lora_down.weight"):\n'
            f'        return {_TABLE}.get(shape[0], "unknown")\n'
            'return "unknown"',
            "outputs or rank",
        ),
    ],
    "10-4": [
        (
            f"{_PAIRS}return any(up.any() and down.any() for up, down in pairs)",
            "the other way round",
        ),
        (
            f"{_PAIRS}return any(not (up.any() and down.any()) for up, down in pairs)",
            "one layer is enough",
        ),
        (f"{_PAIRS}return not any(up.any() for up, down in pairs)", "B alone"),
        (
            f"{_PAIRS}return not any(up.any() for up, _ in pairs) or not any(down.any() for _, down in pairs)",
            "all of one kind",
        ),
        (
            f"{_PAIRS}return not any(up.sum() > 0 and down.sum() > 0 for up, down in pairs)",
            "sums",
        ),
    ],
}
