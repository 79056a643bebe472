"""The exercises of chapter 07, LoRA for translation."""

from __future__ import annotations

import math
from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

_PADDED = [[7, 8, 9, 1], [5, 1, -100, -100]]


def _decoder_reads(expected: list[list[int]]) -> Test:
    def test(answer: Any) -> bool:  # noqa: ANN401
        import torch

        read = answer(torch.tensor(_PADDED), 0, 0)
        return torch.equal(torch.as_tensor(read), torch.tensor(expected))

    return test


def _changes_its_argument(answer: Any) -> bool:  # noqa: ANN401
    import torch

    given = torch.tensor(_PADDED)
    answer(given, 0, 0)
    return given.tolist() != _PADDED


def _agrees_with_sacrebleu(answer: Any) -> bool | Text:  # noqa: ANN401
    from sacrebleu.metrics import BLEU

    reference = "one two three four five six seven eight"
    for words in range(4, 13):
        translation = " ".join(["one"] * words)
        expected = BLEU(tokenize="none").corpus_score([translation], [[reference]]).bp
        if not math.isclose(answer(words, 8), expected, rel_tol=1e-9):
            return Text(
                f"For {words} words against 8 sacrebleu says {expected:.4f}.",
                f"译文 {words} 个词、参考译文 8 个词时，sacrebleu 给出 {expected:.4f}。",
            )
    return True


_RIGHT_AMOUNTS = {
    "0.01": "壹分",
    "0.10": "壹角",
    "0.45": "肆角伍分",
    "1.00": "壹元整",
    "1.05": "壹元零伍分",
    "10.00": "壹拾元整",
    "15.23": "壹拾伍元贰角叁分",
    "100.05": "壹佰元零伍分",
    "325.04": "叁佰贰拾伍元零肆分",
    "1000.01": "壹仟元零壹分",
    "1010.00": "壹仟零壹拾元整",
    "1409.50": "壹仟肆佰零玖元伍角",
    "6007.14": "陆仟零柒元壹角肆分",
    "9999.99": "玖仟玖佰玖拾玖元玖角玖分",
}


def _accepts_what_is_right(answer: Any) -> bool | Text:  # noqa: ANN401
    for figures, capitals in _RIGHT_AMOUNTS.items():
        if answer(capitals) != []:
            return Text(
                f"The capitals of {figures} yuan break no rule.",
                f"{capitals} 并不违反规则。",
            )
    return True


