"""The exercises of chapter 15, what the articles get wrong."""

from __future__ import annotations

from typing import Any

from aigc_helpers.notebook import Exercise, Mistake, Test, Text, gives

_OLD = {"evaluation_strategy": "epoch", "no_cuda": True, "learning_rate": 0.001}
_NEW = {"eval_strategy": "epoch", "use_cpu": True, "learning_rate": 0.001}


def _weights(**changed: list[float]) -> dict[str, Any]:
    import torch

    start = {"query": [1.0, 2.0], "value": [3.0, 4.0], "dense": [5.0, 6.0]}
    return {name: torch.tensor(values) for name, values in (start | changed).items()}


def _counts(before: dict[str, list[float]], after: dict[str, list[float]], expected: int) -> Test:
    def test(answer: Any) -> bool:  # noqa: ANN401
        return bool(answer(_weights(**before), _weights(**after)) == expected)

    return test


EXERCISES = [
    Exercise(
        "15-1",
        Text(
            "Which alpha keeps the scaling at another rank?",
            "换了秩，alpha 取多少才能保持同样的缩放？",
        ),
        tests=[gives((16, 8, 32), 64), gives((16, 8, 4), 8), gives((1, 4, 16), 4)],
        mistakes=[
            Mistake(
                "left as it was",
                gives((16, 8, 32), 16),
                Text(
                    "With the old alpha, a higher rank makes α/r smaller.",
                    "alpha 不变，秩一高，α/r 就变小了。",
                ),
            ),
            Mistake(
                "turned round",
                gives((16, 8, 32), 4),
                Text(
                    "A higher rank needs a larger alpha, not a smaller one.",
                    "秩越高，alpha 要越大，不是越小。",
                ),
            ),
            Mistake(
                "the scaling",
                gives((16, 8, 32), 2),
                Text(
                    "That is the scaling α/r. Asked is the alpha.",
                    "这是缩放 α/r，问的是 alpha。",
                ),
            ),
        ],
        hints=[
            Text(
                "α/r is to stay: alpha / rank = ? / new_rank.",
                "α/r 要保持不变：alpha / rank = ? / new_rank。",
            ),
            Text("alpha * new_rank / rank", "两边同乘 new_rank：alpha * new_rank / rank"),
        ],
    ),
    Exercise(
        "15-2",
        Text(
            "Put old arguments of TrainingArguments into today's names.",
            "把 TrainingArguments 的旧参数换成今天的名字。",
        ),
        tests=[
            gives((_OLD,), _NEW),
            gives(({"warmup_ratio": 0.1},), {"warmup_steps": 0.1}),
            gives(({"learning_rate": 0.01},), {"learning_rate": 0.01}),
            gives(({},), {}),
        ],
        mistakes=[
            Mistake(
                "the others are lost",
                gives((_OLD,), {name: _NEW[name] for name in ("eval_strategy", "use_cpu")}),
                Text(
                    "Arguments whose names have not changed must stay.",
                    "名字没变的参数也要留下。",
                ),
            ),
            Mistake(
                "the old ones stay",
                gives((_OLD,), _OLD | _NEW),
                Text(
                    "The new names are there, but the old ones are, too.",
                    "新名字有了，可旧名字还在。",
                ),
            ),
            Mistake(
                "nothing renamed",
                gives((_OLD,), _OLD),
                Text(
                    "This is still what was given. Look at claim 7.",
                    "这还是原来的字典，看说法 7。",
                ),
            ),
        ],
        hints=[
            Text(
                "Write a dictionary from old to new names; there are three.",
                "先写一个从旧名到新名的字典，一共三个。",
            ),
            Text(
                "{names.get(name, name): value for name, value in arguments.items()}",
                "用推导式：{names.get(name, name): value for name, value in arguments.items()}",
            ),
            Text(
                "evaluation_strategy → eval_strategy, no_cuda → use_cpu, warmup_ratio → warmup_steps",
                "对应关系：evaluation_strategy → eval_strategy，no_cuda → use_cpu，warmup_ratio → warmup_steps",
            ),
        ],
    ),
    Exercise(
        "15-3",
        Text("Count the tensors that training has changed.", "数一数训练改动了几个张量。"),
        tests=[
            _counts({}, {}, 0),
            _counts({}, {"query": [9.0, 9.0]}, 1),
            _counts({}, {"query": [1.0, 2.5], "value": [3.5, 4.5]}, 2),
            _counts({}, {"lora_A": [7.0, 8.0]}, 0),
        ],
        mistakes=[
            Mistake(
                "objects instead of values",
                _counts({}, {}, 3),
                Text(
                    "Two tensors with the same values are two objects. Compare values: torch.equal.",
                    "值相同的两个张量也是两个对象。要比较值：torch.equal。",
                ),
            ),
            Mistake(
                "numbers instead of tensors",
                _counts({}, {"query": [9.0, 9.0]}, 2),
                Text("Count tensors, not the numbers in them.", "数的是张量，不是里面的数。"),
            ),
            Mistake(
                "new names count",
                _counts({}, {"lora_A": [7.0, 8.0]}, 1),
                Text(
                    "A tensor that was not there before has not changed.",
                    "之前不存在的张量，不算被改动。",
                ),
            ),
        ],
        hints=[
            Text("Go through the names of `before`.", "按 `before` 里的名字逐个看。"),
            Text(
                "torch.equal(before[name], after[name])",
                "用 torch.equal(before[name], after[name]) 比较。",
            ),
            Text(
                "sum(not torch.equal(tensor, after[name]) for name, tensor in before.items())",
                "答案近在眼前：sum(not torch.equal(tensor, after[name]) for name, tensor in before.items())",
            ),
        ],
    ),
]

WRONG_ANSWERS = {
    "15-1": [
        ("return alpha", "left as it was"),
        ("return alpha * rank / new_rank", "turned round"),
        ("return alpha / rank", "the scaling"),
    ],
    "15-2": [
        (
            'names = {"evaluation_strategy": "eval_strategy", "no_cuda": "use_cpu", "warmup_ratio": "warmup_steps"}\n'
            "return {names[old]: value for old, value in arguments.items() if old in names}",
            "the others are lost",
        ),
        (
            'names = {"evaluation_strategy": "eval_strategy", "no_cuda": "use_cpu", "warmup_ratio": "warmup_steps"}\n'
            "return arguments | {names.get(old, old): value for old, value in arguments.items()}",
            "the old ones stay",
        ),
        ("return dict(arguments)", "nothing renamed"),
    ],
    "15-3": [
        (
            "return sum(after[name] is not tensor for name, tensor in before.items())",
            "objects instead of values",
        ),
        (
            "return sum(int((after[name] != tensor).sum()) for name, tensor in before.items())",
            "numbers instead of tensors",
        ),
        (
            "return sum(name not in before or not torch.equal(tensor, before[name]) for name, tensor in after.items())",
            "new names count",
        ),
    ],
}
