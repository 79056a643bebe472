"""The loss of a causal language model, for training and for perplexity."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from aigc_helpers.text.batches import TextBatch


def next_token_loss(model: torch.nn.Module, batch: TextBatch) -> torch.Tensor:
    """Return the mean cross-entropy of predicting each token from those before it, in nats per token.

    transformers shifts ``labels`` by one place itself and leaves out those that are -100. No attention mask is needed:
    padding stands on the right, where a causal model does not look.

    Example:
        >>> from aigc_helpers.text import LengthBatches, load_poet, poem_token_ids
        >>> tokenizer, model = load_poet()
        >>> token_ids = poem_token_ids(tokenizer, ["春眠不觉晓，处处闻啼鸟。"])
        >>> batches = LengthBatches(token_ids, labels=None, batch_size=1, pad_token_id=tokenizer.pad_token_id)
        >>> next_token_loss(model, batches.batch(epoch=0, position=0)).shape
        torch.Size([])
    """
    return model(input_ids=batch["input_ids"], labels=batch["labels"], use_cache=False).loss


@torch.no_grad()
def mean_loss(model: torch.nn.Module, batches: Iterable[TextBatch]) -> float:
    """Return the mean loss over all predicted tokens of ``batches``, in nats; its exponential is the perplexity.

    Example:
        >>> from aigc_helpers.text import LengthBatches, load_poet, poem_token_ids
        >>> tokenizer, model = load_poet()
        >>> verse, shuffled = "春眠不觉晓，处处闻啼鸟。", "眠鸟处晓不，闻春啼觉处。"
        >>> token_ids = [poem_token_ids(tokenizer, [poem]) for poem in (verse, shuffled)]
        >>> batches = [LengthBatches(ids, None, 1, tokenizer.pad_token_id).batch(0, 0) for ids in token_ids]
        >>> mean_loss(model, batches[:1]) < mean_loss(model, batches[1:])
        True
    """
    device = next(model.parameters()).device
    total, tokens = 0.0, 0
    for batch in batches:
        on_device = {name: tensor.to(device) for name, tensor in batch.items()}
        predicted = int((batch["labels"][:, 1:] != -100).sum())
        total += next_token_loss(model, on_device).item() * predicted
        tokens += predicted
    return total / tokens
