"""Poems from the poet, with or without a LoRA adapter."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from aigc_helpers.arguments import LARGEST_COUNT, check_seed
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora import load_adapter
from aigc_helpers.profile import current_profile
from aigc_helpers.quiet import quiet
from aigc_helpers.store import install_asset
from aigc_helpers.text.poems import in_lines, run_on
from aigc_helpers.training import random_state_kept

_BATCH_SIZE = 100


def write_poems(
    prompt: str,
    count: int,
    seed: int,
    lora: str | Path | None = None,
    scale: float = 1.0,
    *,
    folder: Path | None = None,
) -> list[str]:
    """Write poems that begin with ``prompt``, one verse line per line.

    Args:
        prompt: the first characters, such as ``春``; white space is dropped, and nothing leaves all to the model.
        count: how many poems.
        seed: the same seed, prompt and count give the same poems on the same machine.
        lora: whatever ``load_adapter`` takes: the folder of a PEFT adapter, or the ``adapter_model.safetensors`` in it.
        scale: how much of the adapter to add: 0 is the base model, 1 the adapter as trained.
        folder: the model's folder; None takes the one of the catalog.

    Returns:
        The poems. What does not parse as verse lines is returned in one run, as the model wrote it.

    Raises:
        ReaderError: ``count`` is below 1 or above 10,000, the prompt is as long as the model's context or has
            characters that the tokenizer does not know, or the adapter is missing, damaged or made for another model.

    Example:
        >>> [poem] = write_poems("春", count=1, seed=0)
        >>> poem[0]
        '春'
    """
    check_seed(seed)
    if not 1 <= count <= LARGEST_COUNT:
        raise ReaderError(f"{count:,} poems cannot be written: ask for 1 to {LARGEST_COUNT:,}.")
    tokenizer, model = load_poet(folder)
    check_prompt(prompt, tokenizer, model.config.n_positions)
    if lora is not None:
        load_adapter(model, lora, scale=scale)
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    texts: list[str] = []
    # transformers would take poems that end before others for padded prompts, and warn.
    with random_state_kept(), torch.no_grad(), quiet("transformers"):
        set_seed(seed)
        while len(texts) < count:
            outputs = model.generate(  # type: ignore[operator]  # a mixin's, which PreTrainedModel does not name
                **inputs, num_return_sequences=min(_BATCH_SIZE, count - len(texts))
            )
            texts.extend(tokenizer.batch_decode(outputs, skip_special_tokens=True))
    return [in_lines(text) for text in texts]


def load_poet(folder: Path | None = None) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Return tokenizer and model, in float32 on the profile's device, ready to evaluate.

    Args:
        folder: the model's folder; None takes the one of the catalog.

    Example:
        >>> tokenizer, model = load_poet()
        >>> tokenizer.tokenize("春眠"), model.config.model_type
        (['春', '眠'], 'gpt2')
    """
    folder = folder or install_asset("poet")
    with quiet("transformers"):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    model.to(current_profile().device)  # type: ignore[arg-type]  # transformers wraps `to`, and its type loses self
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False), model.eval()


def check_prompt(prompt: str, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Refuse a prompt that the model could only read in part.

    Args:
        prompt: any text.
        tokenizer: the model's.
        context: the most tokens the model takes, marks included.

    Raises:
        ReaderError: it is too long, or has characters that the tokenizer does not know; the message names them.
    """
    marks = [token for token in tokenizer.all_special_tokens if token in prompt]
    if marks:
        raise ReaderError(f"the prompt contains {', '.join(marks)}, a mark of the tokenizer, not text. Leave it out.")
    known = tokenizer.get_vocab()
    unknown = list(dict.fromkeys(character for character in run_on(prompt) if character not in known))
    if unknown:
        raise ReaderError(
            f"the model does not know {' '.join(unknown)}. It writes simplified Chinese characters that are not too "
            "rare, and the punctuation ，。？！；：、. Write the prompt with other characters."
        )
    room = context - 2  # <bos>, and at least one token to write.
    length = len(run_on(prompt))
    if length > room:
        raise ReaderError(
            f"the prompt has {length} characters, and the model takes {room} at most. "
            f"Leave out {length - room} or more of them."
        )
