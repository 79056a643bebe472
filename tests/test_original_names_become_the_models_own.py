"""What original repositories call a transformer's layers becomes diffusers' names, and adds the same to the weights.

A name is right when diffusers' model has such a layer and the shape fits; the numbers are right when each layer gets
what diffusers' own converter of whole models would put there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.loaders import lora_conversion_utils, single_file_utils
from lora_files import same_bits
from safetensors.torch import load_file, save_file
from transformer_models import MODELS, linears

from aigc_helpers import inspect, merge
from aigc_helpers.errors import ReaderError
from aigc_helpers.lora import convert
from aigc_helpers.lora.adapter import read_adapter
from aigc_helpers.lora.conversion import FORMATS, Format
from aigc_helpers.lora.original_layers import ORIGINAL_LAYERS, Original
from aigc_helpers.lora.write import open_tensors

# Settings under which a model has every layer that its family's table names.
MORE = {
    "Stable Diffusion 3": {"num_layers": 2, "dual_attention_layers": (0,)},
    "Wan 2.x": {"added_kv_proj_dim": 5120, "image_dim": 1280},
    "PixArt": {"caption_channels": 4096},
}
CONVERTERS = {
    "FLUX.1": single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    "Chroma": single_file_utils.convert_chroma_transformer_checkpoint_to_diffusers,
    "FLUX.2": single_file_utils.convert_flux2_transformer_checkpoint_to_diffusers,
    "HunyuanVideo": single_file_utils.convert_hunyuan_video_transformer_to_diffusers,
    "Stable Diffusion 3": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    "Wan 2.x": single_file_utils.convert_wan_transformer_to_diffusers,
    "Lumina 2": single_file_utils.convert_lumina2_to_diffusers,
    "Z-Image": single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers,
    "SANA": single_file_utils.convert_sana_transformer_to_diffusers,
    "LTX-Video": single_file_utils.convert_ltx_transformer_checkpoint_to_diffusers,
}
Pair = tuple[torch.Tensor, torch.Tensor]


def layers_of(family: str) -> dict[str, torch.nn.Linear]:
    class_name, settings, _ = next(model for model in MODELS if model[2] == family)
    return linears(class_name, settings | MORE.get(family, {}))


def paths_of(original: Original) -> list[str]:
    return [target.replace("#", "0") for target in original.targets]


def originals_of(family: str) -> dict[str, Original]:
    """Return the layers that a file of this family may name: of several names for one layer the first."""
    layers, taken, found = layers_of(family), set[str](), {}
    rows = dict(ORIGINAL_LAYERS[family])
    if family == "LTX-Video":  # Its blocks are called so in both.
        rows |= {name.replace(".", "_"): Original((name,), (1,)) for name in layers}
    for name, original in rows.items():
        paths = paths_of(original)
        if set(paths) <= set(layers) - taken:
            taken |= set(paths)
            found[name.replace("#", "0")] = original
    return found


def pairs_for(family: str, rank: int = 3) -> dict[str, Pair]:
    """Return the matrices of a LoRA for every layer that the original model of a family has."""
    generator, layers = torch.Generator().manual_seed(0), layers_of(family)
    pairs = {}
    for name, original in originals_of(family).items():
        targets = [layers[path] for path in paths_of(original)]
        down = torch.randn(rank, targets[0].in_features, generator=generator)
        pairs[name] = down, torch.randn(sum(one.out_features for one in targets), rank, generator=generator)
    return pairs


def save_kohya_names(path: Path, pairs: Mapping[str, Pair], alpha: float = 2.0, **metadata: str) -> Path:
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"lora_unet_{name}.lora_down.weight"], tensors[f"lora_unet_{name}.lora_up.weight"] = down, up
        tensors[f"lora_unet_{name}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path, metadata or None)
    return path


def deltas_in(source: Path) -> dict[str, torch.Tensor]:
    """Return what the LoRA adds to each layer's weight, in its first two columns."""
    adapter = read_adapter(source)
    with open_tensors(adapter) as read:
        return {
            layer.path: layer.alpha / layer.rank * read(layer.tensors["up"]) @ read(layer.tensors["down"])[:, :2]
            for layer in adapter.layers
        }


