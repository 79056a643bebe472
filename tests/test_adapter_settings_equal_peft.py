"""Rank, alpha and layers of an adapter are what PEFT would make of the same settings, and every command says the same.

Patterns in a file are regular expressions. Taken in any other way than PEFT's, an adapter comes out at another strength
than it was trained at, and nobody is told. Taken as they stand, one of them can stop a machine for hours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from peft import LoraConfig
from peft.functional import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import save_file

from aigc_helpers import inspect
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.inspection import patterns, strengths, targeted
from aigc_helpers.inspection.adapter_settings import DEFAULT_ALPHA, DEFAULT_RANK
from aigc_helpers.lora import convert
from aigc_helpers.lora.adapter import read_adapter

NAMES = [
    "proj_out",
    "blocks.0.proj_out",
    "blocks.1.proj_out",
    "blocks.10.proj_out",
    "blocks.1.attn.to_q",
    "blocks.1.attn.to_out.0",
    "xblocks.1.attn.to_q",
    "blocks_1.attn.to_q",
    "encoder.layers.3.experts.0.to_q",
]
PARTS = ["^", "$", ".*", r"\.", ".", r"\d+", "blocks", "proj_out", "to_q", "attn", "1", "0", "x?", "(a|b)?", "_", "|"]
PATTERNS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).map(lambda name: f"^{name}"),
    st.sampled_from(NAMES).map(lambda name: name.replace(".", r"\.")),
    st.sampled_from(NAMES).map(lambda name: name.partition(".")[2] or name),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("".join),
)
HOSTILE = r"(([a-z0-9._]+)+)+!"


def model(names: list[str] = NAMES) -> torch.nn.Module:
    """Return a model with a layer under each name."""
    root = torch.nn.Module()
    for name in names:
        *path, last = name.split(".")
        inner = root
        for word in path:
            if not hasattr(inner, word):
                inner.add_module(word, torch.nn.Module())
            inner = getattr(inner, word)
        inner.add_module(last, torch.nn.Linear(2, 2))
    return root


def of_peft(chosen: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """Return the rank and the scale that PEFT itself gives to each layer."""
    config = LoraConfig(target_modules=NAMES, **chosen)
    injected = inject_adapter_in_model(config, model(), low_cpu_mem_usage=True)
    return {
        name: (layer.r["default"], layer.scaling["default"])
        for name, layer in injected.named_modules()
        if isinstance(layer, LoraLayer)
    }


@contextmanager
def matched_here() -> Iterator[None]:
    """Match every pattern in this process: those of these tests take no time, and a child takes some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "is_plain", lambda pattern: True)
        yield


def test_a_child_process_finds_what_this_one_finds() -> None:
    tried = [r"blocks\.\d+\.proj_out", "(a|p).*out", "x?blocks.1.attn.to_q", "nothing", r"[^.]*\.3(\..*)?"]
    for form, whole in ((r"(.*\.)?({})$", False), ("{}", True), ("{}", False)):
        # Another file, for what has been found for the same one is remembered.
        child = patterns.first_matches(tried, NAMES, f"{form}{whole}", form, whole=whole)
        with matched_here():
            assert patterns.first_matches(tried, NAMES, f"again {form}{whole}", form, whole=whole) == child
        assert any(number is not None for number in child)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::FutureWarning")
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.one_of(st.integers(0, 9), st.floats(0.25, 9)),
    st.dictionaries(PATTERNS, st.integers(1, 9), max_size=3),
    st.dictionaries(PATTERNS, st.one_of(st.integers(0, 9), st.floats(0.25, 9)), max_size=3),
    st.booleans(),
)
def test_rank_and_alpha_are_pefts(
    rank: int, alpha: float, ranks: dict[str, int], alphas: dict[str, float], use_rslora: bool
) -> None:
    chosen = {"r": rank, "lora_alpha": alpha, "rank_pattern": ranks, "alpha_pattern": alphas, "use_rslora": use_rslora}
    with matched_here():
        found = strengths(chosen, NAMES, "the file")
    wanted = of_peft(chosen)
    assert {name: one.rank for name, one in found.items()} == {name: one for name, (one, _) in wanted.items()}
    for name, (_, scale) in wanted.items():
        assert found[name].alpha / found[name].rank == pytest.approx(scale, rel=1e-12)


