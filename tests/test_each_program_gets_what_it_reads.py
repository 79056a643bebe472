"""Another program's folder gets a file only if that program reads it, and every advice works.

A language model's LoRA among those of pictures, or FLUX.1's in A1111's web UI, is listed there and does nothing.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from small_weight_files import Tensors, dotted_lora, inspect_saved, kohya_lora, loha, text, zeros

from aigc_helpers import convert, inspect
from aigc_helpers.errors import ReaderError
from aigc_helpers.store import LAYOUTS, InstalledFile, install_file, install_folder

SIGNS = {"a1111": "models/Stable-diffusion", "forge": "models/Stable-diffusion", "comfyui": "models/checkpoints"}


def lora(prefix: str, outputs: int, inputs: int, down: str = ".lora_A", up: str = ".lora_B") -> Tensors:
    return {f"{prefix}{down}.weight": zeros(4, inputs), f"{prefix}{up}.weight": zeros(outputs, 4)}


LTX = lora("transformer.transformer_blocks.0.attn1.to_q", 2048, 2048)
FLUX = lora("lora_unet_double_blocks_0_img_mod_lin", 18432, 3072, ".lora_down", ".lora_up")
LLAMA = lora("base_model.model.model.layers.0.self_attn.q_proj", 64, 64)
NOBODYS = lora("base_model.model.some.layer", 8, 8)
FLUX_IN_ONE = {
    f"model.diffusion_model.{name}": zeros(3, 3)
    for name in ("double_blocks.0.img_mod.lin.weight", "single_blocks.0.linear1.weight", "vector_in.in_layer.weight")
} | {"vae.encoder.conv_in.weight": zeros(3, 3)}
CONTROLNET = {"controlnet_cond_embedding.conv_in.weight": zeros(3, 3)}
IP_ADAPTER = {"image_proj.proj.weight": zeros(3, 3), "ip_adapter.1.to_k_ip.weight": zeros(3, 3)}
T2I_ADAPTER = {"adapter.conv_in.weight": zeros(3, 3), "adapter.body.0.resnets.0.block1.weight": zeros(3, 3)}
UPSCALER = {"params_ema.conv_first.weight": zeros(3, 3), "params_ema.body.0.rdb1.conv1.weight": zeros(3, 3)}
FACE_ID = {"image_proj.norm.weight": zeros(3), "ip_adapter.1.to_k_ip.weight": zeros(3, 3)} | {
    f"ip_adapter.0.to_q_lora.{part}.weight": zeros(3, 3) for part in ("down", "up")
}
CONTROL_LORA = {"lora_controlnet": zeros(1), "input_hint_block.0.weight": zeros(3, 3)}
CLIP_VISION = {"vision_model.encoder.layers.0.mlp.fc1.weight": zeros(3, 3), "visual_projection.weight": zeros(3, 3)}
MLX = {f"model.layers.0.self_attn.q_proj.lora_{letter}": zeros(8, 8) for letter in "ab"}
IA3 = {"base_model.model.bert.encoder.layer.0.attention.self.key.ia3_l": zeros(3, 1)}
FLUX_WORD = {"clip_l": zeros(2, 768), "t5": zeros(2, 4096)}
# Nothing tells the family of a rotation's blocks; that it is no UNet's, the names do.
FLUX_OFT = {f"oft_unet_single_blocks_29_linear1.oft_blocks.{number}": zeros(8, 8) for number in range(4)}
REFUSED = None


def install_to(tmp_path: Path, tensors: Tensors, layout: str) -> InstalledFile:
    source, program = tmp_path / "some.safetensors", tmp_path / layout
    (program / SIGNS[layout]).mkdir(parents=True, exist_ok=True)
    save_file(tensors, source)
    return install_file(source, layout=layout, to=program)


@pytest.mark.parametrize(
    ("tensors", "a1111", "forge", "comfyui"),
    [
        (kohya_lora(768), "models/Lora", "models/Lora", "models/loras"),
        (FLUX, REFUSED, "models/Lora", "models/loras"),
        (LTX, REFUSED, REFUSED, "models/loras"),
        (LLAMA, REFUSED, REFUSED, REFUSED),
        (NOBODYS, REFUSED, REFUSED, REFUSED),
        (FLUX_IN_ONE, REFUSED, "models/Stable-diffusion", "models/checkpoints"),
        (CONTROLNET, "models/ControlNet", "models/ControlNet", "models/controlnet"),
        (T2I_ADAPTER, "models/ControlNet", "models/ControlNet", "models/controlnet"),
        (IP_ADAPTER, "models/ControlNet", "models/ControlNet", "models/ipadapter"),
        (FACE_ID, "models/ControlNet", "models/ControlNet", "models/ipadapter"),
        (CONTROL_LORA, "models/ControlNet", "models/ControlNet", "models/controlnet"),
        (CLIP_VISION, REFUSED, REFUSED, "models/clip_vision"),
        (MLX, REFUSED, REFUSED, REFUSED),
        (IA3, REFUSED, REFUSED, REFUSED),
        (FLUX_WORD, REFUSED, "embeddings", "models/embeddings"),
        (FLUX_OFT, REFUSED, REFUSED, "models/loras"),
        (UPSCALER, "models/ESRGAN", "models/ESRGAN", "models/upscale_models"),
    ],
)
def test_each_program_gets_what_it_reads(
    tmp_path: Path, tensors: Tensors, a1111: str | None, forge: str | None, comfyui: str | None
) -> None:
    for layout, folder in {"a1111": a1111, "forge": forge, "comfyui": comfyui}.items():
        if folder is None:
            with pytest.raises(ReaderError, match="was not installed"):
                install_to(tmp_path, tensors, layout)
            assert not list((tmp_path / layout).rglob("*.safetensors"))
        else:
            assert install_to(tmp_path, tensors, layout).path == tmp_path / layout / folder / "some.safetensors"


@pytest.mark.parametrize("tensors", [FLUX, LTX, FLUX_IN_ONE])
def test_the_program_that_a_refusal_names_takes_the_file(tmp_path: Path, tensors: Tensors) -> None:
    with pytest.raises(ReaderError, match="does not draw with") as caught:
        install_to(tmp_path, tensors, "a1111")
    named = [layout for layout in LAYOUTS if f"the layout {layout}," in str(caught.value)]
    assert named
    for layout in named:
        install_to(tmp_path, tensors, layout)


def gguf_file(path: Path, values: dict[str, str], name: str) -> Path:
    content = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    content += b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in values.items())
    content += text(name) + struct.pack("<IQQIQ", 2, 8, 4, 0, 0)
    path.write_bytes(content + bytes(-len(content) % 32) + bytes(128))
    return path


def test_an_adapter_of_llama_cpp_s_is_for_no_program_that_draws(tmp_path: Path) -> None:
    values = {"general.architecture": "llama", "general.type": "adapter"}
    file = gguf_file(tmp_path / "some.gguf", values, "blk.0.attn_q.weight.lora_a")
    for layout, sign in SIGNS.items():
        (tmp_path / layout / sign).mkdir(parents=True)
        with pytest.raises(ReaderError, match="has no place for a file of this kind"):
            install_file(file, layout=layout, to=tmp_path / layout)


@pytest.mark.parametrize(
    ("architecture", "name", "kind", "family", "folder"),
    [
        ("flux", "double_blocks.0.img_mod.lin.weight", "diffusion transformer", "FLUX.1 or Chroma", "diffusion_models"),
        ("wan", "blocks.0.cross_attn.k.weight", "diffusion transformer", "Wan 2.x", "diffusion_models"),
        ("t5encoder", "enc.blk.0.attn_q.weight", "text encoder", "T5", "clip"),
        ("llama", "blk.0.attn_q.weight", "full checkpoint", "Llama", None),
    ],
)
def test_gguf_s_that_draw_go_where_comfyui_s_extension_looks(
    tmp_path: Path, architecture: str, name: str, kind: str, family: str, folder: str | None
) -> None:
    file = gguf_file(tmp_path / "some.gguf", {"general.architecture": architecture}, name)
    assert (inspect(file).kind, inspect(file).family) == (kind, family)
    (tmp_path / "comfyui" / SIGNS["comfyui"]).mkdir(parents=True)
    if folder is None:
        with pytest.raises(ReaderError, match="has no place"):
            install_file(file, layout="comfyui", to=tmp_path / "comfyui")
    else:
        done = install_file(file, layout="comfyui", to=tmp_path / "comfyui")
        assert done.path.parent.name == folder
        assert "ComfyUI-GGUF" in " ".join(done.remarks)


def test_who_is_told_to_convert_can_and_nobody_else_is_told(tmp_path: Path) -> None:
    diffusers = dotted_lora("unet.", ".lora_A.weight", ".lora_B.weight")
    for tensors, told in ((diffusers, True), (kohya_lora(768), False), (loha(768), False), (LTX, False)):
        installed = install_to(tmp_path, tensors, "comfyui")
        assert any("--to kohya" in remark for remark in installed.remarks) == told
        if told:
            convert(installed.path, tmp_path / "as_kohya.safetensors", "kohya")
        installed.path.unlink()


def test_what_an_extension_reads_is_said_to_need_it(tmp_path: Path) -> None:
    assert "sd-webui-controlnet" in " ".join(install_to(tmp_path, CONTROLNET, "a1111").remarks)
    assert install_to(tmp_path, CONTROLNET, "forge").remarks == ()
    assert "ComfyUI_IPAdapter_plus" in " ".join(install_to(tmp_path, IP_ADAPTER, "comfyui").remarks)


@pytest.mark.parametrize(
    ("widths", "family"),
    [
        ({"text_encoders_0": 768, "text_encoders_1": 1280}, "Stable Diffusion XL"),
        ({"clip_l": 768, "clip_g": 1280}, "Stable Diffusion XL"),
        ({"clip_l": 768, "t5": 4096}, "FLUX.1"),
        ({"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}, "Stable Diffusion 3"),
        ({"clip_l": 8, "clip_g": 9}, None),
    ],
)
def test_words_of_several_encoders_are_textual_inversions(
    tmp_path: Path, widths: dict[str, int], family: str | None
) -> None:
    tensors = {name: zeros(2, width) for name, width in widths.items()}
    inspection = inspect_saved(tmp_path, tensors)
    assert (inspection.kind, inspection.family) == ("textual inversion", family)
    installed = install_to(tmp_path, tensors, "comfyui")
    assert installed.path.parent.name == "embeddings"
    assert any("they find none" in remark for remark in installed.remarks) == ("text_encoders_0" in widths)


def test_a_hypernetwork_is_named_and_where_it_would_go(tmp_path: Path) -> None:
    pairs = {width: tuple({"linear.0.weight": torch.zeros(2, 2)} for _ in "kv") for width in (320, 768)}
    torch.save(pairs | {"step": 5, "name": "some", "layer_structure": [1, 2, 1]}, tmp_path / "some.pt")
    inspection = inspect(tmp_path / "some.pt")
    assert (inspection.kind, inspection.tensors, inspection.parameters) == ("hypernetwork", 4, 16)
    with pytest.raises(ReaderError, match="it is a hypernetwork.*models/hypernetworks"):
        install_file(tmp_path / "some.pt")


def test_numbered_words_of_embeddings_keep_their_numbers(tmp_path: Path) -> None:
    tensors = {"text_encoders_0": np.ones((2, 768), "f4"), "text_encoders_1": np.ones((2, 1280), "f4")}
    save_file(tensors, tmp_path / "embeddings.pti")
    (tmp_path / "comfyui" / SIGNS["comfyui"]).mkdir(parents=True)
    done = install_file(tmp_path / "embeddings.pti", layout="comfyui", to=tmp_path / "comfyui")
    assert done.path.name == "embeddings.safetensors"
    assert done.path.read_bytes() == (tmp_path / "embeddings.pti").read_bytes()


def test_no_message_names_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    (tmp_path / "old").mkdir()
    (tmp_path / "comfyui" / SIGNS["comfyui"]).mkdir(parents=True)
    torch.save({name: torch.from_numpy(one) for name, one in LLAMA.items()}, tmp_path / "old" / "adapter_model.bin")
    (tmp_path / "old" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}', encoding="utf-8")
    with pytest.raises(ReaderError, match="has no place for a folder of this kind") as refused:
        install_folder(tmp_path / "old", layout="comfyui", to=tmp_path / "comfyui")
    assert str(refused.value).startswith(f"{tmp_path / 'old'} was not installed")


def test_who_is_told_which_program_reads_a_rotation_for_flux_is_not_told_a1111(tmp_path: Path) -> None:
    save_file(FLUX_OFT, tmp_path / "oft.safetensors")
    with pytest.raises(ReaderError, match=r"\. ComfyUI loads it as it is \(models/loras\)"):
        convert(tmp_path / "oft.safetensors", tmp_path / "new", "peft")
