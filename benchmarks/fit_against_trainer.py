"""fit() beside transformers.Trainer on chapter 05's task: tokens per second, accuracy, peak memory.

Run with:  python benchmarks/fit_against_trainer.py

Each contender trains in a process of its own, so that its peak memory is its own, and the pair is run twice in
alternation, so that a busy machine disturbs both alike. "Tokens" are real ones: padding is work, but no result.
Trainer runs with its defaults: batches of 8 in random order, padded to the longest of the batch. fit() runs with the
same batch size, and both run once more with 32, the size that the chapter uses.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

_BATCH_SIZES = (8, 32)  # Trainer's default, and the chapter's.
_LOOPS = ("fit", "trainer")
_ROUNDS = 2
_EPOCHS = 2
_LEARNING_RATE = 2e-3
_SNIPPETS = 2000


def main() -> None:
    """Run every contender, print a table."""
    contenders = [(loop, batch_size) for batch_size in _BATCH_SIZES for loop in _LOOPS]
    rows: dict[tuple[str, int], list[dict[str, float]]] = {contender: [] for contender in contenders}
    for _ in range(_ROUNDS):
        for loop, batch_size in contenders:
            command = [sys.executable, __file__, loop, str(batch_size)]
            finished = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[loop, batch_size].append(json.loads(finished.stdout.splitlines()[-1]))
            print(loop, batch_size, rows[loop, batch_size][-1], file=sys.stderr)
    # The faster of the rounds: what disturbs a run only ever makes it slower.
    best = {contender: max(runs, key=lambda run: run["tokens_per_second"]) for contender, runs in rows.items()}
    print(f"{'loop':8} {'batch':>5} {'tokens/s':>9} {'accuracy':>9} {'peak MiB':>9}")
    for (loop, batch_size), run in best.items():
        figures = f"{run['tokens_per_second']:9.0f} {run['accuracy']:9.3f} {run['peak_mebibytes']:9.0f}"
        print(f"{loop:8} {batch_size:5} {figures}")
    defaults = best["trainer", _BATCH_SIZES[0]]["tokens_per_second"]
    for batch_size in _BATCH_SIZES:
        ours, theirs = (best[loop, batch_size]["tokens_per_second"] for loop in _LOOPS)
        print(
            f"fit, batch {batch_size}: {ours / theirs:.2f} × Trainer at this size, {ours / defaults:.2f} × its defaults"
        )
    run = best["fit", _BATCH_SIZES[-1]]
    print(
        f"fit() computes {run['gigaflops']:.0f} GFLOP/s, which is {run['gigaflops'] / run['matmul_gigaflops']:.0%} "
        f"of the {run['matmul_gigaflops']:.0f} GFLOP/s that a plain float32 matrix product reaches here."
    )


def run_one(name: str, batch_size: int) -> dict[str, float]:
    """Train one contender; returns its figures."""
    import torch
    from transformers import AutoTokenizer, set_seed

    from aigc_helpers.profile import choose_profile
    from aigc_helpers.store import install_asset
    from aigc_helpers.text import load_reviews, predict_logits

    choose_profile("embedded")
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(install_asset("bert"))
    model = _lora_bert()
    train, test = load_reviews("train").head(_SNIPPETS), load_reviews("test")
    token_ids = tokenizer(train["text"].tolist(), truncation=True)["input_ids"]
    trainer = _train_with_fit if name == "fit" else _train_with_trainer
    figures = trainer(model, tokenizer, token_ids, train["label"].astype(int).tolist(), batch_size)
    predictions = predict_logits(model, tokenizer, test["text"].tolist()).argmax(dim=1)
    figures["accuracy"] = float((predictions == torch.tensor(test["label"].astype(int).tolist())).float().mean())
    return figures


def _lora_bert() -> Any:  # noqa: ANN401 - PEFT's models have no common public type
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from aigc_helpers.store import install_asset

    base = AutoModelForSequenceClassification.from_pretrained(install_asset("bert"), num_labels=2)
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

    from aigc_helpers.text import LengthBatches, classification_loss
    from aigc_helpers.training import FitSettings, fit

    batches = LengthBatches(token_ids, labels, batch_size, tokenizer.pad_token_id)
    result = fit(model, batches, classification_loss, FitSettings(epochs=_EPOCHS, learning_rate=_LEARNING_RATE))
    peak = _peak_mebibytes()  # Before the counting below, which is no part of training.
    model.train()
    floating_point_operations = 0
    for position in range(len(batches)):
        with FlopCounterMode(display=False) as counter:
            classification_loss(model, batches.batch(0, position)).backward()
        floating_point_operations += counter.get_total_flops()
    model.eval()
    return {
        "tokens_per_second": result.throughput,
        "peak_mebibytes": peak,
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
    return {"tokens_per_second": _EPOCHS * sum(map(len, token_ids)) / seconds, "peak_mebibytes": _peak_mebibytes()}


def _peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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
