"""Small real files, changed at random: each is read, or refused in one sentence within five seconds.

The changes come from seeds, so a finding can be found again. ``test_inspect_survives_any_bytes`` searches further, with
other bytes in each run; here is what lies behind ``inspect``, too: installing, converting, settings, bundles, pictures.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from lora_files import TEXT_LAYER, UNET_CONVOLUTION, UNET_LINEAR, make, save_kohya
from PIL import Image
from safetensors.torch import load_file, save_file
from small_weight_files import diffusers_folder, gguf

from aigc_helpers import convert, inspect, install
from aigc_helpers.errors import ReaderError
from aigc_helpers.images.captioned_pictures import read_captioned_pictures
from aigc_helpers.store.bundles import install_bundle

pytestmark = pytest.mark.slow

SECONDS = 5
TRIES = 250
Look = Callable[[Path], object]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    return tmp_path / "store"


def answered(look: Look, path: Path) -> bool:
    """Return whether there was an answer; a refusal is one sentence, in time, and nothing else is raised."""
    begun = time.process_time()
    try:
        look(path)
    except ReaderError as error:
        assert str(error).strip() and "\n" not in str(error)
        return False
    finally:
        assert time.process_time() - begun < SECONDS
    return True


# --- bytes -----------------------------------------------------------------------------------------------------------

# Lengths, counts and offsets of formats: none, one, and what overflows.
NUMBERS = [number.to_bytes(size, "little") for size in (1, 2, 4, 8) for number in (0, 1, 127, 2 ** (8 * size - 1))]
NUMBERS += [b"\xff" * size for size in (1, 2, 4, 8)]


def changed(content: bytes, dice: random.Random) -> bytes:
    """Change bytes as damage and attacks do: bits, numbers, pieces that are lost, doubled or moved, and a cut."""
    changed = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        # Headers stand at the beginning or at the end.
        anywhere, in_front, behind = dice.randrange(len(changed)), dice.randrange(200), -1 - dice.randrange(99)
        place = dice.choice([anywhere, in_front, behind]) % len(changed)
        length = dice.choice([1, 4, 8, 30])
        kind = dice.randrange(6)
        if kind == 0:
            changed[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            number = dice.choice(NUMBERS)
            changed[place : place + len(number)] = number
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place:place] = dice.randbytes(length)
        else:
            other = dice.randrange(len(changed))
            changed[place : place + length] = changed[other : other + length]
        if not changed:
            return b""
    return bytes(changed[: dice.randrange(len(changed))] if dice.random() < 0.1 else changed)


def lora() -> dict[str, torch.Tensor]:
    stem = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    return {f"{stem}.lora_A.weight": torch.ones(2, 4), f"{stem}.lora_B.weight": torch.ones(4, 2)}


def safetensors_file(path: Path) -> None:
    save_file(lora(), path, {"lora_adapter_metadata": '{"unet.r": 2, "unet.lora_alpha": 4}', "ss_tag_frequency": "{}"})


def torch_file(path: Path, *, legacy: bool = False) -> None:
    content = {"state_dict": lora(), "epoch": 3, "words": torch.nn.ParameterDict({"*": torch.ones(3)})}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def keras_file(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["bert/encoder/layer_._0/attention/self/query/kernel:0"] = np.ones((3, 4), "f4")
        file["bert/encoder/layer_._0/attention/self/query/bias:0"] = np.ones(4, "f4")
        file["bert"].attrs["weight_names"] = np.array([b"kernel:0", b"bias:0"])


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "safetensors": ("safetensors", safetensors_file),
    "torch zip": ("pt", torch_file),
    "torch row": ("bin", lambda path: torch_file(path, legacy=True)),
    "GGUF": ("gguf", lambda path: path.write_bytes(gguf())),
    "HDF5": ("h5", keras_file),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_weight_file_is_inspected_and_installed_or_refused(kind: str, tmp_path: Path) -> None:
    suffix, write = FILES[kind]
    write(tmp_path / f"sound.{suffix}")
    content = (tmp_path / f"sound.{suffix}").read_bytes()
    dice = random.Random(kind)
    for number in range(TRIES):
        path = tmp_path / f"{number}.{suffix}"
        path.write_bytes(changed(content, dice))
        if answered(inspect, path):
            answered(install, path)
        path.unlink()


@pytest.mark.parametrize("to", ["peft", "diffusers", "kohya"])
def test_a_lora_is_converted_or_refused(to: str, tmp_path: Path) -> None:
    made = [make("unet", UNET_LINEAR, (8, 8), 2, 1.0), make("unet", UNET_CONVOLUTION, (6, 6, 3, 3), 1, 2.0)]
    made.append(make("text_encoder", TEXT_LAYER, (8, 8), 2, 4.0))
    content = save_kohya(tmp_path / "sound.safetensors", made, {"ss_network_dim": "2"}).read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    dice = random.Random(to)
    for number in range(TRIES):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(changed(content[:length], dice) + content[length:])
        target = tmp_path / f"{number}-{to}.safetensors" if to != "peft" else tmp_path / f"{number}-{to}"
        if not answered(lambda path, target=target: convert(path, target, to), path):
            assert not target.exists() or not any(target.iterdir())


def bundle_and_catalog(tmp_path: Path) -> tuple[bytes, Path]:
    files = {"config.json": b'{"model_type": "bert"}', "words.txt": b"one two " * 50}
    listed = {name: {"size": len(each), "sha256": hashlib.sha256(each).hexdigest()} for name, each in files.items()}
    lines = ["[tiny.full]", 'title = "tiny"', 'licence = "MIT"', "[[tiny.full.sources]]", 'kind = "hub"']
    lines += ['repository = "a/b"', 'revision = "main"', "[tiny.full.files]"]
    lines += [f'"{name}" = {{size = {each["size"]}, sha256 = "{each["sha256"]}"}}' for name, each in listed.items()]
    catalog = tmp_path / "catalog.toml"
    catalog.write_text("\n".join(lines), encoding="utf-8")
    manifest = {"format": "aigc bundle 1", "assets": [{"name": "tiny", "profile": "full", "files": listed}]}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name, each in files.items():
            archive.writestr(f"tiny/full/{name}", each)
    return buffer.getvalue(), catalog


def test_a_bundle_is_unpacked_whole_or_refused(tmp_path: Path, store: Path) -> None:
    content, catalog = bundle_and_catalog(tmp_path)

    def look(path: Path) -> object:
        return install_bundle(path, catalog=catalog)

    path = tmp_path / "stick.zip"
    path.write_bytes(content)
    assert answered(look, path)
    dice = random.Random(0)
    for _ in range(3 * TRIES):
        path.write_bytes(changed(content, dice))
        answered(look, path)
    assert {each.name for each in store.rglob("*") if each.is_file() and each.suffix != ".lock"} == {
        "config.json",
        "words.txt",
    }


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_is_read_or_refused(ending: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    note = picture.getexif()
    note[274] = 6
    picture.save(buffer, {"jpg": "JPEG"}.get(ending, ending), exif=note)
    (tmp_path / "a.txt").write_text("sks", encoding="utf-8")
    dice = random.Random(ending)
    for _ in range(TRIES):
        (tmp_path / f"a.{ending}").write_bytes(changed(buffer.getvalue(), dice))
        try:
            read_captioned_pictures(tmp_path, 64, lambda caption: None)
        except ReaderError as error:
            assert f"a.{ending}: " in str(error)


# --- JSON ------------------------------------------------------------------------------------------------------------

VALUES: list[Any] = [None, True, -1, 0, 5, 10**30, 1e308, float("nan"), "", "x", "\x1b[2J", "(a+)+$", "/etc/passwd"]
VALUES += [[], [None], [[1]], {}, {"a": {"b": []}}, ["query", 5], {"query": "x"}, {"(": 1}, [{"r": 1}]]


def changed_json(value: Any, dice: random.Random) -> Any:
    """Change one place: another value, a key that is lost or renamed, an entry that is lost or doubled."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        value = dict(value)
        key = dice.choice(list(value))
        kind = dice.randrange(6)
        if kind == 0:
            del value[key]
        elif kind == 1:
            value[dice.choice(["", "r", "a.b", "\u202e", key + "x"])] = value.pop(key)
        else:
            value[key] = changed_json(value[key], dice)
        return value
    if isinstance(value, list) and value and dice.random() < 0.5:
        place = dice.randrange(len(value))
        piece = dice.choice([[], [value[place]] * 2, [changed_json(value[place], dice)]])
        return [*value[:place], *piece, *value[place + 1 :]]
    return dice.choice(VALUES)


