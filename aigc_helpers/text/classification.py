"""Sentence classification: the loss of a batch, and logits for many texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from aigc_helpers.text.batches import TextBatch, pad_batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_SIZE = 50


def classification_loss(model: torch.nn.Module, batch: TextBatch) -> torch.Tensor:
    """Return the mean cross-entropy of a batch, computed by the model from its ``labels`` (a scalar).

    Example:
        >>> from transformers import AutoModelForSequenceClassification
        >>> from aigc_helpers import install
        >>> from aigc_helpers.text import LengthBatches
        >>> model = AutoModelForSequenceClassification.from_pretrained(install("bert", "embedded"), num_labels=2)
        >>> batches = LengthBatches([[101, 7592, 102], [101, 102]], labels=[1, 0], batch_size=2, pad_token_id=0)
        >>> classification_loss(model, batches.batch(epoch=0, position=0)).shape
        torch.Size([])
    """
    return model(**batch).loss


def predict_classes(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[int]:
    """Return the number of the likeliest class of each text.

    Example:
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> from aigc_helpers import install, load_adapter
        >>> bert = install("bert", "embedded")
        >>> model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
        >>> _ = load_adapter(model, install("film-adapter"))
        >>> predict_classes(model, AutoTokenizer.from_pretrained(bert), ["A wonderful film.", "A dull waste of time."])
        [1, 0]
    """
    return predict_logits(model, tokenizer, texts).argmax(dim=1).tolist()


def predict_logits(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> torch.Tensor:
    """Return the logits of each text, shape (texts, classes), float32 on the CPU, in the order of ``texts``.

    Texts of like length go through the model together; longer ones than the model takes are truncated.

    Example:
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> from aigc_helpers import install
        >>> bert = install("bert", "embedded")
        >>> model = AutoModelForSequenceClassification.from_pretrained(bert, num_labels=2)
        >>> predict_logits(model, AutoTokenizer.from_pretrained(bert), ["A wonderful film.", "A bore.", "So-so."]).shape
        torch.Size([3, 2])
    """
    device = next(model.parameters()).device
    token_ids = [torch.tensor(ids) for ids in tokenizer(list(texts), truncation=True)["input_ids"]]
    by_length = sorted(range(len(texts)), key=lambda index: len(token_ids[index]))
    logits: dict[int, torch.Tensor] = {}
    model.eval()
    with torch.no_grad():
        for start in range(0, len(texts), _BATCH_SIZE):
            indices = by_length[start : start + _BATCH_SIZE]
            batch = pad_batch([token_ids[index] for index in indices], tokenizer.pad_token_id)
            output = model(**{name: tensor.to(device) for name, tensor in batch.items()}).logits.float().cpu()
            logits |= dict(zip(indices, output, strict=True))
    return torch.stack([logits[index] for index in range(len(texts))])
