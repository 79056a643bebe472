"""Which family and which part of a model a file or folder is can be told from the names and shapes of its tensors.

People download a VAE for a checkpoint, or half a folder. The report must say what it is, and what is missing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.numpy import save_file
from small_weight_files import (
    Tensors,
    diffusers_folder,
    inspect_saved,
    kohya_lora,
    zeros,
)

from aigc_helpers import inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA


@pytest.mark.parametrize(
    ("names", "kind", "family"),
    [
        (["encoder.block.0.layer.0.SelfAttention.q.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"],
         "full checkpoint", "T5"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "text encoder", "T5"),
        (["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"],
         "full checkpoint", "Llama, Mistral, Qwen or Gemma"),
        (["bert.encoder.layer.0.attention.self.query.weight"], "full checkpoint", "BERT"),
        (["text_model.encoder.layers.0.self_attn.q_proj.weight"], "text encoder", "CLIP"),
        (["embeddings.token_embedding.weight", "encoder.layers.0.self_attn.q_proj.weight"], "text encoder", "CLIP"),
        (["encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.up_blocks.0.resnets.0.conv1.weight"], "VAE", None),
        (["first_stage_model.encoder.conv_in.weight"], "VAE", None),
        (["something.else.weight", "something.more.weight"], None, None),
    ],
)  # fmt: skip
def test_models_are_known_by_the_names_of_their_layers(
    tmp_path: Path, names: list[str], kind: str | None, family: str | None
) -> None:
    inspection = inspect_saved(tmp_path, {name: zeros(3, 3) for name in names})
    assert (inspection.kind, inspection.family) == (kind, family)


@pytest.mark.parametrize(
    ("tensors", "family"),
    [
        ({"emb_params": zeros(2, 768)}, "Stable Diffusion 1.x"),
        ({"<cat>": zeros(1024)}, "Stable Diffusion 2.x"),
        ({"clip_g": zeros(2, 1280), "clip_l": zeros(2, 768)}, "Stable Diffusion XL"),
    ],
)
def test_textual_inversions(tmp_path: Path, tensors: Tensors, family: str) -> None:
    inspection = inspect_saved(tmp_path, tensors)
    assert (inspection.kind, inspection.family) == ("textual inversion", family)


def test_the_configuration_tells_models_apart_that_name_their_layers_alike(tmp_path: Path) -> None:
    save_file({"model.layers.0.self_attn.q_proj.weight": zeros(3, 3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    assert (inspect(tmp_path).family, inspect(tmp_path).container) == ("mistral", "transformers folder")


def test_the_models_that_ship_here() -> None:
    film, poet, clip = (inspect(DATA / name) for name in ("film_adapter", "poet", "clip"))
    assert (film.kind, film.key_format, film.family) == ("LoRA", "PEFT", "BERT")
    assert (film.adapter.ranks, film.adapter.alphas) == ({8: 12}, {16.0: 12})
    assert film.adapter.saved_modules == ("base_model.model.classifier.bias", "base_model.model.classifier.weight")
    assert not any(one.compatible for one in film.compatibility if one.model in ("poet", "clip"))
    assert (poet.kind, poet.family, poet.parameters) == ("full checkpoint", "GPT-2", 4_429_568)
    assert (clip.kind, clip.family, clip.dtypes) == ("full checkpoint", "CLIP", {"F16": 126})


def test_a_diffusers_folder_is_read_by_its_components(tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "sd")
    inspection = inspect(folder)
    assert (inspection.container, inspection.kind) == ("diffusers folder", "full checkpoint")
    assert (inspection.family, inspection.tensors) == ("Stable Diffusion 1.x", 5)
    assert inspect_saved(tmp_path, kohya_lora(768), bases=[folder]).compatibility[-1].compatible
    name = "lora_te2_text_model_a"
    for_two = {f"{name}.lora_down.weight": zeros(4, 3), f"{name}.lora_up.weight": zeros(3, 4)}
    assert inspect_saved(tmp_path, for_two, bases=[folder]).compatibility[-1].reason == "it has no second text encoder"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"readme.txt": b"x"}, "holds no weight file"),
        ({"a.safetensors": b"", "b.safetensors": b""}, "holds 2 weight files: a.safetensors, b.safetensors"),
        ({"a.safetensors": b"", "m.index.json": b'{"weight_map": {"x": "b.safetensors"}}'}, "which is not there"),
        ({"a.safetensors": b"", "m.index.json": b'{"weight_map": {"x": "../b.safetensors"}}'}, "outside its folder"),
        ({"model_index.json": b'{"../unet": ["a", "b"]}'}, "outside its folder"),
        ({"model_index.json": b'{"..": ["a", "b"]}'}, "outside its folder"),
        ({"model_index.json": b"{"}, "not valid JSON"),
        ({"model_index.json": b"[]"}, "but no object"),
        ({"model_index.json": b"{}"}, "without any weights"),
    ],
)
def test_a_faulty_folder_is_refused_by_its_fault(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ReaderError, match=words):
        inspect(tmp_path)