class Whole(dict[str, torch.Tensor]):
    """A model's weights of which a converter may ask for more than there are."""

    def pop(self, key: str, *default: Any) -> torch.Tensor:
        return super().pop(key, torch.zeros(21504 if "linear1" in key else 6, 2))


def dotted(family: str, name: str) -> str:
    """Return a name as the original repository has it: the underscores that are dots there, by its own words."""
    words = [
        *("double_blocks", "single_blocks", "joint_blocks", "img_attn", "txt_attn", "img_mlp", "txt_mlp", "img_mod"),
        *("txt_mod", "x_block", "context_block", "adaLN_modulation", "final_layer", "time_in", "vector_in"),
        *("guidance_in", "img_in", "txt_in", "in_layer", "out_layer", "in_proj", "out_proj", "self_attn", "k_img"),
        *("cross_attn", "v_img", "text_embedding", "time_embedding", "time_projection", "img_emb", "t_embedder"),
        *("c_embedder", "y_embedder", "x_embedder", "cap_embedder", "context_embedder", "feed_forward"),
        *("noise_refiner", "context_refiner", "input_embedder", "individual_token_refiner", "q_linear", "kv_linear"),
        *("distilled_guidance_layer", "double_stream_modulation_img", "double_stream_modulation_txt"),
        *("single_stream_modulation", "patchify_proj", "adaln_single", "timestep_embedder", "linear_1", "linear_2"),
    ]
    if family == "HunyuanVideo":
        words += ["img_attn_qkv", "txt_attn_qkv", "img_attn_proj", "txt_attn_proj", "self_attn_qkv", "self_attn_proj"]
    own = {path.replace(".", "_"): path for path in layers_of(family)}
    if name in own:
        return own[name]
    for word in sorted(words, key=len, reverse=True):
        name = name.replace(word, word.replace("_", "\0"))
    return name.replace("_", ".").replace("\0", "_")


@pytest.mark.parametrize("family", ORIGINAL_LAYERS)
def test_every_name_is_a_layer_of_the_model_and_the_shape_fits(tmp_path: Path, family: str) -> None:
    layers = layers_of(family)
    has_none = {
        name
        for name, original in ORIGINAL_LAYERS[family].items()
        if not set(paths_of(original)) <= set(layers) and "context_refiner_#_adaLN" not in name
    }
    assert not has_none
    source = save_kohya_names(tmp_path / "kohya.safetensors", pairs_for(family), ss_base_model_version=declared(family))
    converted = convert(source, tmp_path / "peft", "peft")
    assert set(converted.layers) == {"transformer"}
    written = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    for name, tensor in written.items():
        layer = layers[name.removeprefix("base_model.model.").partition(".lora_")[0]]
        assert tensor.shape == ((3, layer.in_features) if ".lora_A." in name else (layer.out_features, 3))
    convert(source, tmp_path / "diffusers.safetensors", "diffusers")
    assert {name.removeprefix("transformer.") for name in load_file(tmp_path / "diffusers.safetensors")} == {
        name.removeprefix("base_model.model.") for name in written
    }


def declared(family: str) -> str:
    names = {"FLUX.1": "flux1", "FLUX.2": "flux2", "Stable Diffusion 3": "sd3", "Wan 2.x": "wan2.1"}
    return names.get(family, family.lower().replace(" ", "_").replace("-", "_"))


@pytest.mark.parametrize("family", CONVERTERS)
def test_each_layer_gets_what_diffusers_would_put_there(tmp_path: Path, family: str) -> None:
    pairs = pairs_for(family)
    source = save_kohya_names(tmp_path / "kohya.safetensors", pairs, ss_base_model_version=declared(family))
    wanted = checkpoint_converted(family, {name: 2 / 3 * up @ down[:, :2] for name, (down, up) in pairs.items()})
    found = deltas_in(source)
    assert len(found) >= len(pairs)
    for path, delta in found.items():
        torch.testing.assert_close(delta, wanted[path], rtol=0, atol=1e-5)