def test_what_the_settings_leave_out_is_pefts_own_default() -> None:
    assert (LoraConfig().r, LoraConfig().lora_alpha) == (DEFAULT_RANK, DEFAULT_ALPHA)
    assert set(strengths({"peft_type": "LORA"}, NAMES, "")) == set(NAMES)
    assert strengths({}, NAMES, "") == {}


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.lists(PATTERNS, min_size=1, max_size=3), st.lists(st.sampled_from(PARTS), min_size=1).map("".join)),
    st.one_of(st.none(), PATTERNS, st.lists(PATTERNS, max_size=2)),
    st.one_of(st.none(), st.integers(0, 10), st.lists(st.integers(0, 10), max_size=3)),
    st.one_of(st.none(), st.sampled_from(["blocks", "layers"]), st.just(["blocks", "experts"])),
    st.one_of(st.none(), st.lists(st.sampled_from(["proj_out", "attn", "blocks.1"]), max_size=2)),
)
def test_the_layers_that_were_trained_are_pefts(targets, excluded, numbers, layers_pattern, kept) -> None:
    chosen = {"target_modules": targets, "exclude_modules": excluded, "modules_to_save": kept}
    if isinstance(targets, list):
        chosen |= {"layers_to_transform": numbers, "layers_pattern": layers_pattern if numbers is not None else None}
    config = LoraConfig(**chosen)
    wanted = {name for name in NAMES if check_target_module_exists(config, name)}
    with matched_here():
        assert targeted(chosen, NAMES, "the file") == wanted


