"""LoRA and its variants on one task with the same steps: the table of chapter 04.

Each method first gets its learning rate, from a small grid and judged on validation snippets; then it is trained with
three other seeds and judged on the test snippets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from peft.optimizers import create_loraplus_optimizer

from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.experiments.film_task import (
    EPOCHS,
    VALIDATION_SNIPPETS,
    count_trainable,
    film_batches,
    memory_of_a_step,
    new_bert,
    optimizer_with_head,
    right_answers,
    train,
)
from aigc_helpers.profile import choose_profile
from aigc_helpers.quiet import quiet
from aigc_helpers.training import FitSettings, MakeOptimizer, Row, adamw, run_sweep

VARIANTS_FILE = DATA / "results" / "lora_variants.jsonl"
SEEDS = (0, 1, 2)
SEARCH_SEED = 3

RANK, ALPHA, TARGETS = 8, 16, ["query", "value"]
LORAPLUS_RATIO = 16  # B's learning rate over A's, as the paper proposes (Hayou et al. 2024).
VIRTUAL_TOKENS = 20
NF4_BLOCK = 64  # Weights that share a scale (Dettmers et al. 2023).


def nf4_levels() -> torch.Tensor:
    """Return the 16 values of NF4 from −1 to 1, shape (16,): quantiles of a normal, with an exact zero.

    Source: QLoRA (Dettmers et al. 2023), section 3; the outermost quantile as in bitsandbytes.
    """
    outermost = 0.9677083
    above = torch.special.ndtri(torch.linspace(outermost, 0.5, 9, dtype=torch.float64)[:-1])
    below = -torch.special.ndtri(torch.linspace(outermost, 0.5, 8, dtype=torch.float64)[:-1])
    levels = torch.cat([below, torch.zeros(1, dtype=torch.float64), above]).sort().values
    return (levels / levels.abs().max()).float()


def nf4_round_trip(weight: torch.Tensor) -> torch.Tensor:
    """Return ``weight`` as it comes back from 4-bit NF4: nearest level times the largest magnitude of its block.

    Args:
        weight: any shape whose number of elements is a multiple of 64.
    """
    blocks = weight.reshape(-1, NF4_BLOCK)
    scales = blocks.abs().amax(dim=1, keepdim=True)
    levels = nf4_levels()
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks / scales, middles)
    return (levels[codes] * scales).reshape(weight.shape)


def _lora(model: torch.nn.Module, **more: Any) -> torch.nn.Module:  # noqa: ANN401 - LoraConfig's own arguments
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, **more)
    return get_peft_model(model, config)


def _prompt_tuning(model: torch.nn.Module) -> torch.nn.Module:
    config = PromptTuningConfig(
        task_type=TaskType.SEQ_CLS, num_virtual_tokens=VIRTUAL_TOKENS, prompt_tuning_init="SAMPLE_VOCAB"
    )
    return get_peft_model(model, config)


def _bitfit(model: torch.nn.Module) -> torch.nn.Module:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith(".bias")
    return model


def _qlora(model: torch.nn.Module) -> torch.nn.Module:
    for weight in _quantised_weights(model):
        weight.data = nf4_round_trip(weight.data)
    return _lora(model)


def _quantised_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return the weight matrices of the encoder's linear layers; embeddings and heads stay whole, as in QLoRA."""
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "encoder" in name and "lora_" not in name
    ]