def checkpoint_converted(family: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    convert_whole: Callable[..., dict[str, torch.Tensor]] = CONVERTERS[family]
    whole = Whole({f"{dotted(family, name)}.weight": weight for name, weight in weights.items()})
    if family == "Stable Diffusion 3":
        whole["joint_blocks.1.x_block.attn.qkv.weight"] = torch.zeros(6, 2)  # The last block is built otherwise.
    return {name.removesuffix(".weight"): tensor for name, tensor in convert_whole(whole).items()}


@pytest.mark.parametrize("family", ["FLUX.1", "Wan 2.x", "FLUX.2", "Z-Image", "Chroma"])
def test_comfyui_s_names_with_dots_are_the_same_layers(tmp_path: Path, family: str) -> None:
    pairs = pairs_for(family)
    flat = save_kohya_names(tmp_path / "kohya.safetensors", pairs, alpha=3.0, ss_base_model_version=declared(family))
    tensors = {}
    for name, (down, up) in pairs.items():
        stem = f"diffusion_model.{dotted(family, name)}"
        tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"] = down, up
    save_file(tensors, tmp_path / "comfyui.safetensors", {"ss_base_model_version": declared(family)})
    wanted, found = deltas_in(flat), deltas_in(tmp_path / "comfyui.safetensors")
    assert wanted.keys() == found.keys()
    assert all(wanted[path].equal(found[path]) for path in wanted)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("FLUX.1", ["img_attn_qkv", "img_attn_proj", "txt_attn_qkv", "img_mlp_0", "txt_mlp_2", "img_mod_lin"]),
        ("Wan 2.x", ["self_attn_q", "cross_attn_k", "ffn_0", "self_attn_o"]),
    ],
)
def test_diffusers_lora_converters_add_the_same(tmp_path: Path, family: str, names: list[str]) -> None:
    pairs = {name: pair for name, pair in pairs_for(family).items() if name.endswith(tuple(names))}
    source = save_kohya_names(tmp_path / "kohya.safetensors", pairs, ss_base_model_version=declared(family))
    if family == "FLUX.1":
        theirs = lora_conversion_utils._convert_kohya_flux_lora_to_diffusers(load_file(source))
    else:
        stems = {f"lora_unet_{name}.": f"diffusion_model.{dotted(family, name)}." for name in pairs}
        renamed = {
            stems[name.partition(".")[0] + "."] + name.partition(".")[2]: one for name, one in load_file(source).items()
        }
        theirs = lora_conversion_utils._convert_non_diffusers_wan_lora_to_diffusers(renamed)
    found = deltas_in(source)
    assert {f"transformer.{path}.lora_{letter}.weight" for path in found for letter in "AB"} == set(theirs)
    for path, delta in found.items():
        down, up = (theirs[f"transformer.{path}.lora_{letter}.weight"] for letter in "AB")
        torch.testing.assert_close(delta, up @ down[:, :2], rtol=0, atol=1e-4)


