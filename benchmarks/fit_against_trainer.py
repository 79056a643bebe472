"""fit() beside transformers.Trainer on chapter 05's task: tokens per second, accuracy, peak memory.

Run with:  python benchmarks/fit_against_trainer.py

Each contender trains in a process of its own, so that its peak memory is its own, and the pair is run twice in
alternation, so that a busy machine disturbs both alike. "Tokens" are real ones: padding is work, but no result.
Trainer runs with its defaults (batch of 8, random order, padding to the longest of the batch), and once more with
fit()'s batch size, which parts the gain of the batch size from that of the order.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

_CONTENDERS = {"fit": 32, "trainer, defaults": 8, "trainer, batch 32": 32}
_ROUNDS = 2
_EPOCHS = 2
_LEARNING_RATE = 2e-3
_SNIPPETS = 2000


def main() -> None:
    """Run every contender, print a table."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in _CONTENDERS}
    for _ in range(_ROUNDS):
        for name, batch_size in _CONTENDERS.items():
            command = [sys.executable, __file__, name, str(batch_size)]
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[name].append(json.loads(finished.stdout.splitlines()[-1]))
            print(name, rows[name][-1], file=sys.stderr)
    fastest = {name: max(row["tokens_per_second"] for row in runs) for name, runs in rows.items()}
    print(f"{'':20} {'tokens/s':>9} {'ratio':>6} {'accuracy':>9} {'peak MiB':>9}")
    for name, runs in rows.items():
        ratio = fastest["fit"] / fastest[name]
        peak = min(row["peak_mebibytes"] for row in runs)
        print(f"{name:20} {fastest[name]:9.0f} {ratio:6.2f} {runs[0]['accuracy']:9.3f} {peak:9.0f}")
    best = max(rows["fit"], key=lambda row: row["tokens_per_second"])
    print(
        f"fit() computes {best['gigaflops']:.0f} GFLOP/s, which is {best['gigaflops'] / best['matmul_gigaflops']:.0%} "
        f"of the {best['matmul_gigaflops']:.0f} GFLOP/s that a plain float32 matrix product reaches here."
    )


def run_one(name: str, batch_size: int) -> dict[str, float]:
    """Train one contender; returns its figures."""
    import torch
    from transformers import AutoTokenizer, set_seed

    from aigc_helpers.profile import choose_profile
    from aigc_helpers.text.classification import predict_logits
    from aigc_helpers.text.reviews import load_reviews
    from aigc_helpers.weights.install import install

    choose_profile("embedded")
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(install("bert"))
    model = _lora_bert()
    train, test = load_reviews("train").head(_SNIPPETS), load_reviews("test")
    token_ids = tokenizer(train["text"].tolist(), truncation=True)["input_ids"]
    trainer = _train_with_fit if name == "fit" else _train_with_trainer
    figures = trainer(model, tokenizer, token_ids, train["label"].astype(int).tolist(), batch_size)
    figures["peak_mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    predictions = predict_logits(model, tokenizer, test["text"].tolist()).argmax(dim=1)
    figures["accuracy"] = float((predictions == torch.tensor(test["label"].astype(int).tolist())).float().mean())
    return figures


def _lora_bert() -> Any:  # noqa: ANN401 - PEFT's models have no common public type
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from aigc_helpers.weights.install import install

    base = AutoModelForSequenceClassification.from_pretrained(install("bert"), num_labels=2)
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"])
    return get_peft_model(base, config)


def _train_with_fit(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    token_ids: list[list[int]],
    labels: list[int],
    batch_size: int,
) -> dict[str, float]:
    from torch.utils.flop_counter import FlopCounterMode

    from aigc_helpers.text.batches import LengthBatches
    from aigc_helpers.text.classification import classification_loss
    from aigc_helpers.training.fit import FitSettings, fit

    batches = LengthBatches(token_ids, labels, batch_size, tokenizer.pad_token_id)
    result = fit(model, batches, classification_loss, FitSettings(epochs=_EPOCHS, learning_rate=_LEARNING_RATE))
    model.train()
    floating_point_operations = 0
    for position in range(len(batches)):
        with FlopCounterMode(display=False) as counter:
            classification_loss(model, batches.batch(0, position)).backward()
        floating_point_operations += counter.get_total_flops()
    model.eval()
    return {
        "tokens_per_second": result.throughput,
        "gigaflops": floating_point_operations * _EPOCHS / result.training_seconds / 1e9,
        "matmul_gigaflops": _matmul_gigaflops(),
    }


def _train_with_trainer(
    model: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    token_ids: list[list[int]],
    labels: list[int],
    batch_size: int,
) -> dict[str, float]:
    from tempfile import TemporaryDirectory

    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    data = Dataset.from_dict({"input_ids": token_ids, "labels": labels})
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=_EPOCHS,
            learning_rate=_LEARNING_RATE,
            per_device_train_batch_size=batch_size,
            warmup_steps=0.1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=data, processing_class=tokenizer)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    return {"tokens_per_second": _EPOCHS * sum(map(len, token_ids)) / seconds}


def _matmul_gigaflops() -> float:
    """Measure the rate of a 2048 x 2048 float32 matrix product, the best of ten."""
    import torch

    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * 2048**3 / best / 1e9


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(run_one(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