def folder(path: Path, layers: list[str] = NAMES, rank: int = 4, **chosen: Any) -> Path:
    """Write an adapter as PEFT does, with these settings."""
    path.mkdir()
    tensors = {}
    for name in layers:
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.ones(rank, 2)
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.ones(2, rank)
    save_file(tensors, path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": layers} | chosen
    (path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("chosen", "alphas"),
    [
        ({"alpha_pattern": {"^proj_out": 8}}, {4.0: 8, 8.0: 1}),
        ({"alpha_pattern": {"proj_out": 8}}, {4.0: 5, 8.0: 4}),
        ({"alpha_pattern": {r"blocks\.1\.proj_out": 8}}, {4.0: 8, 8.0: 1}),
        ({"alpha_pattern": {r"blocks\.\d+\.(proj_out|attn\..*)": 8}}, {4.0: 4, 8.0: 5}),
        ({"use_rslora": True}, {8.0: 9}),
        ({"use_rslora": True, "alpha_pattern": {"^proj_out": 1}}, {2.0: 1, 8.0: 8}),
        ({"lora_alpha": 0}, {0.0: 9}),
    ],
)
def test_report_and_converter_say_the_same_alphas(tmp_path: Path, chosen: dict, alphas: dict[float, int]) -> None:
    source = folder(tmp_path / "source", **chosen)
    assert inspect(source).adapter.alphas == alphas
    converted = convert(source, tmp_path / "converted", "peft")
    assert converted.alphas == alphas
    # And what is written says it again, to PEFT as well.
    assert inspect(tmp_path / "converted").adapter.alphas == alphas
    written = json.loads((tmp_path / "converted" / "adapter_config.json").read_text(encoding="utf-8"))
    scales = of_peft({key: written[key] for key in ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora")})
    read = {layer.path: layer.alpha / layer.rank for layer in read_adapter(source).layers}
    assert {name: scale for name, (_, scale) in scales.items()} == read


def test_names_that_differ_in_a_dot_keep_their_own_alphas(tmp_path: Path) -> None:
    layers = ["blocks.1.to_q", "blocks_1.to_q", "blocks.1.to.q"]
    source = folder(tmp_path / "source", layers, alpha_pattern={r"blocks\.1\.to_q": 1, r"blocks_1\.to_q": 2})
    convert(source, tmp_path / "converted", "peft")
    for path in (source, tmp_path / "converted"):
        alphas = {layer.path: layer.alpha for layer in read_adapter(path).layers}
        assert alphas == {"blocks.1.to_q": 1, "blocks_1.to_q": 2, "blocks.1.to.q": 4}


def test_a_rank_that_is_not_that_of_the_matrices_is_said(tmp_path: Path) -> None:
    source = folder(tmp_path / "source", r=2)
    assert "says rank 2, the matrices have [4]" in " ".join(inspect(source).remarks)
    with pytest.raises(ReaderError, match="the rank 2, and its matrices have 4"):
        convert(source, tmp_path / "converted", "peft")


BROKEN = {
    "no expression": ({"alpha_pattern": {"(": 1}}, "is no regular expression"),
    "flags": ({"alpha_pattern": {"(?i)proj": 1}}, "is no regular expression"),
    "too long": ({"rank_pattern": {"a" * 1001: 1}}, "1,001 characters"),
    "no object": ({"alpha_pattern": ["proj_out"]}, "must be an object"),
    "alpha": ({"alpha_pattern": {"proj_out": "many"}}, "no number"),
    "infinite strength": ({"alpha_pattern": {"proj_out": 1e299}}, "no number, or one that no training has"),
    "rank": ({"rank_pattern": {"proj_out": -1}}, "whole number above 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_setting_that_cannot_be_followed_is_a_sentence(tmp_path: Path, name: str, capsys) -> None:
    chosen, message = BROKEN[name]
    source = folder(tmp_path / "source", **chosen)
    with pytest.raises(ReaderError, match=message):
        convert(source, tmp_path / "converted", "peft")
    assert not (tmp_path / "converted").exists()
    inspection = inspect(source)
    assert inspection.adapter.alphas == {}
    assert any(message in remark for remark in inspection.remarks)
    assert main(["convert", str(source), str(tmp_path / "converted"), "--to", "peft"]) == 1
    assert message in capsys.readouterr().err


def test_a_pattern_that_would_run_for_hours_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 1)
    source = folder(tmp_path / "source", [f"{'a' * 60}.proj"], alpha_pattern={HOSTILE: 1})
    with pytest.raises(ReaderError, match="can be an attack"):
        convert(source, tmp_path / "converted", "peft")
    assert any("can be an attack" in remark for remark in inspect(source).remarks)


def test_many_plain_names_stay_quick() -> None:
    names = [f"blocks.{number}.attentions.0.transformer_blocks.0.attn1.to_q" for number in range(700)]
    chosen = {"alpha_pattern": {f"^{name}": number for number, name in enumerate(names)}}
    start = time.process_time()
    assert [one.alpha for one in strengths(chosen, names, "the file").values()] == list(range(700))
    assert time.process_time() - start < 2


def test_settings_of_one_component_are_not_those_of_another(tmp_path: Path) -> None:
    tensors = {}
    for component, layer in (("unet", "conv_in"), ("text_encoder", "encoder.layers.0.mlp.fc1")):
        tensors[f"{component}.{layer}.lora_A.weight"] = torch.ones(4, 2)
        tensors[f"{component}.{layer}.lora_B.weight"] = torch.ones(2, 4)
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(tensors, path, {"lora_adapter_metadata": json.dumps({"text_encoder.r": 4, "text_encoder.lora_alpha": 1})})
    assert {layer.component: layer.alpha for layer in read_adapter(path).layers} == {"unet": 4.0, "text_encoder": 1.0}
    assert inspect(path).adapter.alphas == {1.0: 1}
    save_file(tensors, path, {"lora_adapter_metadata": "{"})
    with pytest.raises(ReaderError, match="no JSON"):
        read_adapter(path)
    assert any("no JSON" in remark for remark in inspect(path).remarks)
