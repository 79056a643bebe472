"""Builds what chapters 00 and 05 read instead of training it: an adapter for film reviews, and a rank sweep.

Both train as chapter 05 does: LoRA on query and value of BERT, judged on the same 1,000 test snippets of films.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from aigc_helpers.metrics import accuracy_interval
from aigc_helpers.paths import DATA
from aigc_helpers.profile import choose_profile
from aigc_helpers.text import REVIEW_SNIPPETS, load_reviews, predict_classes, save_adapter, train_review_adapter
from aigc_helpers.training import run_sweep

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FOLDER = DATA / "film_adapter"
SWEEP_FILE = DATA / "results" / "film_rank_sweep.jsonl"

RANKS = (1, 2, 4, 8, 16, 32)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class SweepRow:
    """One run of the sweep: what was set, what came out."""

    rank: int
    seed: int
    trainable_parameters: int
    adapter_bytes: int
    accuracy: float
    training_seconds: float


def train_film_adapter(rank: int, seed: int, snippets: int | None) -> tuple[PeftModel, SweepRow]:
    """Train LoRA of ``rank`` on the first ``snippets`` training snippets (None: all); alpha is twice the rank."""
    choose_profile("embedded")
    model, tokenizer, result = train_review_adapter(rank=rank, seed=seed, snippets=snippets)
    test = load_reviews("test")
    predictions = predict_classes(model, tokenizer, test["text"].tolist())
    with TemporaryDirectory() as folder:
        save_adapter(model, Path(folder))
        adapter_bytes = (Path(folder) / "adapter_model.safetensors").stat().st_size
    row = SweepRow(
        rank=rank,
        seed=seed,
        trainable_parameters=model.get_nb_trainable_parameters()[0],
        adapter_bytes=adapter_bytes,
        accuracy=accuracy_interval(predictions, test["label"].astype(int).tolist()).mean,
        training_seconds=round(result.training_seconds, 1),
    )
    return model, row


def build_film_adapter() -> str:
    """Train on all film snippets and save the adapter to data/film_adapter; returns a line with its figures."""
    model, row = train_film_adapter(rank=8, seed=0, snippets=None)
    save_adapter(model, ADAPTER_FOLDER)
    return f"{ADAPTER_FOLDER}: test accuracy {row.accuracy:.3f}, {row.adapter_bytes:,} bytes"


def build_film_rank_sweep() -> str:
    """Run the ranks and seeds that data/results lacks, appending a line after each; returns a closing line."""
    jobs = [{"rank": rank, "seed": seed} for rank in RANKS for seed in SEEDS]
    rows = run_sweep(SWEEP_FILE, jobs, lambda rank, seed: asdict(train_film_adapter(rank, seed, REVIEW_SNIPPETS)[1]))
    return f"{SWEEP_FILE}: {len(rows)} runs"