def as_text(value: Any, dice: random.Random) -> str:
    text = json.dumps(value)
    if dice.random() < 0.1:
        return changed(text.encode(), dice).decode("latin-1")
    return text


PEFT_SETTINGS = {
    **{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["to_q"], "rank_pattern": {"to_q": 2}},
    **{"alpha_pattern": {"^x": 1}, "bias": "none", "task_type": "SEQ_CLS", "modules_to_save": ["head"]},
    **{"use_rslora": False, "use_dora": False, "init_lora_weights": True, "layers_to_transform": [0], "revision": "a"},
    **{"layers_pattern": "blocks", "exclude_modules": ["to_k"], "fan_in_fan_out": False, "auto_mapping": None},
    **{"base_model_name_or_path": "bert", "megatron_core": "megatron.core", "trainable_token_indices": None},
}


def test_an_adapters_settings_are_followed_or_refused(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    stem = "base_model.model.blocks.0.to_q"
    tensors = {f"{stem}.lora_A.weight": torch.ones(2, 4), f"{stem}.lora_B.weight": torch.ones(4, 2)}
    save_file(tensors, folder / "adapter_model.safetensors")
    dice = random.Random(0)
    for number in range(TRIES):
        settings: Any = PEFT_SETTINGS
        for _ in range(dice.randint(1, 3)):
            settings = changed_json(settings, dice)
        (folder / "adapter_config.json").write_text(as_text(settings, dice), encoding="utf-8")
        answered(inspect, folder)
        answered(lambda path, number=number: convert(path, tmp_path / str(number), "peft"), folder)


def test_settings_in_a_header_are_followed_or_refused(tmp_path: Path) -> None:
    settings = {f"unet.{name}": value for name, value in PEFT_SETTINGS.items()}
    tags = {"10_cat": {"cat": 20, "a cat": 3}}
    dice = random.Random(0)
    for number in range(TRIES):
        metadata = {
            "lora_adapter_metadata": as_text(changed_json(settings, dice), dice),
            "ss_tag_frequency": as_text(changed_json(tags, dice), dice),
            "ss_training_started_at": str(dice.choice(VALUES)),
            "modelspec.architecture": str(dice.choice(VALUES)),
        }
        save_file(lora(), tmp_path / "some.safetensors", metadata)
        answered(inspect, tmp_path / "some.safetensors")
        target = tmp_path / f"{number}.safetensors"
        answered(lambda path, target=target: convert(path, target, "kohya"), tmp_path / "some.safetensors")


def test_a_folders_configurations_are_followed_or_refused(tmp_path: Path) -> None:
    pipeline = diffusers_folder(tmp_path / "pipeline")
    shards = tmp_path / "shards"
    shards.mkdir()
    weights = load_file(pipeline / "unet" / "model.safetensors")
    save_file(weights, shards / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00001.safetensors"), "metadata": {"total_size": 5}}
    config = {"_class_name": "UNet2DConditionModel", "model_type": "bert", "architectures": ["A"]}
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    for name, value in {"model.safetensors.index.json": index, "config.json": config}.items():
        (shards / name).write_text(json.dumps(value), encoding="utf-8")
    dice = random.Random(0)
    for folder in (pipeline, shards):
        assert answered(inspect, folder)
        for path in sorted(folder.glob("*.json")):
            sound = path.read_text(encoding="utf-8")
            for _ in range(TRIES):
                path.write_text(as_text(changed_json(json.loads(sound), dice), dice), encoding="utf-8")
                answered(inspect, folder)
            path.write_text(sound, encoding="utf-8")
