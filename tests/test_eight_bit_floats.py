"""A single number in eight bits is read as torch reads it: an alpha is one, and a strength hangs on it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_weight_files import KOHYA_BLOCK

from aigc_helpers import convert, inspect
from aigc_helpers.formats import read_header, read_numbers

DTYPES = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"]


@pytest.mark.parametrize("name", DTYPES)
def test_every_byte_is_the_number_that_torch_says(tmp_path: Path, name: str) -> None:
    dtype = getattr(torch, name, None)
    if dtype is None:
        pytest.skip(f"this torch has no {name}")
    numbers = torch.arange(256, dtype=torch.uint8).view(dtype)
    path = tmp_path / "numbers.safetensors"
    try:
        save_file({str(byte): numbers[byte].clone() for byte in range(256)}, path)
    except (KeyError, ValueError):
        pytest.skip(f"this safetensors writes no {name}")
    header = read_header(path)
    read = read_numbers(path, header, header.tensors)
    for byte, expected in enumerate(numbers.float().tolist()):
        found = read[str(byte)]
        assert found == expected or (found is not None and math.isnan(found) and math.isnan(expected)), byte


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_lora_in_eight_bits_keeps_its_strength(tmp_path: Path, dtype: torch.dtype) -> None:
    stem = f"{KOHYA_BLOCK}_attn2_to_k"
    tensors = {f"{stem}.lora_down.weight": torch.ones(4, 768), f"{stem}.lora_up.weight": torch.ones(320, 4)}
    tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    path = tmp_path / "some.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, path)
    assert inspect(path).adapter.alphas == {2.0: 1}
    assert not any("No alpha" in remark for remark in inspect(path).remarks)
    assert convert(path, tmp_path / "as_peft", "peft").alphas == {2.0: 1}