def test_xlabs_names_are_flux_s(tmp_path: Path) -> None:
    stems = {
        "double_blocks.0.processor.qkv_lora1": (9216, 3072),
        "double_blocks.0.processor.proj_lora2": (3072, 3072),
        "single_blocks.0.processor.qkv_lora": (9216, 3072),
        "single_blocks.0.processor.proj_lora": (3072, 15360),
    }
    tensors = {}
    for stem, (outputs, inputs) in stems.items():
        tensors[f"{stem}.down.weight"], tensors[f"{stem}.up.weight"] = torch.randn(2, inputs), torch.randn(outputs, 2)
    save_file(tensors, tmp_path / "xlabs.safetensors")
    theirs = lora_conversion_utils._convert_xlabs_flux_lora_to_diffusers(dict(tensors))
    convert(tmp_path / "xlabs.safetensors", tmp_path / "new.safetensors", "diffusers")
    ours = load_file(tmp_path / "new.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())


def test_every_layer_keeps_its_bits_and_its_alpha(tmp_path: Path) -> None:
    down, up = torch.randn(4, 3072).bfloat16(), torch.randn(9216, 4).bfloat16()
    source = save_kohya_names(tmp_path / "kohya.safetensors", {"double_blocks_7_img_attn_qkv": (down, up)}, alpha=0.5)
    convert(source, tmp_path / "new.safetensors", "diffusers")
    written = load_file(tmp_path / "new.safetensors")
    for place, letter in enumerate("qkv"):
        stem = f"transformer.transformer_blocks.7.attn.to_{letter}"
        assert written[f"{stem}.lora_A.weight"].equal(down)
        assert written[f"{stem}.lora_B.weight"].equal(up[3072 * place : 3072 * (place + 1)])
    inspection = inspect(tmp_path / "new.safetensors")
    assert inspection.adapter is not None
    assert inspection.adapter.alphas == {0.5: 3}


def test_a_dora_s_magnitudes_are_divided_as_the_rows_are(tmp_path: Path) -> None:
    stem, magnitudes = "lora_unet_double_blocks_0_txt_attn_qkv", torch.rand(9216, 1)
    tensors = {f"{stem}.lora_down.weight": torch.randn(2, 3072), f"{stem}.lora_up.weight": torch.randn(9216, 2)}
    save_file(tensors | {f"{stem}.dora_scale": magnitudes}, tmp_path / "dora.safetensors")
    convert(tmp_path / "dora.safetensors", tmp_path / "peft", "peft")
    written = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    for place, letter in enumerate("qkv"):
        name = f"base_model.model.transformer_blocks.0.attn.add_{letter}_proj.lora_magnitude_vector"
        assert written[name].equal(magnitudes[3072 * place : 3072 * (place + 1), 0])


def test_what_two_families_call_differently_is_refused(tmp_path: Path) -> None:
    # Widths that both have, and no name that only one has.
    pairs = {"layers_0_attention_out": (torch.ones(1, 8), torch.ones(8, 1))}
    source = save_kohya_names(tmp_path / "either.safetensors", pairs)
    assert inspect(source).family == "Z-Image or Lumina 2"
    with pytest.raises(ReaderError, match=r"either.*otherwise in a Z-Image than in a Lumina 2 model"):
        convert(source, tmp_path / "new.safetensors", "diffusers")
    assert not (tmp_path / "new.safetensors").exists()


def test_the_first_and_last_layers_belong_to_what_stands_between_them(tmp_path: Path) -> None:
    # time_embedding is also a layer of Stable Diffusion's UNet.
    pairs = {
        "blocks_0_self_attn_q": (torch.ones(1, 1536), torch.ones(1536, 1)),
        "time_embedding_2": (torch.ones(1, 1536), torch.ones(1536, 1)),
    }
    source = save_kohya_names(tmp_path / "wan.safetensors", pairs)
    assert convert(source, tmp_path / "peft", "peft").layers == {"transformer": 2}


def test_an_original_name_in_a_file_with_diffusers_names_stays(tmp_path: Path) -> None:
    # Qwen-Image's txt_in is called so in both; FLUX.1's is context_embedder in diffusers.
    stems = {"transformer_blocks.0.img_mlp.net.2": (3072, 12288), "txt_in": (3072, 3584)}
    tensors = {}
    for stem, (outputs, inputs) in stems.items():
        tensors[f"diffusion_model.{stem}.lora_A.weight"] = torch.ones(1, inputs)
        tensors[f"diffusion_model.{stem}.lora_B.weight"] = torch.ones(outputs, 1)
    save_file(tensors, tmp_path / "qwen.safetensors")
    assert {layer.path for layer in read_adapter(tmp_path / "qwen.safetensors").layers} == set(stems)


@pytest.mark.parametrize("family", ["FLUX.1", "Wan 2.x", "Z-Image", "Lumina 2", "Stable Diffusion 3", "LTX-Video"])
@pytest.mark.parametrize("to", ["diffusers", "peft"])
def test_the_way_back_gives_the_same_bytes(tmp_path: Path, family: str, to: Format) -> None:
    source = save_kohya_names(
        tmp_path / "kohya.safetensors", pairs_for(family), 1.5, ss_base_model_version=declared(family)
    )
    there = tmp_path / ("there" if to == "peft" else "there.safetensors")
    convert(source, there, to)
    convert(there, tmp_path / "back.safetensors", "kohya")
    assert same_bits(load_file(tmp_path / "back.safetensors"), load_file(source))


def trained_with_diffusers(
    path: Path, ranks: dict[str, int], alphas: dict[str, float] | float, **settings: object
) -> Path:
    """Save a LoRA whose layers each have a first matrix of their own, as a training with diffusers gives it."""
    tensors = {}
    for number, (name, rank) in enumerate(ranks.items()):
        generator = torch.Generator().manual_seed(number)
        outputs = 12288 if name.endswith("proj_mlp") else 3072
        tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(rank, 3072, generator=generator)
        tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator)
    said = {"r": max(ranks.values()), "lora_alpha": 1, "rank_pattern": ranks, "alpha_pattern": alphas}
    metadata = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in said.items()})}
    save_file(tensors, path, metadata | {"ss_base_model_version": "flux1"})
    return path


