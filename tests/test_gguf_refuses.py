"""What cannot be said in GGUF, or for that base, is refused by name with the way out, and nothing is written.

llama.cpp itself says no more than "failed to load", or loads half of an adapter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from gguf_models import read_tensors, tiny, trained, write_base
from safetensors.torch import load_file, save_file
from tiny_models import change_settings

from aigc_helpers import convert, inspect, load_adapter
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.formats import copy_gguf, write_gguf
from aigc_helpers.lora import merge_gguf
from aigc_helpers.paths import DATA

SEPIA = DATA / "loras" / "sepia.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny Llama."""
    folder = tmp_path_factory.mktemp("base")
    tiny("llama").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same model in GGUF."""
    return write_base(tiny("llama"), tmp_path_factory.mktemp("gguf") / "base.gguf")


def adapter_of(folder: Path, kind: str = "llama", sizes: dict[str, Any] | None = None, **chosen: Any) -> Path:
    trained(tiny(kind, **(sizes or {})), folder / "adapter", **chosen)
    return folder / "adapter"


ADAPTERS: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "is a DoRA.*aigc merge .*there they count"),
    "biases": ({"bias": "lora_only"}, "more than LoRA's matrices .*bias"),
    "a module of its own": ({"modules_to_save": ["norm"]}, "more than LoRA's matrices .*modules_to_save"),
    "new words": ({"trainable_token_indices": [1, 2]}, "more than LoRA's matrices .*trainable_token_indices"),
    "an embedding": ({"target_modules": ["embed_tokens", "q_proj"]}, "LoRA on an embedding"),
    "other widths": ({"sizes": {"hidden_size": 32}}, r"is not for .*is 32 × 96 in the adapter and 64 × 96 there"),
    "other heads": ({"sizes": {"num_key_value_heads": 4}}, "k_proj' is 64 × 64 in the adapter and 32 × 64 there"),
    "more blocks": ({"sizes": {"num_hidden_layers": 3}}, "has no layer 'model.layers.2"),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_gguf_cannot_hold_or_the_base_not_take(tmp_path: Path, base: Path, name: str) -> None:
    chosen, message = ADAPTERS[name]
    adapter = adapter_of(tmp_path, **chosen)
    (tmp_path / "old.gguf").write_bytes(b"what was there")
    with pytest.raises(ReaderError, match=f"(?s){message}"):
        convert(adapter, tmp_path / "old.gguf", "gguf", base)
    assert (tmp_path / "old.gguf").read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "old.gguf"]


def test_a_last_layer_that_is_the_table_of_words(tmp_path: Path) -> None:
    model = tiny("llama", tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "base")
    gguf = write_base(model, tmp_path / "base.gguf")
    trained(model, tmp_path / "adapter", target_modules=["lm_head", "q_proj"])
    for known in (tmp_path / "base", gguf):
        with pytest.raises(ReaderError, match=r"has no layer 'lm_head' of its own.*tied"):
            convert(tmp_path / "adapter", tmp_path / "new.gguf", "gguf", known)


def not_llama(folder: Path) -> Path:
    return DATA / "poet"


def nothing_said(folder: Path) -> Path:
    save_file({"some.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    return folder / "model.safetensors"


def an_adapter(folder: Path) -> Path:
    write_gguf(folder / "some.gguf", "llama", {"general.type": "adapter"}, {"a": np.zeros((1, 1), np.float32)})
    return folder / "some.gguf"


def another_architecture(folder: Path) -> Path:
    write_gguf(folder / "some.gguf", "gemma3", {}, {"a": np.zeros((1, 1), np.float32)})
    return folder / "some.gguf"


def no_heads(folder: Path) -> Path:
    write_gguf(folder / "some.gguf", "llama", {}, {"a": np.zeros((1, 1), np.float32)})
    return folder / "some.gguf"


def endless_blocks(folder: Path) -> Path:
    sizes = {"llama.block_count": 2**31, "llama.attention.head_count": 4}
    write_gguf(folder / "some.gguf", "llama", sizes, {"a": np.zeros((1, 1), np.float32)})
    return folder / "some.gguf"


def odd_heads(folder: Path) -> Path:
    sizes = {"llama.block_count": 2, "llama.attention.head_count": 7}
    write_gguf(folder / "some.gguf", "llama", sizes, read_tensors(write_base(tiny("llama"), folder / "base.gguf")))
    (folder / "base.gguf").unlink()
    return folder / "some.gguf"


def no_sizes(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": "many"}', encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_llama, "a model of the kind 'gpt2'.*llama, mistral, qwen2, qwen3.*convert_lora_to_gguf.py"),
        (nothing_said, "no config.json beside the weights"),
        (an_adapter, "is no model but 'adapter'"),
        (another_architecture, "a model of the kind 'gemma3'"),
        (no_heads, "does not say how many heads"),
        (endless_blocks, "does not say how many heads"),
        (odd_heads, "says that 'blk.0.attn_[kq]' has 7 heads"),
        (no_sizes, "config.json is not one that transformers takes"),
    ],
)
def test_a_base_of_which_too_little_is_known(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    (tmp_path / "known").mkdir()
    with pytest.raises(ReaderError, match=f"(?s){message}"):
        convert(adapter_of(tmp_path), tmp_path / "new.gguf", "gguf", make(tmp_path / "known"))
    assert not (tmp_path / "new.gguf").exists()


def test_the_base_that_the_adapter_names_is_looked_for_on_this_machine(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, new = adapter_of(tmp_path), tmp_path / "new.gguf"
    for name in ("somebody/a-model", "/no/such/folder", "a\0b", "x" * 5000):
        change_settings(adapter, base_model_name_or_path=name)
        with pytest.raises(ReaderError, match="not on this machine.*Name that model as the base"):
            convert(adapter, new, "gguf")
    change_settings(adapter, base_model_name_or_path=None)
    with pytest.raises(ReaderError, match="does not say which model.*Name that model as the base"):
        convert(adapter, new, "gguf")
    change_settings(adapter, base_model_name_or_path=str(base))
    convert(adapter, new, "gguf")
    of_folder = new.read_bytes()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--somebody--a-model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes((base / "config.json").read_bytes())  # Transformers' cache may hold no more.
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    change_settings(adapter, base_model_name_or_path="somebody/a-model")
    convert(adapter, new, "gguf")
    assert new.read_bytes() == of_folder


def test_a_lora_for_pictures_is_for_no_language_model(tmp_path: Path, base: Path, gguf: Path) -> None:
    for call in (
        lambda: convert(SEPIA, tmp_path / "new.gguf", "gguf"),
        lambda: convert(SEPIA, tmp_path / "new.gguf", "gguf", base),
        lambda: merge_gguf(SEPIA, tmp_path / "new.gguf", gguf),
    ):
        with pytest.raises(ReaderError, match="for a model that draws .unet.*language model.*Converted to peft"):
            call()


def test_a_target_that_is_no_file_of_its_own(tmp_path: Path, base: Path, gguf: Path) -> None:
    adapter = adapter_of(tmp_path)
    for target in (tmp_path / "new", tmp_path / "new.safetensors"):
        with pytest.raises(ReaderError, match="does not end with .gguf"):
            convert(adapter, target, "gguf", base)
        with pytest.raises(ReaderError, match="does not end with .gguf"):
            merge_gguf(adapter, target, gguf)
    (tmp_path / "folder.gguf" / "inside").mkdir(parents=True)
    with pytest.raises(ReaderError, match="A folder lies there: choose another name"):
        convert(adapter, tmp_path / "folder.gguf", "gguf", base)
    before = gguf.read_bytes()
    with pytest.raises(ReaderError, match="is, or holds, the base"):
        convert(adapter, gguf, "gguf", gguf)
    with pytest.raises(ReaderError, match="is the base itself"):
        merge_gguf(adapter, gguf, gguf)
    assert gguf.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_called_so(tmp_path: Path, base: Path, gguf: Path) -> None:
    import resource

    adapter = adapter_of(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(ReaderError, match="could not write .*free some space"):
            convert(adapter, tmp_path / "new.gguf", "gguf", base)
        with pytest.raises(ReaderError, match="could not write .*free some space"):
            merge_gguf(adapter, tmp_path / "new.gguf", gguf)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_gguf_is_a_way_without_return(tmp_path: Path, base: Path, gguf: Path) -> None:
    adapter = adapter_of(tmp_path)
    convert(adapter, tmp_path / "new.gguf", "gguf", base)
    convert(adapter, adapter / "adapter.gguf", "gguf", base)  # With PEFT's settings beside it.
    for made in (tmp_path / "new.gguf", adapter / "adapter.gguf", gguf):
        for to, target in (("peft", "folder"), ("kohya", "a.safetensors"), ("gguf", "a.gguf")):
            with pytest.raises(ReaderError, match="is GGUF.*Use the PEFT folder"):
                convert(made, tmp_path / target, to)
        with pytest.raises(ReaderError, match="is GGUF.*Use the PEFT folder"):
            load_adapter(tiny("llama"), made)
        with pytest.raises(ReaderError, match="is GGUF.*Use the PEFT folder"):
            merge_gguf(made, tmp_path / "merged.gguf", gguf)


def test_a_merge_needs_one_whole_file_that_can_be_read(tmp_path: Path, base: Path, gguf: Path) -> None:
    adapter, target = adapter_of(tmp_path), tmp_path / "merged.gguf"
    with pytest.raises(ReaderError, match="is no GGUF file.*convert_hf_to_gguf.py"):
        merge_gguf(adapter, target, base)
    with pytest.raises(UnknownNameError, match="no dtype to merge into 'q4_0'. Valid: "):
        merge_gguf(adapter, target, gguf, "q4_0")
    split = {"llama.block_count": 2, "llama.attention.head_count": 4, "split.count": 3}
    write_gguf(tmp_path / "split.gguf", "llama", split, {"a": np.zeros((1, 1), np.float32)})
    with pytest.raises(ReaderError, match="one of several files.*llama-gguf-split"):
        merge_gguf(adapter, target, tmp_path / "split.gguf")
    odd = {"llama.block_count": 1, "llama.attention.head_count": 1}
    write_gguf(tmp_path / "odd.gguf", "llama", odd, {"blk.0.attn_q.weight": np.zeros((48, 48), np.float32)})
    narrow = {"hidden_size": 48, "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1}
    trained(tiny("llama", **narrow), tmp_path / "narrow", target_modules=["q_proj"])
    with pytest.raises(ReaderError, match="have 48 numbers, and Q8_0 stores them by 32. Choose F16"):
        merge_gguf(tmp_path / "narrow", target, tmp_path / "odd.gguf", "q8_0")
    assert merge_gguf(tmp_path / "narrow", target, tmp_path / "odd.gguf").kept == 0
    target.unlink()
    empty = tmp_path / "empty.gguf"
    writer = GGUFWriter(empty, "llama")
    writer.add_key_value("nested", [[1], [2]], *GGUFReader(gguf).fields["tokenizer.ggml.tokens"].types[:1])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ReaderError, match="the key 'nested' is an empty array or one of arrays"):
        copy_gguf(empty, target, {}, "F16")
    assert not target.exists()


def test_half_an_adapter_goes_nowhere_and_one_that_diverged_is_not_merged(tmp_path: Path, gguf: Path) -> None:
    adapter = adapter_of(tmp_path)
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up" not in name}, file)
    for call in (
        lambda: merge_gguf(adapter, tmp_path / "merged.gguf", gguf),
        lambda: convert(adapter, tmp_path / "new.gguf", "gguf", gguf),
    ):
        with pytest.raises(ReaderError, match="was trained on 14 layers of this model and has matrices for 13"):
            call()
    for name, number, message in (
        ("nan", float("nan"), "NaN or infinite"),
        ("zero", 0.0, "changes no output"),
        ("large", 1e6, "that F16 has no place for"),
    ):
        save_file({key: torch.full_like(tensor, number) for key, tensor in tensors.items()}, file)
        with pytest.raises(ReaderError, match=message):
            merge_gguf(adapter, tmp_path / f"{name}.gguf", gguf)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    settings = adapter / "adapter_config.json"
    settings.unlink()
    save_file(tensors, file)
    with pytest.raises(ReaderError, match="adapter_config.json is missing"):
        merge_gguf(adapter, tmp_path / "merged.gguf", gguf)


def test_inspect_says_what_it_is_and_who_takes_it(tmp_path: Path, base: Path, gguf: Path) -> None:
    adapter = adapter_of(tmp_path, lora_alpha=16, rank_pattern={"q_proj": 2}, alpha_pattern={"q_proj": 3})
    convert(adapter, tmp_path / "new.gguf", "gguf", base)
    found = inspect(tmp_path / "new.gguf", bases=[gguf, base])
    assert (found.container, found.kind, found.family, found.key_format) == ("GGUF", "LoRA", "Llama", "llama.cpp")
    assert found.adapter is not None
    assert (found.adapter.modules, found.adapter.ranks, found.adapter.alphas) == (14, {2: 2, 4: 12}, {16.0: 14})
    assert found.adapter.layers == {
        "blk": dict.fromkeys(["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"], 2)
    }
    told = " ".join(found.remarks)
    assert "llama.cpp" in told and "Ollama by a line ADAPTER" in told and "aigc merge" in told
    compatible = {each.model: each.compatible for each in found.compatibility}
    assert compatible[str(gguf)] and not compatible[str(base)]


def test_a_last_layer_in_gguf_is_not_taken_for_mlx(tmp_path: Path) -> None:
    model = tiny("llama")
    model.save_pretrained(tmp_path / "base")
    trained(model, tmp_path / "adapter", target_modules=["lm_head"])
    convert(tmp_path / "adapter", tmp_path / "new.gguf", "gguf", tmp_path / "base")
    found = inspect(tmp_path / "new.gguf")
    assert found.kind == "LoRA" and found.adapter is not None and found.adapter.modules == 1


def test_the_commands_tell_what_they_did(
    tmp_path: Path, base: Path, gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = adapter_of(tmp_path, use_rslora=True, alpha_pattern={"q_proj": 3})
    assert main(["convert", str(adapter), str(tmp_path / "new.gguf"), "--to", "gguf", "--base", str(base)]) == 0
    told = capsys.readouterr().out
    for words in ("14 of the model", "Llama", "new.gguf", "Rank-stabilised", "one alpha for all layers"):
        assert words in told
    merged = str(tmp_path / "merged.gguf")
    assert main(["merge", str(adapter), merged, "--base", str(gguf), "--dtype", "q8_0"]) == 0
    told = capsys.readouterr().out
    for words in ("14 tensors, stored as Q8_0", "7 tensors, byte by byte", "takes at most ", merged):
        assert words in told
    assert main(["merge", str(adapter), merged, "--base", str(tmp_path / "gone.gguf")]) == 2
    assert "no file or folder" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "gone"), merged, "--base", str(gguf)]) == 2
    assert main(["convert", str(adapter), str(tmp_path / "peft"), "--to", "gguf", "--base", str(base)]) == 1
    assert "does not end with .gguf" in capsys.readouterr().err
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["use_rslora"]
