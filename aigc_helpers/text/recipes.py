"""LoRA adapters for text models: film reviews on BERT as in chapter 05, and one tune of ci on the poet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase, set_seed

from aigc_helpers.arguments import check_rank
from aigc_helpers.errors import UnknownNameError
from aigc_helpers.files import replacing_files
from aigc_helpers.inspection import ADAPTER_CONFIG
from aigc_helpers.lora import drop_null_settings
from aigc_helpers.profile import current_profile
from aigc_helpers.store import install_asset
from aigc_helpers.text.batches import LengthBatches
from aigc_helpers.text.classification import classification_loss
from aigc_helpers.text.generate import load_poet
from aigc_helpers.text.language_modelling import next_token_loss
from aigc_helpers.text.poems import MARKS, load_poems, poem_token_ids, run_on
from aigc_helpers.text.recipe_settings import REVIEWS, TUNE
from aigc_helpers.text.reviews import LABEL_NAMES, load_reviews
from aigc_helpers.training import FitResult, FitSettings, fit

if TYPE_CHECKING:
    import pandas
    from peft import PeftModel

REVIEW_SNIPPETS = 2000

_REVIEW_BASES = {"embedded": "all-MiniLM-L6-v2", "full": "bert-base-uncased"}


class TrainedAdapter(NamedTuple):
    """What a training returns.

    Attributes:
        model: the base with its adapter.
        tokenizer: the base's.
        result: what ``fit`` did.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    result: FitResult


def train_review_adapter(
    rank: int = REVIEWS.rank,
    epochs: float = REVIEWS.epochs,
    learning_rate: float | None = None,
    seed: int = 0,
    snippets: int | None = REVIEW_SNIPPETS,
    *,
    checkpoints: Path | None = None,
) -> TrainedAdapter:
    """Train BERT to tell praise from blame in film reviews, with the settings of chapter 05.

    Args:
        rank: of LoRA on ``query`` and ``value``; alpha is twice the rank.
        epochs: passes over the snippets.
        learning_rate: None takes the chapter's for the profile in force.
        seed: for the head, the adapter and the order of the snippets.
        snippets: the first so many of the training split; None takes all.
        checkpoints: the folder for ``fit``'s checkpoints, from which an interrupted run goes on.

    Raises:
        ReaderError: a setting makes no sense, or the checkpoints are those of another run.

    Example:
        >>> trained = train_review_adapter(snippets=32, epochs=1)
        >>> trained.result.steps, sorted(trained.model.peft_config["default"].target_modules)
        (1, ['query', 'value'])
    """
    profile = current_profile().name
    learning_rate = REVIEWS.learning_rates[profile] if learning_rate is None else learning_rate
    settings = _settings(rank, epochs, learning_rate, seed)
    train = load_reviews("train").head(snippets)  # Before the model, which may be a long download.
    set_seed(seed)
    path = install_asset("bert")
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    names = dict(enumerate(LABEL_NAMES))
    base = AutoModelForSequenceClassification.from_pretrained(
        path,
        id2label=names,
        label2id={name: number for number, name in names.items()},
        use_safetensors=True,
        trust_remote_code=False,
    )
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=rank, lora_alpha=2 * rank, target_modules=list(REVIEWS.layers))
    model = get_peft_model(base, config)
    token_ids = tokenizer(train["text"].tolist(), truncation=True)["input_ids"]
    labels = train["label"].astype(int).tolist()
    batches = LengthBatches(token_ids, labels, REVIEWS.batch_size, tokenizer.pad_token_id, seed)
    result = fit(model, batches, classification_loss, settings, folder=checkpoints)
    # The base is named as the world knows it: a path would be this machine's own.
    model.peft_config["default"].base_model_name_or_path = _REVIEW_BASES[profile]
    return TrainedAdapter(model, tokenizer, result)


