"""Classes that training programs leave beside the tensors make no file unsafe, and are not imported either.

Every Stable Diffusion 1 checkpoint names Lightning's ModelCheckpoint, and the first textual inversions a ParameterDict.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_weight_files import torch_zip

from aigc_helpers import inspect, install
from aigc_helpers.errors import ReaderError
from aigc_helpers.formats import convert_torch_file


def class_of_a_module_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> type:
    parts = module.split(".")
    for number in range(len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[: number + 1]), types.ModuleType(parts[number]))
    found = type(name, (), {"__module__": module})
    setattr(sys.modules[module], name, found)
    return found


@pytest.mark.parametrize("package", ["pytorch_lightning", "lightning.pytorch"])
@pytest.mark.parametrize(
    ("module", "name"), [("model_checkpoint", "ModelCheckpoint"), ("early_stopping", "EarlyStopping")]
)
def test_lightning_s_callbacks_beside_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, module: str, name: str
) -> None:
    weight = "model.diffusion_model.out.2.weight"
    with monkeypatch.context() as while_saving:
        callback = class_of_a_module_that_is_not_installed(while_saving, f"{package}.callbacks.{module}", name)
        state = {weight: torch.arange(6.0)}
        torch.save({"state_dict": state, "callbacks": {callback: {"best": None}}}, tmp_path / "some.ckpt")
    assert f"would import {name}" in " ".join(inspect(tmp_path / "some.ckpt").remarks)
    convert_torch_file(tmp_path / "some.ckpt", tmp_path / "some.safetensors")
    assert torch.equal(load_file(tmp_path / "some.safetensors")[weight], torch.arange(6.0))
    assert f"{package}.callbacks" not in sys.modules


def test_settings_beside_the_tensors(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a.weight": torch.ones(2)}, "args": argparse.Namespace(rate=1)}, tmp_path / "some.pt")
    remarks = convert_torch_file(tmp_path / "some.pt", tmp_path / "some.safetensors")
    assert load_file(tmp_path / "some.safetensors")["a.weight"].tolist() == [1, 1]
    assert "'args'" in " ".join(remarks)


def test_what_a_parameter_dict_holds_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "home"))
    word = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.arange(1536.0).reshape(2, 768))})
    content = {"string_to_token": {"*": 265}, "string_to_param": word, "name": "some"}
    for legacy in (True, False):
        path = tmp_path / f"{'legacy' if legacy else 'zip'}.pt"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        inspection = inspect(path)
        assert (inspection.kind, inspection.family) == ("textual inversion", "Stable Diffusion 1.x")
        tensors = load_file(install(path))
        assert list(tensors) == ["string_to_param.*"]
        assert torch.equal(tensors["string_to_param.*"], word["*"])


def test_several_legacy_dictionaries_share_their_class(tmp_path: Path) -> None:
    some = {name: torch.nn.ParameterDict({"w": torch.full((2,), value)}) for name, value in (("a", 1.0), ("b", 2.0))}
    # More than 256 values before them, so that their class is kept under a number of two bytes.
    before = {f"n{number}": torch.ones(1) for number in range(200)}
    torch.save(before | some, tmp_path / "some.pt", _use_new_zipfile_serialization=False)
    convert_torch_file(tmp_path / "some.pt", tmp_path / "some.safetensors")
    tensors = load_file(tmp_path / "some.safetensors")
    assert tensors["a.w"].tolist() == [1, 1] and tensors["b.w"].tolist() == [2, 2]
    assert len(tensors) == 202


@pytest.mark.parametrize(
    "module",
    [
        "pytorch_lightning.utilities.parsing",
        "lightning.pytorch.utilities.parsing",
        "lightning_fabric.utilities.data",
        "lightning.fabric.utilities.data",
    ],
)
@pytest.mark.parametrize("legacy", [True, False])
def test_lightning_s_settings_beside_the_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, legacy: bool
) -> None:
    weight = "model.diffusion_model.out.2.weight"
    with monkeypatch.context() as while_saving:
        parts = module.split(".")
        for number in range(len(parts)):
            while_saving.setitem(sys.modules, ".".join(parts[: number + 1]), types.ModuleType(parts[number]))
        settings = type("AttributeDict", (dict,), {"__module__": module})
        sys.modules[module].AttributeDict = settings
        content = {"state_dict": {weight: torch.arange(6.0)}, "hyper_parameters": settings(rate=1, of={"a": [2]})}
        torch.save(content, tmp_path / "some.ckpt", _use_new_zipfile_serialization=not legacy)
    assert "would import AttributeDict" in " ".join(inspect(tmp_path / "some.ckpt").remarks)
    convert_torch_file(tmp_path / "some.ckpt", tmp_path / "some.safetensors")
    assert torch.equal(load_file(tmp_path / "some.safetensors")[weight], torch.arange(6.0))
    assert module not in sys.modules


def test_a_legacy_class_that_is_not_inert_is_refused_as_before(tmp_path: Path) -> None:
    torch.save({"a": torch.nn.Linear(1, 1)}, tmp_path / "some.pt", _use_new_zipfile_serialization=False)
    for look in (inspect, install):
        with pytest.raises(ReaderError, match=r"unsafe.*torch\.nn\.modules\.linear\.Linear"):
            look(tmp_path / "some.pt")


class _Harm:
    def __reduce__(self) -> tuple:
        return exec, ("raise SystemExit",)


def test_beside_them_harm_is_refused_as_before(tmp_path: Path) -> None:
    for number, content in enumerate((argparse.Namespace(harm=_Harm()), {"a": torch.ones(2), "harm": _Harm()})):
        path = tmp_path / f"{number}.pt"
        torch.save({"args": content}, path)
        for look in (inspect, install):
            with pytest.raises(ReaderError, match=r"unsafe.*'builtins\.exec'|unsafe.*'__builtin__\.exec'"):
                look(path)


def test_a_stand_in_called_with_anything_does_nothing(tmp_path: Path) -> None:
    class Called:
        def __reduce__(self) -> tuple:
            return argparse.Namespace, ("rm -rf", 7)

    torch_zip(tmp_path / "some.pt", {"args": Called()})
    with pytest.raises(ReaderError, match="holds no named tensors"):
        convert_torch_file(tmp_path / "some.pt", tmp_path / "some.safetensors")
