"""Rank, alpha, learning rate and target modules against each other: the grid that chapter 04's panel shows.

Judged on validation snippets: choosing among settings is what these are for.
"""

from __future__ import annotations

from itertools import product

from peft import LoraConfig, TaskType, get_peft_model

from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.experiments.film_task import (
    EPOCHS,
    VALIDATION_SNIPPETS,
    count_trainable,
    film_batches,
    new_bert,
    optimizer_with_head,
    right_answers,
    train,
)
from aigc_helpers.profile import choose_profile
from aigc_helpers.training import FitSettings, Row, run_sweep

SWEEP_FILE = DATA / "results" / "lora_sweep.jsonl"

RANKS = (2, 8, 32)
ALPHAS = (4, 16, 64)
LEARNING_RATES = (5e-4, 2e-3, 8e-3)
TARGETS = ("query, value", "all-linear")
SEED = 0


def train_setting(targets: str, rank: int, alpha: int, learning_rate: float, snippets: int | None = None) -> Row:
    """Train LoRA with these settings and return its validation accuracy, trained numbers and CPU seconds.

    Args:
        targets: module names joined by commas, or ``"all-linear"``.
        rank: the inner dimension r.
        alpha: the numerator of the scaling alpha / r.
        learning_rate: the peak.
        snippets: the first so many training snippets; None takes the task's 512.
    """
    choose_profile("embedded")
    modules = targets if targets == "all-linear" else targets.split(", ")
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=alpha,
        target_modules=modules,
        exclude_modules=r".*pooler.*",  # Part of the head, which is trained as it is.
    )
    model = get_peft_model(new_bert(SEED), config)
    batches = film_batches(SEED, *([] if snippets is None else [snippets]))
    seconds = train(model, batches, FitSettings(EPOCHS, learning_rate, seed=SEED), optimizer_with_head)
    right = right_answers(model, "validation", VALIDATION_SNIPPETS)
    return {
        "accuracy": sum(right) / len(right),
        "trainable_parameters": count_trainable(model),
        "cpu_seconds": seconds,
    }


def build_lora_sweep() -> str:
    """Run what data/results lacks of the grid; returns a closing line."""
    grid = product(TARGETS, RANKS, ALPHAS, LEARNING_RATES)
    names = ("targets", "rank", "alpha", "learning_rate")
    rows = run_sweep(SWEEP_FILE, [dict(zip(names, values, strict=True)) for values in grid], train_setting)
    return f"{SWEEP_FILE}: {len(rows)} runs"
