"""Builds what chapters 00 and 05 read instead of training it: an adapter for film reviews, and a rank sweep.

Both train as chapter 05 does: LoRA on query and value of BERT, judged on the same 1,000 test snippets of films.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

from aigc_helpers.evaluation.intervals import accuracy_interval
from aigc_helpers.files import replacing
from aigc_helpers.paths import DATA
from aigc_helpers.profile import choose_profile
from aigc_helpers.text.batches import LengthBatches
from aigc_helpers.text.classification import classification_loss, predict_classes
from aigc_helpers.text.reviews import LABEL_NAMES, load_reviews
from aigc_helpers.training.fit import FitSettings, fit
from aigc_helpers.training.log import read_log
from aigc_helpers.weights.install import install

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FOLDER = DATA / "film_adapter"
SWEEP_FILE = DATA / "results" / "film_rank_sweep.jsonl"

RANKS = (1, 2, 4, 8, 16, 32)
SEEDS = (0, 1, 2)
_SWEEP_SNIPPETS = 2000
_EPOCHS = 2
_BATCH_SIZE = 32
_LEARNING_RATE = 2e-3


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
    set_seed(seed)
    path = install("bert", "embedded")
    tokenizer = AutoTokenizer.from_pretrained(path)
    names = dict(enumerate(LABEL_NAMES))
    base = AutoModelForSequenceClassification.from_pretrained(
        path, id2label=names, label2id={name: number for number, name in names.items()}
    )
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=2 * rank, target_modules=["query", "value"])
    model = get_peft_model(base, config)
    train, test = load_reviews("train").head(snippets), load_reviews("test")
    token_ids = tokenizer(train["text"].tolist(), truncation=True)["input_ids"]
    batches = LengthBatches(token_ids, train["label"].astype(int).tolist(), _BATCH_SIZE, tokenizer.pad_token_id, seed)
    settings = FitSettings(epochs=_EPOCHS, learning_rate=_LEARNING_RATE, seed=seed)
    result = fit(model, batches, classification_loss, settings)
    predictions = predict_classes(model, tokenizer, test["text"].tolist())
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
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
    with TemporaryDirectory() as folder:
        # The base is named by its catalog entry: a path would be this machine's own.
        model.peft_config["default"].base_model_name_or_path = "all-MiniLM-L6-v2"
        model.save_pretrained(folder)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            with replacing(ADAPTER_FOLDER / name) as temporary:
                temporary.write_bytes((Path(folder) / name).read_bytes())
    return f"{ADAPTER_FOLDER}: test accuracy {row.accuracy:.3f}, {row.adapter_bytes:,} bytes"


def build_rank_sweep() -> str:
    """Run the ranks and seeds that data/results lacks, appending a line after each; returns a closing line."""
    SWEEP_FILE.parent.mkdir(parents=True, exist_ok=True)
    done = {(row["rank"], row["seed"]) for row in read_log(SWEEP_FILE)} if SWEEP_FILE.exists() else set()
    for rank in RANKS:
        for seed in SEEDS:
            if (rank, seed) in done:
                continue
            _, row = train_film_adapter(rank, seed, _SWEEP_SNIPPETS)
            with SWEEP_FILE.open("a", encoding="utf-8", newline="\n") as opened:
                opened.write(json.dumps(asdict(row)) + "\n")
            print(row, flush=True)
    return f"{SWEEP_FILE}: {len(RANKS) * len(SEEDS)} runs"
