"""The exercises of chapter 03, inside a language model."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

# Two texts of four tokens; the second is two tokens long and padded.
_PADDED = [[1, 1, 1, 1], [1, 1, 0, 0]]
_CAUSAL = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
_SECOND = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


def _mask_is(expected: list[list[list[int]]]) -> Test:
    def test(answer: Any) -> object:  # noqa: ANN401
        import torch

        mask = torch.as_tensor(answer(torch.tensor(_PADDED)))
        return mask.shape == (2, 4, 4) and torch.equal(mask.bool(), torch.tensor(expected).bool())

    return test


def _mask_is_boolean(answer: Any) -> object:  # noqa: ANN401
    import torch

    mask = answer(torch.tensor(_PADDED))
    if mask.dtype == torch.bool:
        return True
    return Text(
        f"The places are right, but the mask is of type {mask.dtype}. Make it Boolean: as numbers it would be added.",
        f"位置都对，但掩码的类型是 {mask.dtype}。请转成布尔型：当成数字加进分数里就错了。",
    )


def _upside_down(rows: list[list[int]]) -> list[list[int]]:
    return [[1 - value for value in row] for row in rows]


def _transposed(rows: list[list[int]]) -> list[list[int]]:
    return [list(column) for column in zip(*rows, strict=True)]


# Chosen: places 0 to 3. Place 4 lies above 0.15.
_IDS = [11, 12, 13, 14, 15]
_DRAWS = [0.02, 0.119, 0.13, 0.14, 0.5]
_RANDOM = [91, 92, 93, 94, 95]
_MASKED_CALL = (_IDS, _DRAWS, 4, _RANDOM)
_LABELS = [11, 12, 13, 14, -100]


def _masking_gives(inputs: list[int], labels: list[int]) -> Test:
    def test(answer: Any) -> bool:  # noqa: ANN401
        found = answer(list(_IDS), list(_DRAWS), 4, list(_RANDOM))
        return [list(each) for each in found] == [inputs, labels]

    return test


def _changes_its_argument(answer: Any) -> object:  # noqa: ANN401
    given = list(_IDS)
    answer(given, list(_DRAWS), 4, list(_RANDOM))
    if given == _IDS:
        return True
    return Text(
        "The ids you were given were changed; work on a copy.",
        "你改动了传进来的编号；请在副本上操作。",
    )


EXERCISES = [
    Exercise(
        "03-1",
        Text("From perplexity to bits per character.", "由困惑度换算每字符比特数。"),
        tests=[
            gives((256.0, 100, 100), 8.0, tolerance=1e-6),
            gives((256.0, 50, 100), 4.0, tolerance=1e-6),
            gives((2.0, 300, 100), 3.0, tolerance=1e-6),
        ],
        mistakes=[
            Mistake(
                "nats",
                gives((256.0, 50, 100), 2.772588722239781, tolerance=1e-6),
                Text(
                    "That is in nats: bits need the logarithm to base 2.",
                    "这是以 nat 为单位；比特要用以 2 为底的对数。",
                ),
            ),
            Mistake(
                "per token",
                gives((256.0, 50, 100), 8.0, tolerance=1e-6),
                Text(
                    "Those are bits per token. How many tokens fall to one character?",
                    "这是每 token 的比特数。一个字符合多少个 token？",
                ),
            ),
            Mistake(
                "upside down",
                gives((256.0, 50, 100), 16.0, tolerance=1e-6),
                Text(
                    "The ratio is upside down: more characters, fewer bits for each.",
                    "比值倒过来了：字符越多，每个字符分到的比特越少。",
                ),
            ),
        ],
        hints=[
            Text(
                "All bits together are tokens times the bits of one token.",
                "总比特数等于 token 数乘以每个 token 的比特数。",
            ),
            Text(
                "One token costs math.log2(perplexity) bits.",
                "一个 token 花 math.log2(perplexity) 比特。",
            ),
            Text("Divide by the number of characters.", "再除以字符数。"),
        ],
    ),
    Exercise(
        "03-2",
        Text("Make a decoder's mask.", "画出解码器的掩码。"),
        tests=[_mask_is([_CAUSAL, _SECOND]), _mask_is_boolean],
        mistakes=[
            Mistake(
                "padding forgotten",
                _mask_is([_CAUSAL, _CAUSAL]),
                Text(
                    "Causal it is; but the padding of the second text is still seen.",
                    "因果掩码对了，可第二条文本的填充还看得见。",
                ),
            ),
            Mistake(
                "order forgotten",
                _mask_is([[[1, 1, 1, 1]] * 4, [[1, 1, 0, 0]] * 4]),
                Text(
                    "The padding is hidden, but a token sees those after it.",
                    "填充遮住了，但还能看到后面的 token。",
                ),
            ),
            Mistake(
                "looks ahead",
                _mask_is(
                    [
                        _transposed(_CAUSAL),
                        [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
                    ]
                ),
                Text(
                    "Each token sees only itself and what follows: tril, not triu.",
                    "现在只能看自己和后面的：要用 tril，不是 triu。",
                ),
            ),
            Mistake(
                "the opposite",
                _mask_is([_upside_down(_CAUSAL), _upside_down(_SECOND)]),
                Text(
                    "All is the other way round: True means may be seen.",
                    "全反了：True 表示可以看。",
                ),
            ),
        ],
        hints=[
            Text(
                "Two conditions must hold: not later, and no padding.",
                "要同时满足两个条件：不在后面，也不是填充。",
            ),
            Text(
                "Not later: torch.ones(tokens, tokens).tril().bool()",
                "不在后面：torch.ones(tokens, tokens).tril().bool()",
            ),
            Text(
                "Padding is about keys, the columns: attention_mask.bool()[:, None, :]. Join the two with &.",
                "填充说的是 key，也就是列：attention_mask.bool()[:, None, :]。两者用 & 连起来。",
            ),
        ],
    ),
    Exercise(
        "03-3",
        Text("Write the 80/10/10 rule.", "写出 80/10/10 规则。"),
        tests=[
            _masking_gives([4, 4, 93, 14, 15], _LABELS),
            gives(([7, 8], [0.9, 0.15], 4, [1, 2]), [[7, 8], [-100, -100]]),
            _changes_its_argument,
        ],
        mistakes=[
            Mistake(
                "all have labels",
                _masking_gives([4, 4, 93, 14, 15], _IDS),
                Text(
                    "Tokens that were not chosen have the label -100.",
                    "没有选中的 token，标签是 -100。",
                ),
            ),
            Mistake(
                "label only where masked",
                _masking_gives([4, 4, 93, 14, 15], [11, 12, -100, -100, -100]),
                Text(
                    "The random and the unchanged ones are chosen, too: they have labels.",
                    "换成随机的和原样不动的也算选中，也有标签。",
                ),
            ),
            Mistake(
                "label where changed",
                _masking_gives([4, 4, 93, 14, 15], [11, 12, 13, -100, -100]),
                Text(
                    "What stays unchanged was chosen as well: it has a label.",
                    "原样不动的也是选中的：它也有标签。",
                ),
            ),
            Mistake(
                "shares of all",
                _masking_gives([4, 4, 4, 4, 15], _LABELS),
                Text(
                    "80 % of the chosen, not of all: the limit is 0.15 · 0.8.",
                    "是选中者的 80 %，不是全部的 80 %：界限是 0.15 · 0.8。",
                ),
            ),
            Mistake(
                "the label is what stands there now",
                _masking_gives([4, 4, 93, 14, 15], [4, 4, 93, 14, -100]),
                Text(
                    "The label is the token that stood there before.",
                    "标签是原来的那个 token。",
                ),
            ),
        ],
        hints=[
            Text(
                "Begin with a copy of ids, and a list of -100.",
                "先准备 ids 的一份副本，和一个全是 -100 的列表。",
            ),
            Text(
                "Where u < 0.15, the label is the id, whatever becomes of the input.",
                "凡是 u < 0.15，标签就是原编号，不管输入变成什么。",
            ),
            Text(
                "Below 0.12 the mask, from there to 0.135 the random id, above that nothing changes.",
                "小于 0.12 换成掩码，0.12 到 0.135 换成随机编号，再往上不变。",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "03-1": [
        ("return tokens / characters * math.log(perplexity)", "nats"),
        ("return math.log2(perplexity)", "per token"),
        ("return characters / tokens * math.log2(perplexity)", "upside down"),
    ],
    "03-2": [
        (
            "n = attention_mask.shape[1]\nreturn torch.ones(n, n).tril().bool().expand(len(attention_mask), n, n)",
            "padding forgotten",
        ),
        (
            "n = attention_mask.shape[1]\nreturn attention_mask.bool()[:, None, :].expand(-1, n, n)",
            "order forgotten",
        ),
        (
            "n = attention_mask.shape[1]\n"
            "before = torch.ones(n, n).triu().bool()\n"
            "return before & attention_mask.bool()[:, None, :] & attention_mask.bool()[:, :, None]",
            "looks ahead",
        ),
        (
            "n = attention_mask.shape[1]\nreturn ~(torch.ones(n, n).tril().bool() & attention_mask.bool()[:, None, :])",
            "the opposite",
        ),
    ],
    "03-3": [
        (
            "inputs = list(ids)\n"
            "for place, u in enumerate(draws):\n"
            "    if u < 0.12:\n"
            "        inputs[place] = mask_id\n"
            "    elif u < 0.135:\n"
            "        inputs[place] = random_ids[place]\n"
            "return inputs, list(ids)",
            "all have labels",
        ),
        (
            "inputs, labels = list(ids), [-100] * len(ids)\n"
            "for place, u in enumerate(draws):\n"
            "    if u < 0.12:\n"
            "        inputs[place], labels[place] = mask_id, ids[place]\n"
            "    elif u < 0.135:\n"
            "        inputs[place] = random_ids[place]\n"
            "return inputs, labels",
            "label only where masked",
        ),
        (
            "inputs, labels = list(ids), [-100] * len(ids)\n"
            "for place, u in enumerate(draws):\n"
            "    if u < 0.12:\n"
            "        inputs[place], labels[place] = mask_id, ids[place]\n"
            "    elif u < 0.135:\n"
            "        inputs[place], labels[place] = random_ids[place], ids[place]\n"
            "return inputs, labels",
            "label where changed",
        ),
        (
            "inputs, labels = list(ids), [-100] * len(ids)\n"
            "for place, u in enumerate(draws):\n"
            "    if u < 0.15:\n"
            "        labels[place] = ids[place]\n"
            "        if u < 0.8:\n"
            "            inputs[place] = mask_id\n"
            "        elif u < 0.9:\n"
            "            inputs[place] = random_ids[place]\n"
            "return inputs, labels",
            "shares of all",
        ),
        (
            "inputs, labels = list(ids), [-100] * len(ids)\n"
            "for place, u in enumerate(draws):\n"
            "    if u < 0.15:\n"
            "        if u < 0.12:\n"
            "            inputs[place] = mask_id\n"
            "        elif u < 0.135:\n"
            "            inputs[place] = random_ids[place]\n"
            "        labels[place] = inputs[place]\n"
            "return inputs, labels",
            "the label is what stands there now",
        ),
    ],
}
