"""Builds ``data/poet``: a small GPT-2 that writes classical Chinese poems, one token per character."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed

from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.models.export import export, in_half_precision
from aigc_helpers.store import store_folder
from aigc_helpers.text import (
    MARKS,
    LengthBatches,
    load_poems,
    load_regular_shi,
    mean_loss,
    next_token_loss,
    poem_token_ids,
    run_on,
)
from aigc_helpers.training import FitResult, FitSettings, fit

logger = logging.getLogger(__name__)

POET_FOLDER = DATA / "poet"

CONTEXT = 96
LONGEST_POEM = CONTEXT - MARKS  # Characters.
# A character seen less often is <unk>: too rare to learn, and its row in the embedding would weigh as much as any.
LEAST_OCCURRENCES = 10
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}

LAYERS, WIDTH, HEADS = 4, 256, 4
BATCH_SIZE = 16
SETTINGS = FitSettings(
    epochs=1.25,
    learning_rate=1.5e-3,
    warmup=0.02,
    weight_decay=0.05,
    evaluate_every=500,
    checkpoint_every=100,
)
_VALIDATION_POEMS = 400  # Enough to follow the training; evaluate_poet() reads all of them.


def build_tokenizer(texts: Iterable[str], least_occurrences: int = LEAST_OCCURRENCES) -> PreTrainedTokenizerFast:
    """Build the tokenizer: one token per character, ``<bos>`` in front, white space dropped.

    Args:
        texts: what to count characters in. Those that occur often enough get a token, in the order of their code
            points; any other becomes ``<unk>``.
        least_occurrences: how often is often enough.
    """
    counts = Counter(character for text in texts for character in run_on(text))
    characters = sorted(character for character, count in counts.items() if count >= least_occurrences)
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS.values(), *characters])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    bos = SPECIAL_TOKENS["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        padding_side="left",  # Generation goes on at the right.
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> GPT2LMHeadModel:
    """Return the model with random weights: input and output embedding tied, no dropout."""
    set_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        # The function is GPT-2's own; under this name torch computes it in one pass, which halves its cost on a CPU.
        activation_function="gelu_pytorch_tanh",
        # With little more than one pass over the poems there is nothing to memorise.
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        loss_type="ForCausalLM",  # type: ignore[call-arg]  # One of its **kwargs.
    )
    return GPT2LMHeadModel(config)


def poem_batches(tokenizer: PreTrainedTokenizerFast, split: str, batch_size: int) -> LengthBatches:
    """Return the regular shi of a split, ``<bos>`` to ``<eos>``.

    One poem per row: the place of a character then tells where in its poem it stands, which is how so small a model
    learns to count the characters of a line.
    """
    token_ids = poem_token_ids(tokenizer, load_regular_shi(split, LONGEST_POEM)["text"])
    return LengthBatches(token_ids, None, batch_size, tokenizer.pad_token_id)


def build_poet(target: Path = POET_FOLDER, settings: FitSettings = SETTINGS) -> FitResult:
    """Train the poet and write its files into ``target``.

    Checkpoints and logs lie in the store under ``pretrain/poet``: stopped at any moment, the same call goes on and ends
    with the same weights. A GPU is used where there is one.

    Raises:
        ReaderError: the poems are missing or altered, or the checkpoints are those of another run.
    """
    tokenizer = build_tokenizer(_texts_to_count())
    model = build_model(tokenizer, settings.seed)
    validation = poem_batches(tokenizer, "validation", 40)
    parts = [validation.batch(0, position) for position in range(_VALIDATION_POEMS // 40)]

    def validate() -> dict[str, float]:
        figures = {"validation_loss": mean_loss(model, parts)}
        logger.info("validation loss %.4f nats per token", figures["validation_loss"])
        return figures

    training = poem_batches(tokenizer, "train", BATCH_SIZE)
    logger.info("%d parameters, vocabulary %d, %d batches", model.num_parameters(), len(tokenizer), len(training))
    folder = store_folder() / "pretrain" / "poet"
    result = fit(model, training, next_token_loss, settings, evaluate=validate, folder=folder)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.9,
        top_p=0.95,
        top_k=0,
        max_length=CONTEXT,
        # A poem has one beginning and no gaps: these are never written.
        suppress_tokens=[tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    export(target, in_half_precision(model), tokenizer)
    return result


def _texts_to_count() -> list[str]:
    """Return the texts whose characters make the vocabulary: all that base and adapters train on."""
    return [*load_regular_shi("train", LONGEST_POEM)["text"], *load_poems("ci", "train")["text"]]