def _loraplus(model: torch.nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    return create_loraplus_optimizer(
        model=model,  # type: ignore[arg-type]  # It asks for a PeftModel, and looks at parameters alone.
        optimizer_cls=torch.optim.AdamW,
        lr=settings.learning_rate,
        loraplus_lr_ratio=LORAPLUS_RATIO,
        weight_decay=settings.weight_decay,
    )


@dataclass(frozen=True)
class Method:
    """One way to fine-tune.

    Attributes:
        prepare: freezes and adds what the method needs; the head is unfrozen afterwards, for all alike.
        learning_rates: those tried on validation snippets.
        optimizer: as ``fit`` takes it.
    """

    prepare: Callable[[torch.nn.Module], torch.nn.Module]
    learning_rates: Sequence[float]
    optimizer: MakeOptimizer = adamw


_LORA_RATES = (1e-3, 3e-3, 1e-2)
METHODS = {
    "full": Method(lambda model: model, (5e-5, 1.5e-4, 5e-4)),
    "BitFit": Method(_bitfit, (3e-4, 1e-3, 3e-3)),
    "prompt tuning": Method(_prompt_tuning, (3e-3, 1e-2, 3e-2)),
    "LoRA": Method(_lora, _LORA_RATES),
    "rsLoRA": Method(lambda model: _lora(model, use_rslora=True), _LORA_RATES),
    "LoRA+": Method(_lora, (2e-4, 6e-4, 2e-3), _loraplus),
    "DoRA": Method(lambda model: _lora(model, use_dora=True), _LORA_RATES),
    "PiSSA": Method(lambda model: _lora(model, init_lora_weights="pissa"), (3e-4, 1e-3, 3e-3)),
    "QLoRA": Method(_qlora, _LORA_RATES),
}


def train_variant(
    method: str, learning_rate: float, seed: int, snippets: int | None = None
) -> tuple[torch.nn.Module, Row]:
    """Train one method and return the model, and what it took in memory, numbers and CPU seconds.

    Args:
        method: a name out of ``METHODS``.
        learning_rate: the peak.
        seed: for the head, the adapter, the order of the snippets and dropout.
        snippets: the first so many training snippets; None takes the task's 512.
    """
    choose_profile("embedded")
    chosen = METHODS[method]
    batches = film_batches(seed, *([] if snippets is None else [snippets]))
    settings = FitSettings(EPOCHS, learning_rate, seed=seed)
    make_optimizer = partial(optimizer_with_head, optimizer=chosen.optimizer)
    with quiet("transformers"):
        measured = chosen.prepare(new_bert(seed))  # A step of its own, so that the training starts undisturbed.
        batch = film_batches(0, batch_size=16).batch(0, 0)
        memory = memory_of_a_step(measured, make_optimizer(measured, settings), batch)
        model = chosen.prepare(new_bert(seed))
    if method == "QLoRA":  # Computed with 4-bit values that are kept in 32 bits here; counted as a 4-bit store would.
        numbers = sum(weight.numel() for weight in _quantised_weights(model))
        memory["weight_bytes"] -= 4 * numbers - numbers // 2 - 4 * numbers // NF4_BLOCK
    seconds = train(model, batches, settings, make_optimizer)
    return model, {"trainable_parameters": count_trainable(model), **memory, "cpu_seconds": seconds}


def _search(method: str, learning_rate: float, seed: int, split: str) -> Row:
    model, row = train_variant(method, learning_rate, seed)
    right = right_answers(model, split, VALIDATION_SNIPPETS)
    return {"accuracy": sum(right) / len(right), "cpu_seconds": row["cpu_seconds"]}


def _judge(method: str, learning_rate: float, seed: int, split: str) -> Row:
    model, row = train_variant(method, learning_rate, seed)
    right = right_answers(model, split)
    return {"accuracy": sum(right) / len(right), **row, "right": "".join(map(str, right))}


def build_lora_variants() -> str:
    """Run what data/results lacks of the search and of the table; returns a closing line."""
    rates = {}
    for name, method in METHODS.items():
        tried = [
            {"split": "validation", "method": name, "learning_rate": rate, "seed": SEARCH_SEED}
            for rate in method.learning_rates
        ]
        rates[name] = best_rate(run_sweep(VARIANTS_FILE, tried, _search))
    table = [
        {"split": "test", "method": name, "learning_rate": rates[name], "seed": seed}
        for seed in SEEDS
        for name in METHODS
    ]
    rows = run_sweep(VARIANTS_FILE, table, _judge)
    return f"{VARIANTS_FILE}: {len(rows)} runs with the learning rates {rates}"


def best_rate(rows: Sequence[Row]) -> float:
    """Return the learning rate of the highest accuracy; of equal ones the lowest."""
    return max(sorted(rows, key=lambda row: row["learning_rate"]), key=lambda row: row["accuracy"])["learning_rate"]
