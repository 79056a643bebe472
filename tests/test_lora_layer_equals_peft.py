"""What chapter 04 asserts about its own LoRA layer holds for other shapes and seeds, too: it is PEFT's layer.

A reader who builds the layer by hand trusts these equalities; one lucky example in a notebook is not enough.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from aigc_helpers.publishing.source import find_chapter, read_chapter

TOLERANCE = 1e-6
DEFINITIONS = {
    "thin_pair",
    "class LoRA",
    "with_peft",
    "peft_pair",
    "as_ours",
    "largest_differences",
    "normal_quantiles",
    "in_four_bits",
}


@pytest.fixture(scope="module")
def chapter() -> dict[str, Any]:
    """The names that the chapter's defining cells bind."""
    names: dict[str, Any] = {"torch": torch}
    missing = set(DEFINITIONS)
    for cell in read_chapter(find_chapter("04")).code_cells:
        defined = {name for name in missing if f"def {name}(" in cell.source or f"{name}(nn.Module)" in cell.source}
        if defined:
            exec(compile(cell.source, f"<chapter 04, line {cell.line}>", "exec"), names)
        missing -= defined
    assert not missing
    return names


def layers(seed: int) -> list[tuple[nn.Module, torch.Tensor]]:
    torch.manual_seed(seed)
    return [
        (nn.Linear(10 + seed, 7), torch.randn(3, 10 + seed)),
        (nn.Linear(8, 12, bias=False), torch.randn(2, 5, 8)),
        (Conv1D(12, 9), torch.randn(2, 4, 9)),
        (nn.Conv2d(2, 6, kernel_size=3, padding=1 + seed % 2), torch.randn(2, 2, 9, 9)),
        (nn.Conv2d(3, 5, kernel_size=(1, 3), stride=(2, 1), bias=False), torch.randn(1, 3, 8, 8)),
        (nn.Embedding(30, 11), torch.randint(30, (2, 6))),
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", range(6))
def test_output_and_gradients_are_pefts(chapter: dict[str, Any], kind: int, seed: int) -> None:
    base, inputs = layers(seed)[kind]
    assert max(chapter["largest_differences"](base, inputs)) <= TOLERANCE


@pytest.mark.parametrize("kind", range(6))
def test_a_new_layer_is_the_base_to_the_bit_and_leaves_it_without_gradient(chapter: dict[str, Any], kind: int) -> None:
    base, inputs = layers(0)[kind]
    layer = chapter["LoRA"](base)
    output = layer(inputs)
    assert torch.equal(output, base(inputs))
    output.square().mean().backward()
    assert all(parameter.grad is None for parameter in base.parameters())
    assert layer.B.weight.grad.any() and not layer.A.weight.grad.any()


def test_the_gradients_are_those_of_the_formula(chapter: dict[str, Any]) -> None:
    torch.manual_seed(0)
    inputs, layer = torch.randn(5, 16), chapter["LoRA"](nn.Linear(16, 24), r=3, alpha=7)
    nn.init.normal_(layer.B.weight)
    output = layer(inputs)
    output.retain_grad()
    output.square().mean().backward()
    gradient, scaling, thin, wide = output.grad, 7 / 3, layer.A.weight, layer.B.weight
    torch.testing.assert_close(wide.grad, scaling * gradient.T @ (inputs @ thin.T), atol=1e-5, rtol=0)
    torch.testing.assert_close(thin.grad, scaling * (gradient @ wide).T @ inputs, atol=1e-5, rtol=0)


def test_merging_is_the_formula(chapter: dict[str, Any]) -> None:
    torch.manual_seed(0)
    base = nn.Linear(16, 24)
    weight = base.weight.detach().clone()
    model = chapter["with_peft"](base, r=2, lora_alpha=5)
    thin, wide = (each.detach() for each in chapter["peft_pair"](model))
    wide.normal_()
    merged = model.merge_and_unload()[0].weight
    torch.testing.assert_close(merged, weight + 5 / 2 * wide @ thin, atol=TOLERANCE, rtol=0)


def test_pissa_takes_the_first_singular_values_out_of_the_weight(chapter: dict[str, Any]) -> None:
    torch.manual_seed(1)
    base = nn.Linear(16, 24)
    weight = base.weight.detach().clone()
    model = chapter["with_peft"](base, init_lora_weights="pissa")
    thin, wide = chapter["peft_pair"](model)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(2 * wide @ thin, left[:, :4] * values[:4] @ right[:4], atol=TOLERANCE, rtol=0)
    frozen = model.base_model.model[0].get_base_layer().weight
    torch.testing.assert_close(frozen + 2 * wide @ thin, weight, atol=TOLERANCE, rtol=0)


def test_dora_is_a_length_per_output_times_a_direction(chapter: dict[str, Any]) -> None:
    torch.manual_seed(1)
    base, inputs = nn.Linear(16, 24), torch.randn(5, 16)
    model = chapter["with_peft"](base, use_dora=True)
    thin, wide = chapter["peft_pair"](model)
    length = model.base_model.model[0].lora_magnitude_vector["default"].weight
    torch.testing.assert_close(length, base.weight.norm(dim=1), atol=TOLERANCE, rtol=0)
    with torch.no_grad():
        wide.normal_(std=0.3)
        length.mul_(1.3)
    turned = base.weight + 2 * wide @ thin
    expected = inputs @ (length[:, None] * turned / turned.norm(dim=1, keepdim=True)).T + base.bias
    torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=0)


def test_the_four_bits_of_the_chapter_are_those_of_the_stored_results(chapter: dict[str, Any]) -> None:
    from aigc_helpers.pretrain.experiments.lora_variants import nf4_levels, nf4_round_trip

    torch.testing.assert_close(chapter["levels"], nf4_levels(), atol=1e-5, rtol=0)
    torch.manual_seed(0)
    weight = torch.randn(32, 64)
    by_chapter = chapter["in_four_bits"](weight, nf4_levels())
    assert torch.equal(by_chapter, nf4_round_trip(weight))
