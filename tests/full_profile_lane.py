"""What it takes to run a chapter on the full profile without the model hub.

A hub on 127.0.0.1 serves small random stand-ins under the real names, in the real formats, and a copy of the catalog
promises their sizes and hashes. Who uses it: ``test_full_profile_lane.py`` and ``colab/run_colab.py``.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from nbformat import NotebookNode
from stand_in_files import Files
from stand_in_hub import HubOfRepositories
from stand_in_stable_diffusion import STABLE_DIFFUSION, stable_diffusion
from stand_in_t5 import T5, t5
from stand_in_text_models import BERT, GPT2, bert, gpt2

from aigc_helpers.notebook import LoopbackHub
from aigc_helpers.paths import REPOSITORY
from aigc_helpers.publishing.builder import kernel_environment
from aigc_helpers.store import load_catalog
from aigc_helpers.store.catalog import CATALOG, AssetFile

_BERT_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
_GPT2_FILES = {"config.json", "model.safetensors"}
_PIPELINE_FILES = {
    "model_index.json",
    "safety_checker/model.fp16.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/model.fp16.safetensors",
    "tokenizer/merges.txt",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
}
# A chapter's number, and what it has to fetch from which repository.
FETCHED = {
    "02": {GPT2: {"config.json"}},
    "03": {BERT: _BERT_FILES, GPT2: _GPT2_FILES},
    "04": {BERT: _BERT_FILES},
    "05": {BERT: _BERT_FILES},
    "06": {GPT2: _GPT2_FILES | {"tokenizer.json"}},
    "07": {T5: {"config.json", "model.safetensors", "tokenizer.json"}},
    "09": {STABLE_DIFFUSION: _PIPELINE_FILES},
    "11": {STABLE_DIFFUSION: _PIPELINE_FILES},
}

# Chapters that compute in the device's number format: they call ``fit``, or load weights in it. The others of the lane
# compute in float32 wherever they run: 02 looks at files, 04 multiplies matrices of its own and counts bytes.
IN_THE_DEVICES_FORMAT = ("03", "05", "06", "07", "09", "11")

# Loops that take minutes however small the stand-ins are, and what stands there instead. Chapter 03 trains two models
# of its own, 06 an adapter for each of three forms, 07 four, 11 on 512 x 512 pixels, and it draws a hundred pictures.
SHORTENED = {
    "03": {"steps = 1500 if full_profile": "steps = 20 if full_profile"},
    "06": {"FitSettings(epochs=4,": "FitSettings(epochs=0.3,", "write(model, count=200,": "write(model, count=20,"},
    "07": {"epochs=4, with": "epochs=0.3, with", "(new_train, 4 * len(mixed)": "(new_train, 0.3 * len(mixed)"},
    "11": {
        "(20, 7.5) if full_profile": "(3, 7.5) if full_profile",
        "(512, 4, 1) if full_profile": "(64, 4, 1) if full_profile",
        "(prompts[:2], 75) if full_profile": "(prompts[:2], 5) if full_profile",
        "settings_for(150, batches": "settings_for(10, batches",
        "settings_for(80, batches": "settings_for(5, batches",
    },
}


def make_repositories(full_size: bool = False) -> dict[str, Files]:
    """Return the stand-ins of all repositories that the chapters fetch from, by name; in full size, 4 GB of them."""
    models = {BERT: bert, GPT2: gpt2, STABLE_DIFFUSION: stable_diffusion, T5: t5}
    return {name: make(full_size) for name, make in models.items()}


def pinned() -> list[tuple[str, str, tuple[AssetFile, ...]]]:
    """Return repository, commit and files of every asset that the catalog takes from the hub."""
    return [
        (source.where["repository"], source.where["revision"], asset.files)
        for asset in load_catalog()
        for source in asset.sources
        if source.kind == "hub"
    ]


def promising(catalog: str, repositories: dict[str, Files]) -> str:
    """Return the catalog's text with the sizes and hashes of the stand-ins; all else is as it is."""
    for repository, _, files in pinned():
        for file in files:
            content = repositories[repository][file.name]
            promised = f'size = {file.size}, sha256 = "{file.sha256}"'
            assert promised in catalog
            now = f'size = {len(content)}, sha256 = "{hashlib.sha256(content).hexdigest()}"'
            catalog = catalog.replace(promised, now)
    return catalog


def serving(repositories: dict[str, Files]) -> HubOfRepositories:
    """Begin to serve the repositories, also at the commits that the catalog names."""
    hubs = {name: LoopbackHub(name, files) for name, files in repositories.items()}
    for repository, commit, _ in pinned():
        if repository in hubs:
            hubs[repository].commits[commit] = repositories[repository]
    return HubOfRepositories(hubs.values())


def copy_book(folder: Path, repositories: dict[str, Files]) -> Path:
    """Copy the workbook into ``folder``; its catalog promises the stand-ins' sizes and hashes, all else is as it is."""
    for name in ("aigc_helpers", "data", "chapters/exercises", "chapters/claims"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("hubconf.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    catalog = CATALOG.read_text(encoding="utf-8")
    (folder / CATALOG.relative_to(REPOSITORY)).write_text(promising(catalog, repositories), encoding="utf-8")
    return folder


def environment_of(hub: HubOfRepositories, book: Path, home: Path, profile: str = "full") -> dict[str, str]:
    """Return a kernel's environment: a profile, the copy of the book, and the hub instead of the real one."""
    return kernel_environment(
        AIGC_PROFILE=profile,
        AIGC_HOME=str(home / "store"),
        HF_ENDPOINT=hub.address,
        HF_HOME=str(home / "hub"),
        HF_HUB_CACHE=str(home / "hub"),
        HF_HUB_OFFLINE="0",
        HF_TOKEN="",
        NO_PROXY="127.0.0.1",
        no_proxy="127.0.0.1",
        PYTHONPATH=str(book),
    )


def shorten(number: str, notebook: NotebookNode) -> None:
    """Shorten, in place, the loops of chapter ``number`` that ``SHORTENED`` names."""
    for long, short in SHORTENED.get(number, {}).items():
        (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and long in cell.source]
        cell.source = cell.source.replace(long, short)
