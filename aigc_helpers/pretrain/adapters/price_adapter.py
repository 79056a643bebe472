"""Builds data/price_adapter: a LoRA that teaches data/t5 prices in capital numerals, as chapter 07 makes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, TaskType, get_peft_model
from transformers import set_seed

from aigc_helpers.evaluation import evaluate_translator
from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.models.export import export
from aigc_helpers.pretrain.models.t5 import translation_loss
from aigc_helpers.profile import choose_profile
from aigc_helpers.quiet import quiet
from aigc_helpers.text import (
    CAPITAL_DIGITS,
    CAPITAL_TENS,
    EVERYDAY_DIGITS,
    EVERYDAY_TENS,
    TranslationBatches,
    draw_pairs,
    load_translator,
    save_adapter,
    to_examples,
)
from aigc_helpers.training import FitSettings, fit

ADAPTER_FOLDER = DATA / "price_adapter"

# What the tokenizer lacks (零 and 分 it has), and where a new row starts: as that of its everyday relative, or of
# what stands in its place in a time. Near the mean, where all rows are alike, training takes many times as long.
_CAPITALS, _EVERYDAY = CAPITAL_DIGITS[1:] + CAPITAL_TENS, EVERYDAY_DIGITS[1:] + EVERYDAY_TENS
RELATIVES = {
    "yuan": "▁hours",
    "fen": "▁minutes",
    **dict(zip(_CAPITALS, _EVERYDAY, strict=True)),
    "元": "点",
    "角": "刻",
    "整": "半",
}
RANK = 4
TARGET_MODULES = ["q", "v", "wi", "wo"]
PRICES, OLD_PAIRS = 4000, 4000  # Without the old ones the base's own domain is lost.
BATCH_SIZE = 32
SETTINGS = FitSettings(epochs=3, learning_rate=5e-3)


def build_price_adapter(target: Path = ADAPTER_FOLDER, settings: FitSettings = SETTINGS) -> str:
    """Train on prices, with old pairs among them, and save adapter and tokenizer; returns a line with its figures."""
    choose_profile("embedded")
    tokenizer, base = load_translator()
    set_seed(settings.seed)
    tokenizer.add_tokens(list(RELATIVES))
    with quiet("transformers"):
        base.resize_token_embeddings(len(tokenizer))
    rows = base.get_input_embeddings().get_parameter("weight").data
    numbers = tokenizer.get_vocab()
    for token, relative in RELATIVES.items():
        rows[numbers[token]] = rows[numbers[relative]]
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=TARGET_MODULES,
        trainable_token_indices={"shared": [numbers[token] for token in RELATIVES]},
    )
    model = get_peft_model(base, config)
    pairs = [*draw_pairs("price", "train", PRICES), *draw_pairs("old", "train", OLD_PAIRS)]
    result = fit(model, TranslationBatches(tokenizer, to_examples(pairs), BATCH_SIZE), translation_loss, settings)
    # The base is named as the world knows it: a path would be this machine's own.
    model.peft_config["default"].base_model_name_or_path = "t5"
    save_adapter(model, target)
    export(target, tokenizer)
    translator: Any = model.eval()  # PEFT hands on whatever the model itself is asked for.
    figures = evaluate_translator(translator, tokenizer, 200)["price"]
    scores = ", ".join(f"BLEU into {language} {row['bleu']['mean']:.1f}" for language, row in figures.items())
    size = sum(path.stat().st_size for path in target.iterdir() if path.name != "README.md")
    return f"{target}: {result}; {scores}; {size:,} bytes"