def train_tune_adapter(
    tune: str,
    rank: int = TUNE.rank,
    epochs: float = TUNE.epochs,
    learning_rate: float | None = None,
    seed: int = 0,
    *,
    checkpoints: Path | None = None,
    folder: Path | None = None,
) -> TrainedAdapter:
    """Train the poet to write ci of one tune; shi is all its base has seen.

    Args:
        tune: such as ``浣溪沙``.
        rank: of LoRA on ``c_attn``, which makes query, key and value of GPT-2 at once; alpha is twice the rank.
        epochs: passes over the tune's regular poems of the training split.
        learning_rate: the peak; None takes the recipe's for the profile in force.
        seed: for the adapter and the order of the poems.
        checkpoints: the folder for ``fit``'s checkpoints, from which an interrupted run goes on.
        folder: the poet's folder; None takes the one of the catalog.

    Raises:
        UnknownNameError: there is no such tune, or its poems are longer than the poet's context.
        ReaderError: a setting makes no sense, or the checkpoints are those of another run.

    Example:
        >>> trained = train_tune_adapter("生查子", rank=4, epochs=0.1)
        >>> trained.model.peft_config["default"].r
        4
    """
    learning_rate = TUNE.learning_rates[current_profile().name] if learning_rate is None else learning_rate
    settings = _settings(rank, epochs, learning_rate, seed)
    tokenizer, base = load_poet(folder)
    poems = _regular_ci(tune, base.config.n_positions - MARKS)
    set_seed(seed)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(TUNE.layers),
        fan_in_fan_out=True,  # GPT-2's Conv1D keeps its weight transposed.
    )
    model = get_peft_model(base, config)
    batches = LengthBatches(
        poem_token_ids(tokenizer, poems["text"]), None, TUNE.batch_size, tokenizer.pad_token_id, seed
    )
    result = fit(model, batches, next_token_loss, settings, folder=checkpoints)
    model.peft_config["default"].base_model_name_or_path = "poet"
    return TrainedAdapter(model, tokenizer, result)


def tune_line_lengths(tune: str) -> str:
    """Return the characters per line of a tune, such as ``"7-7-7-7-7-7"`` for 浣溪沙.

    Raises:
        UnknownNameError: there is no such tune.

    Example:
        >>> tune_line_lengths("浣溪沙")
        '7-7-7-7-7-7'
    """
    return str(_regular_ci(tune)["line_lengths"].iloc[0])


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter's configuration and weights into ``folder``, each whole or not at all.

    Raises:
        ReaderError: the disk is full or the folder is not writable; what was there stays.

    Example:
        >>> from pathlib import Path
        >>> from peft import LoraConfig, get_peft_model
        >>> from aigc_helpers.text import load_poet
        >>> model = get_peft_model(load_poet()[1], LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True))
        >>> save_adapter(model, Path("adapter"))
        >>> sorted(path.name for path in Path("adapter").iterdir())
        ['adapter_config.json', 'adapter_model.safetensors']
    """
    with replacing_files(folder) as temporary:
        # PEFT would ask the hub whether the base has gained tokens; none of these adapters adds any.
        model.save_pretrained(str(temporary), save_embedding_layers=False)
        (temporary / "README.md").unlink()  # PEFT's card is a form not filled in.
        config = temporary / ADAPTER_CONFIG
        settings = drop_null_settings(json.loads(config.read_text(encoding="utf-8")))
        config.write_text(json.dumps(settings, indent=2, sort_keys=True), encoding="utf-8")  # laid out as PEFT does


def _regular_ci(tune: str, longest: int | None = None) -> pandas.DataFrame:
    table = load_poems("ci", "train")
    table = table[table["regular"]]
    if longest is not None:
        table = table[table["text"].map(lambda text: len(run_on(text))) <= longest]
    if tune not in set(table["form"]):
        raise UnknownNameError("tune", tune, table["form"].value_counts().index)
    return table[table["form"] == tune]


def _settings(rank: int, epochs: float, learning_rate: float, seed: int) -> FitSettings:
    """Return how to train, checked before a model is loaded or downloaded."""
    check_rank(rank)
    return FitSettings(epochs=epochs, learning_rate=learning_rate, seed=seed)
