"""A folder may hold a model in whole precision and as a variant: each is one model, both are named, and one is taken.

The index of the variant sorts before the other one, so that whoever takes the first takes half precision unasked.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aigc_helpers import inspect, install
from aigc_helpers.cli import main
from aigc_helpers.errors import ReaderError
from aigc_helpers.store import install_any

# The shards' names, and the index's, of the libraries' versions.
PLAIN = ("diffusion_pytorch_model-0000{}-of-00002.safetensors", "diffusion_pytorch_model.safetensors.index.json")
OLD = (
    "diffusion_pytorch_model-0000{}-of-00002.fp16.safetensors",
    "diffusion_pytorch_model.safetensors.fp16.index.json",
)
NEW = (
    "diffusion_pytorch_model.fp16-0000{}-of-00002.safetensors",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    return tmp_path / "store"


def shards(folder: Path, names: tuple[str, str], dtype: torch.dtype) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    places = {}
    for number in (1, 2):
        layer = f"joint_transformer_blocks.{number}.attn.to_q.weight"
        save_file({layer: torch.ones(8, 8, dtype=dtype)}, folder / names[0].format(number))
        places[layer] = names[0].format(number)
    (folder / names[1]).write_text(json.dumps({"metadata": {}, "weight_map": places}), encoding="utf-8")
    (folder / "config.json").write_text('{"_class_name": "AuraFlowTransformer2DModel"}', encoding="utf-8")
    return folder / names[1]


@pytest.mark.parametrize("names", [OLD, NEW])
def test_a_variant_alone_is_what_there_is(tmp_path: Path, store: Path, names: tuple[str, str]) -> None:
    shards(tmp_path / "model", names, torch.float16)
    inspection = inspect(tmp_path / "model")
    assert (inspection.tensors, inspection.dtypes, inspection.family) == (2, {"F16": 2}, "AuraFlow")
    assert "variant='fp16'" in " ".join(inspection.remarks)
    assert {path.name for path in install(tmp_path / "model").iterdir()} >= {names[0].format(2), names[1]}


@pytest.mark.parametrize("names", [OLD, NEW])
def test_of_both_the_whole_precision_is_read_and_the_other_is_named(
    tmp_path: Path, store: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    shards(tmp_path / "model", PLAIN, torch.float32)
    index = shards(tmp_path / "model", names, torch.float16)
    inspection = inspect(tmp_path / "model")
    assert inspection.dtypes == {"F32": 2}
    (remark,) = inspection.remarks
    assert f"fp16 ({index})" in remark and f"Read was {PLAIN[1]}" in remark
    # What the remark says to do.
    assert inspect(index).dtypes == {"F16": 2}
    assert main(["install", str(index)]) == 0
    (line, *_) = capsys.readouterr().out.splitlines()
    installed = Path(line.partition("installed: ")[2])
    names_there = {path.name for path in installed.iterdir()}
    assert names_there == {names[0].format(1), names[0].format(2), names[1], "config.json"}
    assert inspect(installed).dtypes == {"F16": 2}


def test_a_folder_with_both_is_installed_with_both(tmp_path: Path, store: Path) -> None:
    shards(tmp_path / "model", PLAIN, torch.float32)
    shards(tmp_path / "model", NEW, torch.float16)
    installed = install_any(tmp_path / "model")
    assert {path.name for path in installed.path.iterdir()} == {path.name for path in (tmp_path / "model").iterdir()}


def test_a_component_s_variant_is_named_too(tmp_path: Path) -> None:
    shards(tmp_path / "pipeline" / "transformer", PLAIN, torch.float32)
    shards(tmp_path / "pipeline" / "transformer", NEW, torch.float16)
    index = {"_class_name": "AuraFlowPipeline", "transformer": ["diffusers", "AuraFlowTransformer2DModel"]}
    (tmp_path / "pipeline" / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    inspection = inspect(tmp_path / "pipeline")
    assert inspection.dtypes == {"F32": 2}
    assert "fp16" in " ".join(inspection.remarks)


@pytest.mark.parametrize("single", ["diffusion_pytorch_model.safetensors", "consolidated.safetensors"])
def test_one_file_beside_the_variant_s_shards(tmp_path: Path, single: str) -> None:
    index = shards(tmp_path / "model", OLD, torch.float16)
    save_file({"joint_transformer_blocks.1.attn.to_q.weight": torch.ones(8, 8)}, tmp_path / "model" / single)
    usual = single.startswith("diffusion")
    assert inspect(tmp_path / "model").dtypes == ({"F32": 1} if usual else {"F16": 2})
    assert inspect(index).dtypes == {"F16": 2}


def test_a_variant_in_one_file_is_named(tmp_path: Path) -> None:
    for name in ("model.safetensors", "model.fp16.safetensors"):
        dtype = torch.float16 if "fp16" in name else torch.float32
        save_file({"h.0.attn.c_attn.weight": torch.ones(4, 4, dtype=dtype)}, tmp_path / name)
    inspection = inspect(tmp_path)
    assert inspection.dtypes == {"F32": 1}
    assert str(tmp_path / "model.fp16.safetensors") in " ".join(inspection.remarks)


def test_an_incomplete_variant_is_a_fault_only_of_whoever_asks_for_it(tmp_path: Path) -> None:
    shards(tmp_path / "model", PLAIN, torch.float32)
    index = shards(tmp_path / "model", NEW, torch.float16)
    (tmp_path / "model" / NEW[0].format(2)).unlink()
    assert inspect(tmp_path / "model").dtypes == {"F32": 2}
    with pytest.raises(ReaderError, match=r"fp16-00002.*is not there"):
        inspect(index)


def test_a_lora_in_variants_is_converted_from_the_one_that_is_named(tmp_path: Path) -> None:
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    for name, dtype in (("pytorch_lora_weights", torch.float32), ("pytorch_lora_weights.fp16", torch.float16)):
        pair = {f"{layer}.lora_A.weight": torch.ones(2, 768), f"{layer}.lora_B.weight": torch.ones(320, 2)}
        save_file({key: tensor.to(dtype) for key, tensor in pair.items()}, tmp_path / f"{name}.safetensors")
    for source, dtype in ((tmp_path, "F32"), (tmp_path / "pytorch_lora_weights.fp16.safetensors", "F16")):
        assert main(["convert", str(source), str(tmp_path / dtype / "new.safetensors"), "--to", "kohya"]) == 0
        assert inspect(tmp_path / dtype / "new.safetensors").dtypes == {dtype: 3}
