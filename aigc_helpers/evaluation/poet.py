"""How good the poet is: perplexity against n-grams on the same poems, and the form of what it writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from aigc_helpers.metrics import Interval, KneserNey, proportion_interval, wilson_interval
from aigc_helpers.text import (
    MARKS,
    LengthBatches,
    load_poet,
    load_regular_shi,
    mean_loss,
    parse_poem,
    poem_line_lengths,
    poem_token_ids,
    write_poems,
)

_NGRAM_ORDERS = {"unigram": 1, "4-gram": 4}
_BATCH_SIZE = 32


def evaluate_poet(folder: Path | None = None, samples: int = 200, seed: int = 0) -> dict[str, Any]:
    """Measure the poet on the regular shi of the validation and test split that fit into its context.

    Perplexity is per token: every character of a poem, punctuation included, and the mark at its end; ``<bos>`` is
    given, and line breaks are no tokens. A character that the tokenizer does not know is predicted as ``<unk>``. The
    n-gram models (interpolated modified Kneser-Ney) are counted on the poet's training poems and share its vocabulary.

    Args:
        folder: the model's folder; None takes the one of the catalog.
        samples: how many poems to write, without a prompt.
        seed: for those poems.

    Returns:
        JSON-able: ``validation`` and ``test`` (each: ``poems``, ``tokens``, ``unknown_share``, and ``perplexity`` of
        ``poet``, ``unigram`` and ``4-gram``), and ``samples`` as ``judge_forms`` returns it.
    """
    tokenizer, model = load_poet(folder)
    longest = model.config.n_positions - MARKS
    training = _token_ids(tokenizer, "train", longest)
    baselines = {name: KneserNey(training, order, len(tokenizer)) for name, order in _NGRAM_ORDERS.items()}
    figures: dict[str, Any] = {}
    for split in ("validation", "test"):
        token_ids = _token_ids(tokenizer, split, longest)
        batches = LengthBatches(
            [[tokenizer.bos_token_id, *ids] for ids in token_ids], None, _BATCH_SIZE, tokenizer.pad_token_id
        )
        loss = mean_loss(model, (batches.batch(0, position) for position in range(len(batches))))
        tokens = sum(map(len, token_ids))
        figures[split] = {
            "poems": len(token_ids),
            "tokens": tokens,
            "unknown_share": sum(ids.count(tokenizer.unk_token_id) for ids in token_ids) / tokens,
            "perplexity": {"poet": math.exp(loss)}
            | {name: baseline.perplexity(token_ids) for name, baseline in baselines.items()},
        }
    figures["samples"] = judge_forms(write_poems("", samples, seed, folder=folder))
    return figures


def judge_forms(poems: Sequence[str]) -> dict[str, Any]:
    """Count the poems with regular lines, and name the others.

    Returns:
        ``poems`` (how many), ``regular_share`` (``mean``, ``low`` and ``high`` of its 95 % interval), ``forms`` (how
        many regular poems have which line lengths) and ``irregular``, the poems that are not regular or no poems.

    Raises:
        ReaderError: there are no poems.
    """
    regular_lengths = [_regular_line_lengths(poem) for poem in poems]
    regular = Counter(lengths for lengths in regular_lengths if lengths)
    return {
        "poems": len(poems),
        "regular_share": proportion_interval([bool(lengths) for lengths in regular_lengths]),
        "forms": dict(regular.most_common()),
        "irregular": [poem for poem, lengths in zip(poems, regular_lengths, strict=True) if not lengths],
    }


def share_in_form(poems: Sequence[str], asked: str) -> Interval:
    """Return the share of poems with exactly these line lengths, such as ``"7-7-7-7-7-7"``.

    Raises:
        ReaderError: there are no poems.

    Example:
        >>> share_in_form(["春眠不觉晓，处处闻啼鸟。", "no poem"], "5-5").mean
        0.5
    """
    return wilson_interval(sum(poem_line_lengths(poem) == asked for poem in poems), len(poems))


def _regular_line_lengths(poem: str) -> str:
    """Return the characters per line; nothing for what is no poem, or not regular."""
    lengths = poem_line_lengths(poem)
    return lengths if lengths and parse_poem(poem).is_regular else ""


def _token_ids(tokenizer: PreTrainedTokenizerBase, split: str, longest: int) -> list[list[int]]:
    """Return the token ids of each poem of a split, without ``<bos>``, with ``<eos>``."""
    return [ids[1:] for ids in poem_token_ids(tokenizer, load_regular_shi(split, longest)["text"])]
