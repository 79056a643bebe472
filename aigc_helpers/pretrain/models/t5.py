"""Builds ``data/t5``: a small T5 that translates dates, numbers, times and quantities, English to Chinese and back."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import GenerationConfig, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, set_seed

from aigc_helpers.paths import DATA
from aigc_helpers.pretrain.models.export import export, in_half_precision
from aigc_helpers.store import store_folder
from aigc_helpers.text import Example, TextBatch, TranslationBatches, draw_pairs, to_examples
from aigc_helpers.training import FitResult, FitSettings, fit

logger = logging.getLogger(__name__)

T5_FOLDER = DATA / "t5"

# As T5 has them, padding first: the decoder starts from it.
SPECIAL_TOKENS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
LONGEST = 64  # Tokens to write at most.

WIDTH, HEAD_WIDTH, HEADS, FEED_FORWARD = 128, 32, 4, 256
# Reading is the harder half, and what the decoder costs is paid once for every token written.
ENCODER_LAYERS, DECODER_LAYERS = 4, 2
PAIRS = {"number": 12_000, "date": 20_000, "time": 2_000, "quantity": 30_000}
BATCH_SIZE = 64
SETTINGS = FitSettings(
    epochs=5,
    learning_rate=1e-3,
    warmup=0.05,
    evaluate_every=250,
    checkpoint_every=200,
)
_VALIDATION_PAIRS = 400

# A word with the space before it, the rest of a hyphenated word, or one character of anything else.
_PIECE = re.compile(r"▁[A-Za-z.':]+|-[a-z]+|.")


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Build the tokenizer: whole English words, single digits, single Chinese characters, ``</s>`` at the end.

    It is SentencePiece's unigram model (Kudo 2018), as T5 uses it, with a vocabulary that needs no search: all pieces
    weigh the same, so a text is cut into as few as possible.

    Args:
        texts: what to find the pieces in.
    """
    pieces = sorted({piece for text in texts for piece in _PIECE.findall("▁" + text.replace(" ", "▁"))} | {"▁"})
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS.values()] + [(piece, -1.0) for piece in pieces]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    eos = SPECIAL_TOKENS["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {eos}", special_tokens=[(eos, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> T5ForConditionalGeneration:
    """Return the model with random weights: one table for encoder, decoder and output, no dropout."""
    set_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=WIDTH,
        d_kv=HEAD_WIDTH,
        num_heads=HEADS,
        d_ff=FEED_FORWARD,
        num_layers=ENCODER_LAYERS,
        num_decoder_layers=DECODER_LAYERS,
        relative_attention_max_distance=64,
        dropout_rate=0.0,  # The grammar has no noise to be memorised.
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,  # type: ignore[call-arg]  # One of its **kwargs.
    )
    return T5ForConditionalGeneration(config)


def old_domain(split: str, pairs: dict[str, int]) -> list[Example]:
    """Return the examples of a split, in both directions, with so many pairs of each part of the old domain."""
    return to_examples([pair for part, count in pairs.items() for pair in draw_pairs(part, split, count)])


def translation_loss(model: torch.nn.Module, batch: TextBatch) -> torch.Tensor:
    """Return the mean cross-entropy of the next token of the translation, given those before it, in nats."""
    return model(**batch).loss


def build_t5(target: Path = T5_FOLDER, settings: FitSettings = SETTINGS, pairs: dict[str, int] = PAIRS) -> FitResult:
    """Train the model on the grammar's old domain and write its files into ``target``.

    Checkpoints and logs lie in the store under ``pretrain/t5``: stopped at any moment, the same call goes on and ends
    with the same weights. A GPU is used where there is one.

    Args:
        target: the folder.
        settings: how to train.
        pairs: how many training pairs of each part of the domain.

    Raises:
        ReaderError: the checkpoints are those of another run.
    """
    examples = old_domain("train", pairs)
    tokenizer = build_tokenizer(text for example in examples for text in example[:2])
    model = build_model(tokenizer, settings.seed)
    validation = TranslationBatches(tokenizer, to_examples(draw_pairs("old", "validation", _VALIDATION_PAIRS)), 100)
    parts = [validation.batch(0, position) for position in range(len(validation))]

    def validate() -> dict[str, float]:
        device = next(model.parameters()).device
        losses = [translation_loss(model, {name: each.to(device) for name, each in part.items()}) for part in parts]
        figures = {"validation_loss": torch.stack(losses).mean().item()}
        logger.info("validation loss %.4f nats per token", figures["validation_loss"])
        return figures

    training = TranslationBatches(tokenizer, examples, BATCH_SIZE)
    logger.info("%d parameters, vocabulary %d, %d batches", model.num_parameters(), len(tokenizer), len(training))
    result = fit(
        model, training, translation_loss, settings, evaluate=validate, folder=store_folder() / "pretrain" / "t5"
    )
    model.generation_config = GenerationConfig(
        max_new_tokens=LONGEST,
        decoder_start_token_id=tokenizer.pad_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    export(target, in_half_precision(model), tokenizer)
    return result
