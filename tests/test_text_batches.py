"""Batching by length must lose no text, mix no labels, and give the same batch for the same place in the run."""

from __future__ import annotations

import numpy
import pytest
import torch
from hypothesis import given, settings, strategies as st

from aigc_helpers.text import LengthBatches

PADDING = 0
texts = st.lists(st.lists(st.integers(min_value=1, max_value=50), min_size=1, max_size=12), min_size=1, max_size=60)


def make_batches(token_ids: list[list[int]], batch_size: int, seed: int = 0) -> LengthBatches:
    return LengthBatches(token_ids, range(len(token_ids)), batch_size, PADDING, seed)


@given(texts, st.integers(min_value=1, max_value=9), st.integers(min_value=0, max_value=5))
@settings(deadline=None)
def test_an_epoch_holds_every_text_once_with_its_label(token_ids: list[list[int]], size: int, epoch: int) -> None:
    batches = make_batches(token_ids, size)
    seen = []
    for position in range(len(batches)):
        batch = batches.batch(epoch, position)
        assert batches.count(batch) == int((batch["input_ids"] != PADDING).sum())
        for row, label in zip(batch["input_ids"], batch["labels"].tolist(), strict=True):
            assert row[row != PADDING].tolist() == token_ids[label]
            assert (row[len(token_ids[label]) :] == PADDING).all(), "padding stands on the right"
            seen.append(label)
    assert sorted(seen) == list(range(len(token_ids)))


def many_texts() -> list[list[int]]:
    generator = numpy.random.default_rng(0)
    return [[1] * int(length) for length in generator.integers(1, 40, size=500)]


def test_the_same_place_gives_the_same_batch_whatever_was_asked_before() -> None:
    used, fresh = make_batches(many_texts(), 16), make_batches(many_texts(), 16)
    for epoch in range(4):
        used.batch(epoch, 0)
    for name, tensor in fresh.batch(1, 7).items():
        assert torch.equal(used.batch(1, 7)[name], tensor)


def test_epochs_and_seeds_differ() -> None:
    token_ids = many_texts()
    first = make_batches(token_ids, 16).batch(0, 0)["labels"].tolist()
    assert make_batches(token_ids, 16).batch(1, 0)["labels"].tolist() != first
    assert make_batches(token_ids, 16, seed=1).batch(0, 0)["labels"].tolist() != first


def test_hardly_anything_is_padding() -> None:
    batches = make_batches(many_texts(), 16)
    shapes = [batches.batch(0, position)["input_ids"] for position in range(len(batches))]
    real = sum(len(ids) for ids in batches.token_ids)
    assert real / sum(tensor.numel() for tensor in shapes) > 0.9


@pytest.fixture(scope="module")
def tiny_bert() -> torch.nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return BertForSequenceClassification(config)


class NumberTokenizer:
    """Stands in for a tokenizer: a text is its numbers."""

    pad_token_id = PADDING

    def __call__(self, sentences: list[str], truncation: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[int(word) for word in sentence.split()] for sentence in sentences]}


def test_logits_come_back_in_the_order_of_the_texts(tiny_bert: torch.nn.Module) -> None:
    from aigc_helpers.text import predict_logits

    sentences = [" ".join(["7", "9", "11"] * (1 + index % 5)) + f" {index % 50 + 1}" for index in range(120)]
    together = predict_logits(tiny_bert, NumberTokenizer(), sentences)
    alone = torch.cat([predict_logits(tiny_bert, NumberTokenizer(), [sentence]) for sentence in sentences])
    assert together.shape == (120, 2)
    assert torch.allclose(together, alone, atol=1e-5)


def test_without_class_numbers_the_labels_are_the_texts_and_padding_is_left_out() -> None:
    batches = LengthBatches([[1, 2, 3], [4]], None, 2, PADDING)
    batch = batches.batch(0, 0)
    assert sorted(batch["labels"].tolist()) == [[1, 2, 3], [4, -100, -100]]
    assert torch.equal(batch["labels"] != -100, batch["attention_mask"].bool())