EXERCISES = [
    Exercise(
        "07-1",
        Text("How many numbers does this adapter train?", "这个适配器要训练多少个数？"),
        tests=[
            gives((4, 2, 128, 8, 20), 35_328),
            gives((6, 6, 512, 8, 0), 294_912),
            gives((1, 1, 10, 1, 3), 150),
        ],
        mistakes=[
            Mistake(
                "one attention in the decoder",
                gives((4, 2, 128, 8, 20), 27_136),
                Text(
                    "A decoder layer has two attentions: to itself, and to what the encoder made.",
                    "解码器每层有两处注意力：一处看自己，一处看编码器的输出。",
                ),
            ),
            Mistake(
                "new rows forgotten",
                gives((4, 2, 128, 8, 20), 32_768),
                Text(
                    "That is LoRA alone. Each new token brings a row of `width` numbers.",
                    "这只是 LoRA。每个新 token 还带来一行，共 `width` 个数。",
                ),
            ),
            Mistake(
                "A without B",
                gives((4, 2, 128, 8, 20), 18_944),
                Text(
                    "Every module gets two matrices, A and B.",
                    "每个模块有两个矩阵：A 和 B。",
                ),
            ),
        ],
        hints=[
            Text(
                "Count the attentions: one per encoder layer, two per decoder layer. Each has q and v.",
                "先数注意力：编码器每层一处，解码器每层两处；每处有 q 和 v。",
            ),
            Text(
                "A: rank × width. B: width × rank. New rows: tokens × width.",
                "A 是 秩 × 宽，B 是 宽 × 秩，新增的行是 token 数 × 宽。",
            ),
        ],
    ),
    Exercise(
        "07-2",
        Text("Write BLEU's brevity penalty.", "写出 BLEU 的简短惩罚。"),
        tests=[
            gives((8, 8), 1.0, tolerance=1e-9),
            gives((12, 8), 1.0, tolerance=1e-9),
            gives((4, 8), math.exp(-1), tolerance=1e-9),
            gives((0, 8), 0.0, tolerance=1e-9),
            _agrees_with_sacrebleu,
        ],
        mistakes=[
            Mistake(
                "the wrong way round",
                gives((4, 8), math.exp(1 - 4 / 8), tolerance=1e-9),
                Text(
                    "The fraction is upside down: a short translation must score below 1.",
                    "分数写反了：译文短了，得分应该小于 1。",
                ),
            ),
            Mistake(
                "long ones punished or praised",
                lambda answer: not math.isclose(answer(12, 8), 1.0),
                Text(
                    "A translation that is long enough gets exactly 1.",
                    "译文够长时，惩罚恰好是 1。",
                ),
            ),
            Mistake(
                "a plain ratio",
                gives((4, 8), 0.5, tolerance=1e-9),
                Text(
                    "A ratio falls in a straight line; BLEU takes an exponential.",
                    "直接相除是一条直线，BLEU 用的是指数。",
                ),
            ),
        ],
        hints=[
            Text(
                "1 if the translation is at least as long as the reference.",
                "译文不短于参考译文时，等于 1。",
            ),
            Text(
                "Else e to the power of 1 − reference / translation; and 0 for an empty one.",
                "否则是 e 的（1 − 参考长度 / 译文长度）次方；译文为空时是 0。",
            ),
        ],
    ),
    Exercise(
        "07-3",
        Text("What does the decoder read while it is taught?", "训练时，解码器读到的是什么？"),
        tests=[
            lambda answer: (
                Text(
                    "The labels you were given were changed; return new ones.",
                    "你改动了传进来的标签；请返回新的。",
                )
                if _changes_its_argument(answer)
                else True
            ),
            _decoder_reads([[0, 7, 8, 9], [0, 5, 1, 0]]),
        ],
        mistakes=[
            Mistake(
                "-100 is read",
                _decoder_reads([[0, 7, 8, 9], [0, 5, 1, -100]]),
                Text(
                    "-100 is no token: the embedding has no such row. Put padding there.",
                    "-100 不是 token，嵌入表里没有这一行。换成填充 token。",
                ),
            ),
            Mistake(
                "not shifted",
                _decoder_reads([[7, 8, 9, 1], [5, 1, 0, 0]]),
                Text(
                    "The decoder would read the very token it is to predict.",
                    "这样解码器会直接读到它要预测的 token。",
                ),
            ),
            Mistake(
                "shifted to the left",
                _decoder_reads([[8, 9, 1, 0], [1, 0, 0, 0]]),
                Text(
                    "The other way: it reads the token before, not the one after.",
                    "方向反了：读的是前一个 token，不是后一个。",
                ),
            ),
        ],
        hints=[
            Text(
                "Put `start` in front of each row and drop the last column.",
                "每行前面放上 `start`，去掉最后一列。",
            ),
            Text(
                "torch.cat([first, labels[:, :-1]], dim=1), then masked_fill",
                "先 torch.cat([first, labels[:, :-1]], dim=1)，再 masked_fill。",
            ),
        ],
    ),
    Exercise(
        "07-4",
        Text("Write a checker for capital amounts.", "写一个检查大写金额的函数。"),
        tests=[
            _accepts_what_is_right,
            gives(("壹佰元",), ["end"]),
            gives(("壹佰元伍分整",), ["end", "gap"]),
            gives(("叁元伍角整",), ["end"]),
            gives(("壹佰元伍分",), ["gap"]),
            gives(("拾元整",), ["ten"]),
            gives(("壹仟拾元伍分",), ["gap", "ten"]),
            gives(("壹佰零拾元整",), ["ten"]),
        ],
        mistakes=[
            Mistake(
                "the closing mark everywhere",
                lambda answer: "end" in answer("叁元伍角"),
                Text(
                    "The closing mark follows whole yuan only; after jiao or fen it is left out here.",
                    "只有整元后面才写“整”；本章里，角、分之后不写。",
                ),
            ),
            Mistake(
                "jiao needs no zero",
                lambda answer: "gap" in answer("叁元肆角伍分"),
                Text(
                    "With jiao there is no gap between yuan and fen.",
                    "有了角，元和分之间就没有空位。",
                ),
            ),
            Mistake(
                "only at the start",
                lambda answer: answer("拾元整") == ["ten"] and answer("壹仟拾元整") == [],
                Text(
                    "Ten can lack its numeral in the middle, too.",
                    "中间的“拾”也可能缺了数字。",
                ),
            ),
        ],
        hints=[
            Text(
                '"end": the closing mark stands last exactly if the character before it is yuan.',
                "“end”：当且仅当金额止于元，末尾才有“整”。",
            ),
            Text(
                '"gap": look with re.search for yuan, one numeral and fen, in a row.',
                '“gap”：re.search("元[壹贰叁肆伍陆柒捌玖]分", text)',
            ),
            Text(
                '"ten": "(?<!...)[...]" finds a unit that does not follow a numeral.',
                '“ten”：re.search("(?<![壹贰叁肆伍陆柒捌玖])[拾佰仟]", text)',
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "07-1": [
        (
            "return (encoder_layers + decoder_layers) * 2 * 2 * rank * width + tokens * width",
            "one attention in the decoder",
        ),
        (
            "return (encoder_layers + 2 * decoder_layers) * 2 * 2 * rank * width",
            "new rows forgotten",
        ),
        (
            "return (encoder_layers + 2 * decoder_layers) * 2 * rank * width + tokens * width",
            "A without B",
        ),
    ],
    "07-2": [
        (
            "if translation >= reference:\n    return 1.0\n"
            "return math.exp(1 - translation / reference) if translation else 0.0",
            "the wrong way round",
        ),
        (
            "return math.exp(1 - reference / translation) if translation else 0.0",
            "long ones punished or praised",
        ),
        ("return min(1.0, translation / reference)", "a plain ratio"),
    ],
    "07-3": [
        (
            "first = torch.full_like(labels[:, :1], start)\nreturn torch.cat([first, labels[:, :-1]], dim=1)",
            "-100 is read",
        ),
        ("return labels.masked_fill(labels == -100, padding)", "not shifted"),
        (
            "last = torch.full_like(labels[:, :1], start)\n"
            "read = torch.cat([labels[:, 1:], last], dim=1)\n"
            "return read.masked_fill(read == -100, padding)",
            "shifted to the left",
        ),
    ],
    "07-4": [
        (
            'broken = []\nif not text.endswith("整"):\n    broken.append("end")\n'
            'if re.search("元[壹贰叁肆伍陆柒捌玖]分", text):\n    broken.append("gap")\n'
            'if re.search("(?<![壹贰叁肆伍陆柒捌玖])[拾佰仟]", text):\n    broken.append("ten")\nreturn broken',
            "the closing mark everywhere",
        ),
        (
            'broken = []\nif text.endswith("整") != text.removesuffix("整").endswith("元"):\n    broken.append("end")\n'
            'if text.endswith("分") and "元" in text and "元零" not in text:\n    broken.append("gap")\n'
            'if re.search("(?<![壹贰叁肆伍陆柒捌玖])[拾佰仟]", text):\n    broken.append("ten")\nreturn broken',
            "jiao needs no zero",
        ),
        (
            'broken = []\nif text.endswith("整") != text.removesuffix("整").endswith("元"):\n    broken.append("end")\n'
            'if re.search("元[壹贰叁肆伍陆柒捌玖]分", text):\n    broken.append("gap")\n'
            'if re.match("[拾佰仟]", text):\n    broken.append("ten")\nreturn broken',
            "only at the start",
        ),
    ],
}
