"""The memory that ``estimate_memory`` foretells is what the same step then takes.

A reader who rents a GPU by the hour decides by this number. Whether it is right is measured here on the CPU: torch's
profiler knows nothing of the estimate, and counts what is really allocated and freed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from aigc_helpers.training import estimate_memory

WIDTH = 64


def bert() -> nn.Module:
    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 3, "num_attention_heads": 4}
    return BertForSequenceClassification(BertConfig(vocab_size=5000, num_labels=2, **shape))


def bert_with_lora() -> nn.Module:
    return get_peft_model(bert(), LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["query", "value"]))


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=2000, n_embd=WIDTH, n_layer=2, n_head=2))


def training(**inputs: tuple[int, ...]) -> Callable[[Any], None]:
    """Return a training step on inputs of these shapes; the optimizer lasts from one step to the next."""
    optimizers: list[torch.optim.Optimizer] = []

    def step(model: Any) -> None:
        if not optimizers:
            optimizers.append(torch.optim.AdamW([each for each in model.parameters() if each.requires_grad]))
        model(**{name: torch.zeros(shape, dtype=torch.long) for name, shape in inputs.items()}).loss.backward()
        optimizers[0].step()

    return step


def really_taken(make: Callable[[], nn.Module], step: Callable[[nn.Module], None]) -> int:
    """Return the bytes at the peak of the second step, with weights, gradients and the optimizer's numbers."""
    model = make()
    step(model)
    for parameter in model.parameters():
        parameter.grad = None
    weights = sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
    optimizer = 2 * sum(each.nbytes for each in model.parameters() if each.requires_grad)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(model)
    held = peak = 0
    # Of the public events, those within an operation show only what it leaves behind.
    raw = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(raw, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return weights + optimizer + peak


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (bert, {"input_ids": (16, 40), "labels": (16,)}),
        (bert_with_lora, {"input_ids": (16, 40), "labels": (16,)}),
        (gpt2, {"input_ids": (4, 60), "labels": (4, 60)}),
    ],
    ids=["in full", "lora", "gpt2"],
)
def test_a_training_step_takes_what_was_foretold(make: Callable[[], nn.Module], inputs: dict[str, tuple[int, ...]]):
    assert estimate_memory(make, training(**inputs)).total == pytest.approx(
        really_taken(make, training(**inputs)), rel=0.05
    )


def forward(model: nn.Module) -> None:
    with torch.no_grad():
        model(torch.zeros(8, WIDTH))


def test_half_precision_takes_half_for_weights():
    def make(dtype: torch.dtype) -> Callable[[], nn.Module]:
        return lambda: nn.Linear(1024, 1024, bias=False).to(dtype)

    def step(model: nn.Module) -> None:
        model(torch.zeros(1, 1024, dtype=torch.float16))

    in_half = estimate_memory(make(torch.float16), step, torch.float16)
    assert in_half.weights * 2 == estimate_memory(make(torch.float32), lambda _: None).weights == 4 * 1024 * 1024


def test_a_tied_weight_is_counted_once():
    def make() -> nn.Module:
        tied = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
        tied[1].weight, tied[1].bias = tied[0].weight, tied[0].bias
        return tied

    alone = estimate_memory(lambda: nn.Linear(WIDTH, WIDTH), forward)
    assert estimate_memory(make, forward).weights == alone.weights


def test_gradient_checkpointing_takes_less():
    def with_checkpointing() -> nn.Module:
        model = gpt2().train()
        model.gradient_checkpointing_enable()
        return model

    inputs = {"input_ids": (16, 120), "labels": (16, 120)}
    usual = estimate_memory(gpt2, training(**inputs), torch.float16)
    assert estimate_memory(with_checkpointing, training(**inputs), torch.float16).activations < usual.activations


def test_several_models_are_counted_together():
    one = estimate_memory(lambda: nn.Linear(WIDTH, WIDTH), forward)
    two = estimate_memory(lambda: [nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)], lambda models: forward(models[0]))
    assert two.weights == 2 * one.weights


def test_what_no_machine_has_room_for_is_estimated_all_the_same():
    # Four times 16 TB: were anything allocated, this would not return.
    estimate = estimate_memory(lambda: nn.Linear(2_000_000, 2_000_000, bias=False), lambda model: model.weight.sum())
    assert estimate.weights == 16 * 10**12
    assert "16000.0 GB" in str(estimate)