SINGLE = "single_transformer_blocks.3"
QKV = [f"{SINGLE}.attn.to_{letter}" for letter in "qkv"]


@pytest.mark.parametrize("names", [[*QKV, f"{SINGLE}.proj_mlp"], QKV[:1], [QKV[2], f"{SINGLE}.proj_mlp"]])
def test_layers_that_become_one_add_the_same(tmp_path: Path, names: list[str]) -> None:
    ranks = {name: 2 * number for number, name in enumerate(names, start=1)}
    alphas = {name: 0.75 * rank for name, rank in ranks.items()}
    source = trained_with_diffusers(tmp_path / "diffusers.safetensors", ranks, alphas)
    convert(source, tmp_path / "kohya.safetensors", "kohya")
    written = load_file(tmp_path / "kohya.safetensors")
    stem = "lora_unet_single_blocks_3_linear1"
    assert set(written) == {f"{stem}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert len(written[f"{stem}.lora_down.weight"]) == sum(ranks.values())
    wanted, found = deltas_in(source), deltas_in(tmp_path / "kohya.safetensors")
    for name in [*QKV, f"{SINGLE}.proj_mlp"]:
        assert found[name].equal(wanted.get(name, torch.zeros_like(found[name])))


def test_layers_of_different_strength_cannot_become_one(tmp_path: Path) -> None:
    ranks = dict.fromkeys(QKV, 4)
    alphas = {name: float(number) for number, name in enumerate(ranks, start=1)}
    source = trained_with_diffusers(tmp_path / "diffusers.safetensors", ranks, alphas)
    with pytest.raises(ReaderError, match=r"are one layer in the model's own repository.*Converted to diffusers"):
        convert(source, tmp_path / "kohya.safetensors", "kohya")
    assert not (tmp_path / "kohya.safetensors").exists()
    convert(source, tmp_path / "again.safetensors", "diffusers")  # The advice works.


def test_a_layer_that_the_original_has_no_name_for_is_refused(tmp_path: Path) -> None:
    source = trained_with_diffusers(tmp_path / "odd.safetensors", {"pos_embed.proj": 2}, {"pos_embed.proj": 2.0})
    with pytest.raises(ReaderError, match=r"pos_embed.proj' is called.*not known"):
        convert(source, tmp_path / "kohya.safetensors", "kohya")


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize("to", [None, *FORMATS])
def test_a_transformer_takes_the_adapter_under_each_name(tmp_path: Path, to: Format | None, in_pipeline: bool) -> None:
    model = FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    down, up = torch.randn(2, 32), torch.randn(96, 2)
    source = save_kohya_names(
        tmp_path / "kohya.safetensors", {"double_blocks_0_img_attn_qkv": (down, up)}, 1.0, ss_base_model_version="flux1"
    )
    if to:
        convert(
            source, tmp_path / ("new" if to == "peft" else "new.safetensors"), "peft" if to == "peft" else "diffusers"
        )
        source = tmp_path / ("new" if to == "peft" else "new.safetensors")
    before = model.transformer_blocks[0].attn.to_k.weight.clone()
    nothing = dict.fromkeys(("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    merge(FluxPipeline(transformer=model, **nothing) if in_pipeline else model, source)
    added = model.transformer_blocks[0].attn.to_k.weight - before
    torch.testing.assert_close(added, 0.5 * up[32:64] @ down, rtol=0, atol=1e-5)


def test_a_lost_head_is_said_when_the_adapter_is_converted(tmp_path: Path) -> None:
    layer = "base_model.model.bert.encoder.layer.0.attention.self.query"
    (tmp_path / "old").mkdir()
    pair = {f"{layer}.lora_A.weight": torch.ones(2, 8), f"{layer}.lora_B.weight": torch.ones(8, 2)}
    save_file(pair, tmp_path / "old" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["query"], "task_type": "SEQ_CLS"}
    (tmp_path / "old" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "lacks the head" in " ".join(convert(tmp_path / "old", tmp_path / "new", "peft").remarks)
