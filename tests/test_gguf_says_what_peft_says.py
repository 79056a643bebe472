"""A LoRA in GGUF, read as llama.cpp reads it, and a merged GGUF are what PEFT makes of the same adapter.

A row in the wrong place gives a model that runs and stammers; a wrong alpha one that is a little less well trained.
Nobody would look for either in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf_models import (
    KINDS,
    merged_as_llama_cpp_does,
    merged_by_peft,
    read_tensors,
    tensors_of,
    tiny,
    trained,
    write_base,
)
from transformers import AutoModelForCausalLM

from aigc_helpers import convert
from aigc_helpers.lora import merge_gguf

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "a rank for some": {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.down_proj": 8}},
    "an alpha for some": {"alpha_pattern": {"k_proj": 1, "up_proj": 32}},
    "both": {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"k_proj": 3, "v_proj": 0.5}},
    "rank-stabilised": {"use_rslora": True},
    "rank-stabilised, a rank for some": {"use_rslora": True, "rank_pattern": {"q_proj": 1}},
    "no strength for some": {"alpha_pattern": {"mlp.*": 0}},
    "a negative alpha": {"lora_alpha": -2},
    "q alone, in one block": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "the last layer, too": {"target_modules": ["k_proj", "lm_head"]},
    "for layers that are stored the other way round": {"fan_in_fan_out": True},
}


def close(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float = 1e-5) -> bool:
    assert found.keys() == wanted.keys()
    return all(np.allclose(found[name], wanted[name], atol=tolerance, rtol=0) for name in wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_these_tests_write_a_base_as_transformers_reads_it(tmp_path: Path, kind: str) -> None:
    model = tiny(kind)
    write_base(model, tmp_path / "base.gguf")
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="base.gguf", dtype=torch.float32)
    words = torch.arange(12).reshape(1, 12)
    with torch.no_grad():
        assert torch.allclose(model(words).logits, read(words).logits, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_llama_cpp_gets_the_weights_that_peft_has(tmp_path: Path, kind: str, settings: str) -> None:
    model = tiny(kind)
    model.save_pretrained(tmp_path / "base")
    base = tensors_of(model)
    adapted = trained(model, tmp_path / "adapter", **SETTINGS[settings])
    done = convert(tmp_path / "adapter", tmp_path / "adapter.gguf", "gguf", tmp_path / "base")
    assert done.files == (tmp_path / "adapter.gguf",)
    found = merged_as_llama_cpp_does(base, tmp_path / "adapter.gguf")
    wanted = merged_by_peft(adapted)
    assert close(found, wanted)
    assert not close(base, wanted, 1e-2)


def test_a_base_in_gguf_and_its_configuration_say_the_same(tmp_path: Path) -> None:
    for kind in KINDS:
        folder = tmp_path / kind
        model = tiny(kind)
        model.save_pretrained(folder / "base")
        write_base(model, folder / "base.gguf")
        trained(model, folder / "adapter")
        for number, base in enumerate((folder / "base", folder / "base.gguf", folder / "base" / "model.safetensors")):
            convert(folder / "adapter", folder / f"{number}.gguf", "gguf", base)
        assert len({(folder / f"{number}.gguf").read_bytes() for number in range(3)}) == 1


def test_matrices_keep_their_bits_where_one_alpha_serves_all(tmp_path: Path) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path / "base")
    adapted = trained(model, tmp_path / "adapter", use_rslora=True)
    convert(tmp_path / "adapter", tmp_path / "adapter.gguf", "gguf", tmp_path / "base")
    layer = adapted.base_model.model.model.layers[1].mlp.up_proj
    found = read_tensors(tmp_path / "adapter.gguf")
    assert np.array_equal(found["blk.1.ffn_up.weight.lora_a"], layer.lora_A["default"].weight.detach().numpy())
    assert np.array_equal(found["blk.1.ffn_up.weight.lora_b"], layer.lora_B["default"].weight.detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings", [{}, {"alpha_pattern": {"q_proj": 2}}, {"use_dora": True}, {"target_modules": ["lm_head", "k_proj"]}]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 1e-3), ("q8_0", 8e-3)])
def test_a_merged_model_is_what_peft_merges(
    tmp_path: Path, kind: str, settings: dict[str, Any], dtype: str, tolerance: float
) -> None:
    model = tiny(kind)
    base = write_base(model, tmp_path / "base.gguf")
    before = tensors_of(model)
    adapted = trained(model, tmp_path / "adapter", **settings)
    done = merge_gguf(tmp_path / "adapter", tmp_path / "merged.gguf", base, dtype)
    wanted = merged_by_peft(adapted)
    assert close(read_tensors(tmp_path / "merged.gguf"), wanted, tolerance)
    assert not close(before, wanted, 5e-2)
    changed = {name for name in wanted if not np.array_equal(wanted[name], before[name])}
    assert set(done.relative_errors) == changed
    assert done.kept == len(wanted) - len(changed)
    types = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "merged.gguf").tensors}
    assert {types[name] for name in changed} == {dtype.upper()}


def test_every_key_of_the_base_and_every_other_tensor_stays_to_the_byte(tmp_path: Path) -> None:
    model = tiny("llama")
    base = write_base(model, tmp_path / "base.gguf")
    trained(model, tmp_path / "adapter", target_modules=["q_proj"])
    merge_gguf(tmp_path / "adapter", tmp_path / "merged.gguf", base, "q8_0")
    one, other = GGUFReader(base), GGUFReader(tmp_path / "merged.gguf")
    assert list(one.fields) == list(other.fields)
    for name, field in one.fields.items():
        assert [part.tobytes() for part in field.parts] == [part.tobytes() for part in other.fields[name].parts]
    assert [tensor.name for tensor in one.tensors] == [tensor.name for tensor in other.tensors]
    for before, after in zip(one.tensors, other.tensors, strict=True):
        assert before.shape.tolist() == after.shape.tolist()
        if after.tensor_type != GGMLQuantizationType.Q8_0:
            assert (before.tensor_type, before.data.tobytes()) == (after.tensor_type, after.data.tobytes())
