"""Batches of like length: on short texts most of a random batch is padding, and padding costs as much as text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy
import torch
from torch.nn.utils.rnn import pad_sequence

TextBatch = dict[str, torch.Tensor]

_BATCHES_PER_CHUNK = 50  # Texts are sorted by length within a chunk this size, so batches still differ by epoch.


class LengthBatches:
    """Tokenized texts, batched by length and padded to the longest text of each batch.

    A ``aigc_helpers.training.loop.Batches``: ``batch(epoch, position)`` depends on nothing but its arguments and the
    seed, so a resumed run sees the same batches.
    """

    unit_name = "tokens"

    def __init__(
        self,
        token_ids: Sequence[Sequence[int]],
        labels: Sequence[int] | None,
        batch_size: int,
        pad_token_id: int,
        seed: int = 0,
    ) -> None:
        """Take token ids per text (ragged), one class number per text, and the tokenizer's padding id.

        Without class numbers the labels are the texts themselves, as language models take them.
        """
        self.token_ids = [torch.tensor(ids, dtype=torch.int64) for ids in token_ids]
        self.lengths = numpy.array([len(ids) for ids in token_ids])
        self.labels = None if labels is None else torch.tensor(labels, dtype=torch.int64)
        self.batch_size, self.pad_token_id, self.seed = batch_size, pad_token_id, seed
        self._order_of = lru_cache(maxsize=2)(self._draw_order)

    def __len__(self) -> int:
        """Return the number of batches in an epoch; the last one may be smaller."""
        return -(-len(self.token_ids) // self.batch_size)

    def batch(self, epoch: int, position: int) -> TextBatch:
        """Return ``input_ids`` and ``attention_mask`` of shape (batch, longest), and ``labels``.

        Labels have the shape (batch,), or (batch, longest) where they are the texts, with -100 for padding, which
        losses leave out.
        """
        indices = self._order_of(epoch)[position]
        batch = pad_batch([self.token_ids[index] for index in indices], self.pad_token_id)
        if self.labels is None:
            return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}
        return batch | {"labels": self.labels[indices]}

    def count(self, batch: TextBatch) -> int:
        """Return the number of tokens that are not padding."""
        return int(batch["attention_mask"].sum())

    def _draw_order(self, epoch: int) -> list[numpy.ndarray]:
        generator = numpy.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.token_ids))
        chunk_size = self.batch_size * _BATCHES_PER_CHUNK
        chunks = [order[start : start + chunk_size] for start in range(0, len(order), chunk_size)]
        order = numpy.concatenate([chunk[numpy.argsort(self.lengths[chunk], kind="stable")] for chunk in chunks])
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batches[index] for index in generator.permutation(len(batches))]


def pad_batch(token_ids: Sequence[torch.Tensor], pad_token_id: int) -> TextBatch:
    """Pad token ids on the right; returns ``input_ids`` and ``attention_mask``, each of shape (batch, longest).

    Example:
        >>> import torch
        >>> batch = pad_batch([torch.tensor([5, 6, 7]), torch.tensor([8])], pad_token_id=0)
        >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist()
        ([[5, 6, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]])
    """
    input_ids = pad_sequence(list(token_ids), batch_first=True, padding_value=pad_token_id)
    lengths = torch.tensor([len(ids) for ids in token_ids])
    attention_mask = (torch.arange(input_ids.shape[1])[None, :] < lengths[:, None]).long()
    return {"input_ids": input_ids, "attention_mask": attention_mask}
