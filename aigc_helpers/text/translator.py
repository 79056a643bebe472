"""Translations from an encoder-decoder such as data/t5, with or without a LoRA adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from aigc_helpers.errors import ReaderError, UnknownNameError, first_line
from aigc_helpers.lora import MissingRowsError, load_adapter
from aigc_helpers.profile import current_profile
from aigc_helpers.quiet import quiet
from aigc_helpers.store import install_asset
from aigc_helpers.text.batches import pad_batch
from aigc_helpers.text.translation import PREFIXES

_BATCH_SIZE = 100


def load_translator(
    folder: Path | None = None, adapter: Path | None = None
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return tokenizer and model, in float32 on the profile's device, ready to translate.

    Args:
        folder: the model's folder; None takes the one of the catalog.
        adapter: the folder of a PEFT adapter. If it brings a tokenizer with more tokens, the model gets rows for them,
            which the adapter then fills.

    Raises:
        ReaderError: the adapter is incomplete or damaged, or was made for another model.

    Example:
        >>> tokenizer, model = load_translator()
        >>> model.config.model_type
        't5'
    """
    folder = folder or install_asset("t5", "embedded")
    with quiet("transformers"):
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        model = model.to(current_profile().device).eval()
        if adapter is None:
            return _load_tokenizer(folder), model
        brings_tokens = (adapter / "tokenizer.json").is_file()
        tokenizer = _load_tokenizer(adapter if brings_tokens else folder)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        try:
            load_adapter(model, adapter)
        except MissingRowsError as error:
            raise ReaderError(
                f"the adapter in {adapter} trains words that this model's tokenizer lacks. Put the tokenizer that it "
                "was saved with into its folder; the added tokens are in there."
            ) from error
        return tokenizer, model


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exceptions, and transformers many kinds.
        raise ReaderError(
            f"the tokenizer in {folder} does not load, and nothing of it was run ({first_line(error)}). It must be one "
            "of transformers' own, as save_pretrained writes it."
        ) from error


def translate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    language: str,
    num_beams: int = 1,
) -> list[str]:
    """Translate texts, those of like length together; the order is kept.

    Args:
        model: an encoder-decoder that knows T5's prefixes.
        tokenizer: the model's.
        texts: without a prefix. What the tokenizer does not know, the model reads as ``<unk>``.
        language: to translate into, ``"zh"`` or ``"en"``.
        num_beams: how many unfinished translations to follow at once; 1 is greedy.

    Raises:
        UnknownNameError: another language.
        ReaderError: a text is empty or longer than the tokenizer says the model takes, ``texts`` is a single string,
            or ``num_beams`` is below 1.

    Example:
        >>> from aigc_helpers.text import load_translator
        >>> tokenizer, model = load_translator()
        >>> translate(model, tokenizer, ["three cups of tea"], "zh")
        ['三杯茶']
    """
    if language not in PREFIXES:
        raise UnknownNameError("target language", language, PREFIXES)
    if isinstance(texts, str):
        raise ReaderError("translate takes a list of texts; put the one you have into brackets.")
    if num_beams < 1:
        raise ReaderError(f"{num_beams} beams are not possible: 1 is greedy, 4 is usual.")
    if not texts:
        return []
    token_ids = tokenizer([PREFIXES[language] + text.strip() for text in texts])["input_ids"]
    for text, ids in zip(texts, token_ids, strict=True):
        _check_text(text, len(ids), tokenizer.model_max_length)
    by_length = sorted(range(len(texts)), key=lambda index: len(token_ids[index]))
    translations: dict[int, str] = {}
    for start in range(0, len(texts), _BATCH_SIZE):
        indices = by_length[start : start + _BATCH_SIZE]
        batch = pad_batch([torch.tensor(token_ids[index]) for index in indices], tokenizer.pad_token_id)
        with torch.no_grad():
            outputs = model.generate(  # type: ignore[operator]  # a mixin's, which PreTrainedModel does not name
                **{name: tensor.to(model.device) for name, tensor in batch.items()}, num_beams=num_beams
            )
        written = tokenizer.batch_decode(outputs, skip_special_tokens=True)
        translations |= dict(zip(indices, written, strict=True))
    return [translations[index] for index in range(len(texts))]


def unknown_pieces(tokenizer: PreTrainedTokenizerBase, text: str) -> list[str]:
    """Return the parts of a text that the tokenizer can only read as ``<unk>``, each once, in their order."""
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)
    return list(
        dict.fromkeys(text[start:end].strip() for token, (start, end) in spans if token == tokenizer.unk_token_id)
    )


def _check_text(text: str, tokens: int, longest: int) -> None:
    if not text.strip():
        raise ReaderError("there is nothing to translate: a text is empty. Try 'three cups of tea', or 三杯茶.")
    if tokens > longest:
        raise ReaderError(
            f"the text that begins {text[:20]!r} has {tokens} tokens with its prefix, and the model takes {longest}. "
            "Translate it in parts."
        )
