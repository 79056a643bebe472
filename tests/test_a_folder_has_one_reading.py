"""A folder is one adapter for everybody: what convert writes, inspect, install, load_adapter and convert read alike."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from lora_files import TEXT_LAYER, UNET_CONVOLUTION, UNET_LINEAR, make, save_kohya, tensors_in
from peft import LoraConfig, get_peft_model
from safetensors.numpy import save_file

from aigc_helpers import convert, inspect, install, load_adapter
from aigc_helpers.errors import ReaderError
from aigc_helpers.images import load_pipeline, save_picture_adapter
from aigc_helpers.inspection import adapter_of, read_contents
from aigc_helpers.lora.adapter import read_adapter
from aigc_helpers.paths import DATA
from aigc_helpers.text import load_poet, save_adapter

UNET = [make("unet", UNET_LINEAR, (160, 128), 4, 8.0), make("unet", UNET_CONVOLUTION, (96, 96, 3, 3), 2, 1.0)]
TEXT = [make("text_encoder", TEXT_LAYER, (128, 128), 4, 3.0)]
FILES = {"adapter_config.json", "adapter_model.safetensors"}
READERS: dict[str, Callable[[Path], object]] = {
    "inspect": inspect,
    "install": install,
    "convert": lambda folder: convert(folder, folder.with_name("again.safetensors"), "kohya"),
    "load_adapter": lambda folder: load_adapter(load_pipeline(), folder),
}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save_kohya(tmp_path / "both.safetensors", [*UNET, *TEXT])


@pytest.fixture
def parts(source: Path, tmp_path: Path) -> Path:
    convert(source, tmp_path / "parts", "peft")
    return tmp_path / "parts"


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_report_says_what_the_loader_loads(parts: Path, source: Path) -> None:
    told, loaded = inspect(parts), load_adapter(load_pipeline(), parts)
    assert (told.container, told.kind, told.family) == ("PEFT folder", "LoRA", "Stable Diffusion in miniature")
    assert told.adapter is not None
    assert told.adapter.modules == sum(loaded.layers.values()) == 3
    assert (told.adapter.ranks, told.adapter.alphas) == (loaded.ranks, loaded.alphas)
    assert told.adapter.alphas == inspect(source).adapter.alphas == {1.0: 1, 3.0: 1, 8.0: 1}
    assert [one.model for one in told.compatibility if one.compatible] == ["sd (embedded)"]


def test_it_is_installed_as_a_whole_and_read_from_there(parts: Path, store: Path, source: Path) -> None:
    folder = install(parts)
    assert folder == store / "loras" / "parts"
    assert names_in(folder) == {f"{part}/{name}" for part in ("unet", "text_encoder") for name in FILES}
    convert(folder, parts.with_name("back.safetensors"), "kohya")
    again = tensors_in(parts.with_name("back.safetensors"))
    assert {name: again[name].tolist() for name in again} == {
        name: tensor.tolist() for name, tensor in tensors_in(source).items()
    }


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("other", ["adapter_model.safetensors", "adapter_config.json", "model_index.json"])
def test_two_readings_are_refused_with_both_names(reader: str, other: str, parts: Path) -> None:
    if other == "model_index.json":
        (parts / other).write_text("{}", encoding="utf-8")
    else:
        shutil.copyfile(DATA / "film_adapter" / other, parts / other)
    with pytest.raises(ReaderError, match=f"read in two ways: .*{other}.* unet and text_encoder. Name the one"):
        READERS[reader](parts)


def test_what_the_refusal_advises_works(parts: Path) -> None:
    for name in FILES:
        shutil.copyfile(DATA / "film_adapter" / name, parts / name)
    assert inspect(parts / "adapter_model.safetensors").family == "BERT"
    assert convert(parts / "unet", parts.with_name("unet.safetensors"), "kohya").layers == {"unet": 2}


@pytest.mark.parametrize("component", ["unet", "text_encoder", "text_encoder_2", "transformer"])
def test_a_folders_name_says_the_component_to_report_and_loader_alike(component: str, tmp_path: Path) -> None:
    path = UNET_LINEAR if component == "unet" else TEXT_LAYER
    stem = f"base_model.model.{path if component != 'transformer' else 'transformer_blocks.0.attn.to_q'}"
    folder = tmp_path / component
    folder.mkdir()
    tensors = {f"{stem}.lora_A.weight": np.ones((4, 8), "f4"), f"{stem}.lora_B.weight": np.ones((8, 4), "f4")}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "lora_alpha": 4}', encoding="utf-8")
    reported = adapter_of(read_contents(folder))
    assert reported is not None
    assert [module.component for module in reported.modules] == [component]
    assert set(read_adapter(folder).components) == {component}


def test_a_language_model_is_none_wherever_its_adapter_lies(tmp_path: Path) -> None:
    folder = shutil.copytree(DATA / "tune_adapter", tmp_path / "transformer")
    assert set(read_adapter(folder).components) == {""}
    assert any(one.compatible and one.model.startswith("poet") for one in inspect(folder).compatibility)


def test_nothing_of_an_older_conversion_is_left(parts: Path, tmp_path: Path) -> None:
    alone = save_kohya(tmp_path / "alone.safetensors", UNET)
    convert(alone, parts, "peft")
    assert names_in(parts) == FILES and not (parts / "unet").exists()
    assert load_adapter(load_pipeline(), parts).layers == {"unet": 2}
    convert(alone, parts, "diffusers")
    assert names_in(parts) == {"pytorch_lora_weights.safetensors"}
    convert(tmp_path / "both.safetensors", parts, "peft")
    assert inspect(parts).adapter.modules == 3


@pytest.mark.parametrize(
    "other", ["README.md", "unet/notes.txt", "unet/unet/adapter_config.json", "logs/adapter_config.json"]
)
@pytest.mark.parametrize("to", ["peft", "diffusers"])
def test_a_folder_with_something_else_in_it_is_not_replaced(to: str, other: str, parts: Path, source: Path) -> None:
    (parts / other).parent.mkdir(parents=True, exist_ok=True)
    (parts / other).write_text("{}", encoding="utf-8")
    before = names_in(parts)
    with pytest.raises(ReaderError, match=f"holds '{other}', which no conversion writes.*Name another one"):
        convert(source, parts, to)
    assert names_in(parts) == before


def trained_poet(folder: Path) -> None:
    model = get_peft_model(load_poet()[1], LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True))
    save_adapter(model, folder)


def trained_look(folder: Path) -> None:
    pipeline = load_pipeline()
    pipeline.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"]))
    save_picture_adapter(pipeline, folder)


def downloaded(folder: Path) -> None:
    shutil.copytree(DATA / "film_adapter", folder, ignore=shutil.ignore_patterns("README.md"))


def damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"cut off")


def without_weights(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


def one_of_two(folder: Path) -> None:
    convert(save_kohya(folder.with_suffix(".safetensors"), [*UNET, *TEXT]), folder, "peft")
    shutil.copyfile(DATA / "film_adapter" / "adapter_model.safetensors", folder / "unet" / "adapter_model.safetensors")


@pytest.mark.parametrize("make", [trained_poet, trained_look, downloaded, damaged, without_weights, one_of_two])
@pytest.mark.parametrize("to", ["peft", "diffusers"])
def test_what_was_trained_or_downloaded_is_not_replaced(
    to: str, make: Callable[[Path], None], tmp_path: Path, source: Path
) -> None:
    make(tmp_path / "mine")
    before = {name: (tmp_path / "mine" / name).read_bytes() for name in names_in(tmp_path / "mine")}
    with pytest.raises(ReaderError, match=r"mine holds '.*', which no conversion wrote: .* is not replaced.*Name ano"):
        convert(source, tmp_path / "mine", to)
    assert {name: (tmp_path / "mine" / name).read_bytes() for name in names_in(tmp_path / "mine")} == before


def test_a_file_is_not_converted_into_itself(source: Path) -> None:
    before = source.read_bytes()
    with pytest.raises(ReaderError, match="is, or holds, what is to be converted"):
        convert(source, source, "diffusers")
    assert source.read_bytes() == before


@pytest.mark.parametrize("inner", ["", "unet"])
def test_the_source_is_never_replaced(inner: str, parts: Path) -> None:
    before = names_in(parts)
    with pytest.raises(ReaderError, match="is, or holds, what is to be converted"):
        convert(parts / inner, parts, "peft")
    assert names_in(parts) == before


def test_what_a_disk_refuses_leaves_the_older_folder_whole(parts: Path, tmp_path: Path) -> None:
    before = {name: (parts / name).read_bytes() for name in names_in(parts)}
    alone = save_kohya(tmp_path / "alone.safetensors", UNET)
    full = OSError(28, "No space left on device")
    with mock.patch("safetensors.torch.save_file", side_effect=full), pytest.raises(ReaderError, match="disk is full"):
        convert(alone, parts, "peft")
    assert {name: (parts / name).read_bytes() for name in names_in(parts)} == before


def test_a_pickle_in_such_a_folder_stays_the_components(tmp_path: Path, source: Path) -> None:
    import torch

    convert(source, tmp_path / "new", "peft")
    folder = tmp_path / "old" / "text_encoder"
    shutil.copytree(tmp_path / "new" / "text_encoder", folder)
    torch.save(tensors_in(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    assert convert(folder, tmp_path / "mended", "diffusers").layers == {"text_encoder": 1}


def test_each_file_is_opened_once_for_all_its_alphas(source: Path) -> None:
    opened = []
    plain = Path.open

    def count(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path)
        return plain(path, *arguments, **options)

    several = save_kohya(
        source, [make("unet", f"down_blocks.0.attentions.{n}.proj_in", (8, 8), 4, n + 1) for n in range(40)]
    )
    with mock.patch.object(Path, "open", count):
        inspect(several)
    assert opened.count(several) <= 4


def test_a_cell_that_converts_may_be_run_twice(source: Path, tmp_path: Path) -> None:
    way = [source, tmp_path / "in_diffusers.safetensors", tmp_path / "in_peft", tmp_path / "again.safetensors"]
    for _ in range(2):
        for start, end, to in zip(way[:-1], way[1:], ("diffusers", "peft", "kohya"), strict=True):
            convert(start, end, to)
    assert inspect(way[-1]).adapter == inspect(source).adapter


def test_what_would_have_two_readings_is_not_written(tmp_path: Path) -> None:
    def pair(stem: str) -> dict[str, np.ndarray]:
        return {f"{stem}.lora_A.weight": np.ones((4, 8), "f4"), f"{stem}.lora_B.weight": np.ones((8, 4), "f4")}

    save_file(pair(f"unet.{UNET_LINEAR}") | pair("decoder.layers.0.fc1"), tmp_path / "mixed.safetensors")
    with pytest.raises(ReaderError, match="for unet and for a model of its own as well"):
        convert(tmp_path / "mixed.safetensors", tmp_path / "new", "peft")
    assert not (tmp_path / "new").exists()
