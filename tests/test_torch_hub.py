"""``torch.hub.load`` gives the embedded models from this repository, and a stranger's repository runs only on trust.

A hubconf.py is a program: whoever installs from PyTorch Hub must know that it runs, and say so.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aigc_helpers.errors import ReaderError
from aigc_helpers.paths import DATA, REPOSITORY
from aigc_helpers.store.torch_hub import fetch_from_torch_hub

HUBCONF = """
import torch
dependencies = ["torch"]

def tied():
    "A model whose head is its embedding."
    open({canary!r}, "w").close()
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(dict(embed=torch.nn.Embedding(3, 4), head=torch.nn.Linear(4, 3)))
    model["head"].weight = model["embed"].weight
    return model

def text():
    return "no model"

def broken():
    raise KeyError("weights are gone")
"""


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Return the file that the hubconf.py of a strange repository creates once it runs."""
    return tmp_path / "canary"


@pytest.fixture
def strange(tmp_path: Path, canary: Path) -> Path:
    """Return a repository's folder."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF.format(canary=str(canary)), encoding="utf-8")
    return folder


@pytest.fixture
def downloaded(tmp_path: Path, strange: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a GitHub repository that torch.hub has in its cache already, so that no network is asked."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    shutil.copytree(strange, tmp_path / "torch" / "hub" / "stranger_repository_v1")
    return "stranger/repository:v1"


@pytest.mark.parametrize(("entry", "kind"), [("poet", "GPT2LMHeadModel"), ("clip", "CLIPModel")])
def test_this_repository_serves_its_models(entry: str, kind: str) -> None:
    model = torch.hub.load(str(REPOSITORY), entry, source="local", trust_repo=True)
    assert type(model).__name__ == kind and not model.training
    stored = load_file(DATA / entry / "model.safetensors")
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor.to(found[name].dtype)) for name, tensor in stored.items())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_it_serves_the_pipeline() -> None:
    pipeline = torch.hub.load(str(REPOSITORY), "sd", source="local", trust_repo=True)
    assert type(pipeline).__name__ == "StableDiffusionPipeline"
    assert {model.dtype for model in (pipeline.unet, pipeline.vae, pipeline.text_encoder)} == {torch.float32}


def test_its_entries_are_listed_with_help_and_loaded_by_the_name_on_github(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "someone_workbook_v1").mkdir(parents=True)
    shutil.copy(REPOSITORY / "hubconf.py", tmp_path / "hub" / "someone_workbook_v1")
    entries = torch.hub.list("someone/workbook:v1", trust_repo=True, verbose=False)
    assert sorted(entries) == ["bert", "clip", "poet", "sd"]
    for entry in entries:
        assert torch.hub.help("someone/workbook:v1", entry, trust_repo=True).startswith("Return ")
    model = torch.hub.load("someone/workbook:v1", "clip", trust_repo=True, verbose=False)
    assert type(model).__name__ == "CLIPModel"


def test_a_folder_s_model_becomes_safetensors_tied_weights_and_all(tmp_path: Path, strange: Path) -> None:
    target = tmp_path / "model.safetensors"
    fetch_from_torch_hub(str(strange), "tied", target, trusted=False)
    found = load_file(target)
    assert sorted(found) == ["embed.weight", "head.bias", "head.weight"]
    assert torch.equal(found["embed.weight"], found["head.weight"])


def test_a_repository_from_the_network_runs_only_on_trust(tmp_path: Path, downloaded: str, canary: Path) -> None:
    target = tmp_path / "model.safetensors"
    with pytest.raises(ReaderError, match="would download stranger/repository:v1 and run its hubconf.py"):
        fetch_from_torch_hub(downloaded, "tied", target, trusted=False)
    assert not canary.exists() and not target.exists()
    fetch_from_torch_hub(downloaded, "tied", target, trusted=True)
    assert canary.exists() and len(load_file(target)) == 3


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("text", "gives no model but an object of type str"),
        ("broken", "KeyError: 'weights are gone'"),
        ("absent", "could not give absent of"),
    ],
)
def test_what_is_no_model_is_refused_by_its_fault(tmp_path: Path, strange: Path, entry: str, words: str) -> None:
    with pytest.raises(ReaderError, match=words):
        fetch_from_torch_hub(str(strange), entry, tmp_path / "model.safetensors", trusted=False)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_folder_without_a_hubconf_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="has no hubconf.py"):
        fetch_from_torch_hub(str(tmp_path), "tied", tmp_path / "model.safetensors", trusted=True)
