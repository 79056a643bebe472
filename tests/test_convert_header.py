"""A converted file says in its header what the programs that read it look for there, and keeps what was there.

A1111 sorts LoRAs by ``ss_base_model_version`` and ``ss_v2``, and finds them by ``sshs_model_hash``; diffusers finds the
alphas in ``lora_adapter_metadata``.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
import safetensors.torch
from lora_files import header_of, make, save_kohya
from safetensors.torch import load_file

from aigc_helpers import inspect
from aigc_helpers.lora import convert

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
TRAINED = {"ss_seed": "42", "ss_tag_frequency": '{"1_koala": {"koala": 3}}', "modelspec.author": "somebody é"}


def adapter(
    path: Path, width: int = 768, alphas: tuple[float, float] = (8, 8), ranks: tuple[int, int] = (4, 4)
) -> Path:
    made = [
        make("unet", f"{BLOCK}.attn2.to_k", (320, width), ranks[0], alphas[0]),
        make("unet", f"{BLOCK}.attn1.to_q", (320, 320), ranks[1], alphas[1]),
    ]
    return save_kohya(path, made, TRAINED)


@pytest.mark.parametrize(
    ("width", "version", "is_v2", "architecture"),
    [
        (768, "sd_v1", "False", "stable-diffusion-v1/lora"),
        (1024, "sd_v2", "True", "stable-diffusion-v2-512/lora"),
        (2048, "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora"),
    ],
)
def test_kohyas_header_names_the_base_that_the_widths_tell(
    tmp_path: Path, width: int, version: str, is_v2: str, architecture: str
) -> None:
    convert(adapter(tmp_path / "source.safetensors", width), tmp_path / "peft", "peft")
    convert(tmp_path / "peft", tmp_path / "koala.safetensors", "kohya")
    header = header_of(tmp_path / "koala.safetensors")
    assert header["ss_base_model_version"] == version
    assert header["ss_v2"] == is_v2
    assert header["modelspec.architecture"] == architecture
    assert (header["ss_network_module"], header["ss_network_dim"]) == ("networks.lora", "4")
    assert (header["ss_network_alpha"], header["ss_output_name"]) == ("8", "koala")
    # And our own inspector finds nothing that contradicts the tensors.
    report = inspect(tmp_path / "koala.safetensors", read_numbers=True)
    assert not [remark for remark in report.remarks if "metadata" in remark.lower() or "hashed" in remark]
    assert header["sshs_model_hash"] == report.hashes["koala.safetensors"]["sshs_model_hash"]


def test_what_the_trainer_wrote_goes_along_through_all_formats(tmp_path: Path) -> None:
    convert(adapter(tmp_path / "source.safetensors"), tmp_path / "diffusers.safetensors", "diffusers")
    convert(tmp_path / "diffusers.safetensors", tmp_path / "peft", "peft")
    convert(tmp_path / "peft", tmp_path / "kohya.safetensors", "kohya")
    header = header_of(tmp_path / "kohya.safetensors")
    assert {key: header.get(key) for key in TRAINED} == TRAINED
    assert "lora_adapter_metadata" not in header  # It would name layers as no kohya file has them.


def test_differing_ranks_and_alphas_are_called_dynamic(tmp_path: Path) -> None:
    source = adapter(tmp_path / "source.safetensors", alphas=(8, 2), ranks=(4, 2))
    convert(source, tmp_path / "kohya.safetensors", "kohya")
    header = header_of(tmp_path / "kohya.safetensors")
    assert (header["ss_network_dim"], header["ss_network_alpha"]) == ("Dynamic", "Dynamic")


def test_diffusers_metadata_hold_rank_and_alpha_of_each_layer(tmp_path: Path) -> None:
    source = adapter(tmp_path / "source.safetensors", alphas=(8, 2), ranks=(4, 2))
    convert(source, tmp_path / "diffusers.safetensors", "diffusers")
    told = json.loads(header_of(tmp_path / "diffusers.safetensors")["lora_adapter_metadata"])
    rank, alpha = told["unet.r"], told["unet.lora_alpha"]
    for layer, wanted in ((f"{BLOCK}.attn2.to_k", (4, 8)), (f"{BLOCK}.attn1.to_q", (2, 2))):
        found = (
            told["unet.rank_pattern"].get(f"^{re.escape(layer)}", rank),
            told["unet.alpha_pattern"].get(f"^{re.escape(layer)}", alpha),
        )
        assert found == wanted
    assert told["unet.target_modules"] == sorted([f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn2.to_k"])


@pytest.mark.parametrize("rows", [4, 4096])
def test_the_hashes_are_those_that_kohyas_trainer_computes(tmp_path: Path, rows: int) -> None:
    # At 4096 rows the file is longer than the megabyte after which the legacy hash begins.
    made = [make("unet", f"{BLOCK}.attn2.to_k", (rows, 768), 64, 8.0)]
    convert(save_kohya(tmp_path / "source.safetensors", made, TRAINED), tmp_path / "new.safetensors", "kohya")
    header = header_of(tmp_path / "new.safetensors")
    # As sd-scripts has it: the file with the trainer's metadata alone.
    ours = {key: value for key, value in header.items() if key.startswith("ss_")}
    content = safetensors.torch.save(load_file(tmp_path / "new.safetensors"), ours)
    start = 8 + int.from_bytes(content[:8], "little")
    assert header["sshs_model_hash"] == hashlib.sha256(content[start:]).hexdigest()
    assert header["sshs_legacy_hash"] == hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8]


@pytest.mark.parametrize("to", ["diffusers", "kohya"])
def test_the_same_call_gives_the_same_bytes(tmp_path: Path, to: str) -> None:
    source = adapter(tmp_path / "source.safetensors")
    written = set()
    for number in range(3):  # The library alone puts the metadata in a random order.
        target = tmp_path / str(number) / "same.safetensors"
        convert(source, target, to)
        written.add(target.read_bytes())
    assert len(written) == 1
