"""Stored results are complete and made as chapter 04 says; a table with a run missing compares nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import get_scheduler, set_seed

from aigc_helpers.pretrain.experiments import film_task, film_update, lora_sweep, lora_variants
from aigc_helpers.text import LengthBatches, classification_loss
from aigc_helpers.training import FitSettings, read_log


class TinyClassifier(torch.nn.Module):
    """Embeds, drops out, averages: enough for a loss, with dropout so that the seed matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.head = torch.nn.Embedding(20, 8), torch.nn.Linear(8, 2)
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        summary = (self.dropout(self.embedding(input_ids)) * attention_mask[..., None]).sum(1)
        return SimpleNamespace(loss=torch.nn.functional.cross_entropy(self.head(summary), labels))


def two_rates(model: TinyClassifier, settings: FitSettings) -> torch.optim.Optimizer:
    head = {"params": model.head.parameters(), "lr": film_task.HEAD_LEARNING_RATE}
    groups = [{"params": model.embedding.parameters()}, head]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0.0)


def test_the_task_trains_with_the_steps_of_a_plain_loop() -> None:
    token_ids = [[1 + (3 * text + place) % 19 for place in range(2 + text % 5)] for text in range(40)]
    batches = LengthBatches(token_ids, [text % 2 for text in range(40)], 4, 0, seed=5)
    by_task, by_loop = TinyClassifier(), TinyClassifier()
    settings = FitSettings(epochs=2, learning_rate=1e-2, seed=5)
    film_task.train(by_task, batches, settings, two_rates)

    optimizer = two_rates(by_loop, settings)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=2, num_training_steps=20)
    set_seed(5)
    for step in range(20):
        classification_loss(by_loop, batches.batch(*divmod(step, 10))).backward()
        torch.nn.utils.clip_grad_norm_(by_loop.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    for one, other in zip(by_task.parameters(), by_loop.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_frozen_matrix_does_not_keep_its_input_and_a_trained_one_does() -> None:
    inputs = torch.randn(16, 32, requires_grad=True)
    for trained, kept in ((True, 16 * 32 * 4), (False, 0)):
        layer = torch.nn.Linear(32, 64).requires_grad_(trained)
        with film_task.saved_activations(layer) as saved:
            layer(inputs)
        assert sum(saved.values()) == kept


def test_an_update_is_cut_to_the_nearest_matrix_of_the_rank() -> None:
    torch.manual_seed(0)
    update = torch.randn(12, 9)
    for rank in (0, 1, 4, 9):
        cut = film_update.truncated(update, rank)
        assert torch.linalg.matrix_rank(cut).item() == rank
        rest = torch.linalg.svdvals(update)[rank:].square().sum()
        torch.testing.assert_close((update - cut).square().sum(), rest, atol=1e-3, rtol=0)


def test_four_bits_keep_zero_and_the_largest_of_each_block_and_are_idempotent() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 64)
    weight[:, 3] = 0
    rounded = lora_variants.nf4_round_trip(weight)
    largest = weight.abs().argmax(dim=1, keepdim=True)
    positive = weight.gather(1, largest) > 0  # The levels end at 1 and at -1, so either sign is exact.
    assert torch.equal(rounded.gather(1, largest), weight.gather(1, largest)) and positive.numel() == 4
    assert not rounded[:, 3].any()
    assert all(len(row.unique()) <= 16 for row in rounded)
    assert torch.equal(lora_variants.nf4_round_trip(rounded), rounded)


def test_the_best_rate_is_the_lowest_of_equally_good_ones() -> None:
    rows = [{"learning_rate": rate, "accuracy": value} for rate, value in ((1e-2, 0.8), (1e-3, 0.8), (3e-3, 0.7))]
    assert lora_variants.best_rate(rows) == 1e-3


def test_every_relative_was_searched_and_then_trained_with_each_seed() -> None:
    rows = read_log(lora_variants.VARIANTS_FILE)
    for name, method in lora_variants.METHODS.items():
        searched = [row for row in rows if row["method"] == name and row["split"] == "validation"]
        assert sorted(row["learning_rate"] for row in searched) == sorted(method.learning_rates)
        judged = [row for row in rows if row["method"] == name and row["split"] == "test"]
        assert [row["seed"] for row in judged] == list(lora_variants.SEEDS)
        assert {row["learning_rate"] for row in judged} == {lora_variants.best_rate(searched)}
        assert all(row["right"].count("1") / len(row["right"]) == row["accuracy"] for row in judged)


def test_the_grid_is_whole() -> None:
    rows = read_log(lora_sweep.SWEEP_FILE)
    settings = {(row["targets"], row["rank"], row["alpha"], row["learning_rate"]) for row in rows}
    sizes = [lora_sweep.TARGETS, lora_sweep.RANKS, lora_sweep.ALPHAS, lora_sweep.LEARNING_RATES]
    assert len(settings) == len(rows) == torch.tensor([len(each) for each in sizes]).prod().item()


def test_the_stored_spectra_are_of_query_and_value_in_each_layer() -> None:
    rows = read_log(film_update.SINGULAR_VALUES_FILE)
    assert len(rows) == 12
    for row in rows:
        assert row["module"].endswith(film_update.TARGETS)
        assert row["singular_values"] == sorted(row["singular_values"], reverse=True)
        assert len(row["singular_values"]) == 384
    assert [row["rank"] for row in read_log(film_update.TRUNCATED_FILE)] == list(film_update.RANKS)


@pytest.mark.slow
def test_each_relative_trains_and_says_what_it_took() -> None:
    head = 384 * 384 + 384 + 384 * 2 + 2
    for name, trained in (("prompt tuning", 20 * 384), ("DoRA", 12 * (8 * 768 + 384)), ("QLoRA", 12 * 8 * 768)):
        rate = lora_variants.METHODS[name].learning_rates[0]
        _, row = lora_variants.train_variant(name, rate, seed=0, snippets=16)
        assert row["trainable_parameters"] == trained
        assert row["gradient_bytes"] == 4 * (trained + head)
        assert (row["weight_bytes"] < 60e6) == (name == "QLoRA")
