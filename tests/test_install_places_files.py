"""A weight file goes where its kind belongs, whole, converted if need be, and never over another file.

A1111 and ComfyUI look for each kind in a folder of its own, and say nothing about a file that lies elsewhere.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_server import Fault, FaultyServer
from safetensors.numpy import load_file, save_file

from aigc_helpers import install
from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.formats import read_header
from aigc_helpers.inspection import contents
from aigc_helpers.paths import DATA
from aigc_helpers.store import install_address, install_file, install_folder


def zeros(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}


_TO_K = "attn2.to_k.weight"
LORA = {
    f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.{part}": np.zeros(shape, np.float32)
    for part, shape in (("lora_down.weight", (4, 768)), ("lora_up.weight", (320, 4)), ("alpha", ()))
}
VAE = zeros(decoder__up_blocks__0__weight=(2, 2), encoder__down_blocks__0__weight=(2, 2))
CHECKPOINT = {f"model.diffusion_model.input_blocks.1.{_TO_K}": np.zeros((320, 768), np.float32)} | {
    f"first_stage_model.{name}": tensor for name, tensor in VAE.items()
}
UNET = {f"down_blocks.0.{_TO_K}": np.zeros((320, 768), np.float32)} | zeros(
    conv_in__weight=(2, 2), up_blocks__0__weight=(2, 2)
)
TEXT_ENCODER = zeros(text_model__embeddings__token_embedding__weight=(9, 768))
FILES = {
    "lora": LORA,
    "vae": VAE,
    "checkpoint": CHECKPOINT,
    "unet": UNET,
    "text_encoder": TEXT_ENCODER,
    "embedding": zeros(emb_params=(3, 768)),
    "bert": zeros(encoder__layer__0__attention__self__query__weight=(8, 8)),
}
FOLDERS = {
    "aigc": {
        **{"lora": "loras", "vae": "vae", "checkpoint": "checkpoints", "embedding": "embeddings"},
        **{"unet": "diffusion_models", "text_encoder": "text_encoders", "bert": "checkpoints"},
    },
    "a1111": {
        **{"lora": "models/Lora", "vae": "models/VAE", "checkpoint": "models/Stable-diffusion"},
        **{"embedding": "embeddings", "unet": None, "text_encoder": None, "bert": None},
    },
    "comfyui": {
        **{"lora": "models/loras", "vae": "models/vae", "checkpoint": "models/checkpoints"},
        **{"embedding": "models/embeddings", "unet": "models/diffusion_models", "text_encoder": "models/clip"},
        "bert": None,
    },
}


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Return the root of each layout: an empty store, and the two programs as they are when freshly cloned."""
    roots = {layout: tmp_path / layout for layout in FOLDERS}
    (roots["a1111"] / "models" / "Stable-diffusion").mkdir(parents=True)
    (roots["comfyui"] / "models" / "checkpoints").mkdir(parents=True)
    monkeypatch.setenv("AIGC_HOME", str(roots["aigc"]))
    return roots


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    for name, tensors in FILES.items():
        save_file(tensors, tmp_path / "files" / f"{name}.safetensors")
    return tmp_path / "files"


def weights_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".lock", ".json")]


@pytest.mark.parametrize("layout", FOLDERS)
@pytest.mark.parametrize("name", FILES)
def test_each_kind_has_its_folder(trees: dict[str, Path], files: Path, layout: str, name: str) -> None:
    source, to, folder = files / f"{name}.safetensors", trees[layout], FOLDERS[layout][name]
    to_option = None if layout == "aigc" else to
    if folder is None:
        with pytest.raises(ReaderError, match="has no place for a file of this kind"):
            install_file(source, layout=layout, to=to_option)
        assert weights_in(to) == []
        return
    installed = install_file(source, layout=layout, to=to_option)
    assert installed.path == to / folder / source.name
    assert weights_in(to) == [installed.path]
    assert installed.path.read_bytes() == source.read_bytes()
    assert installed.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert not installed.already_there
    assert install_file(source, layout=layout, to=to_option).already_there


def test_a_file_is_inspected_as_it_is_given_and_as_it_was_copied(
    trees: dict[str, Path], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(contents, "read_header", lambda path: read.append(path) or read_header(path))
    monkeypatch.setattr("aigc_helpers.store.installing.load_catalog", lambda: pytest.fail("the catalog was read"))
    monkeypatch.chdir(files)
    assert install("lora.safetensors") == trees["aigc"] / "loras" / "lora.safetensors"
    assert read[0] == Path("lora.safetensors")
    assert [path.is_relative_to(trees["aigc"]) for path in read[1:]] == [True]


def test_a_folder_that_is_no_such_program_is_refused(trees: dict[str, Path], files: Path, tmp_path: Path) -> None:
    for layout, to, words in (
        ("a1111", trees["comfyui"], "it has no models/Stable-diffusion"),
        ("comfyui", trees["a1111"], "it has no models/checkpoints"),
        ("comfyui", tmp_path / "nowhere", "there is no folder"),
    ):
        with pytest.raises(ReaderError, match=words):
            install_file(files / "lora.safetensors", layout=layout, to=to)
    with pytest.raises(UnknownNameError, match="Valid: comfyui"):
        install_file(files / "lora.safetensors", layout="comfy", to=trees["comfyui"])


def test_another_file_of_that_name_is_never_overwritten(trees: dict[str, Path], files: Path) -> None:
    there = trees["a1111"] / "models" / "VAE" / "vae.safetensors"
    there.parent.mkdir()
    there.write_bytes(b"somebody's own")
    with pytest.raises(ReaderError) as caught:
        install_file(files / "vae.safetensors", layout="a1111", to=trees["a1111"])
    for content in (b"somebody's own", (files / "vae.safetensors").read_bytes()):
        assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert there.read_bytes() == b"somebody's own"


def test_another_file_than_the_sha256_says_is_refused(trees: dict[str, Path], files: Path) -> None:
    for name in ("vae.safetensors", "vae.pt"):
        torch.save({"decoder.up_blocks.0.weight": torch.zeros(2)}, files / "vae.pt")
        with pytest.raises(ReaderError, match="its sha256 is .*, expected 0000"):
            install_file(files / name, sha256="0" * 64)
    assert weights_in(trees["aigc"]) == []
    good = hashlib.sha256((files / "vae.safetensors").read_bytes()).hexdigest()
    assert install_file(files / "vae.safetensors", sha256=good.upper()).sha256 == good


def test_a_pickle_becomes_safetensors(trees: dict[str, Path], files: Path) -> None:
    torch.save({name: torch.from_numpy(tensor) for name, tensor in CHECKPOINT.items()}, files / "model.ckpt")
    installed = install_file(files / "model.ckpt", layout="comfyui", to=trees["comfyui"])
    assert installed.path == trees["comfyui"] / "models" / "checkpoints" / "model.safetensors"
    assert set(load_file(installed.path)) == set(CHECKPOINT)
    assert weights_in(trees["aigc"]) == []


def test_a_keras_file_becomes_safetensors(trees: dict[str, Path], files: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(files / "tf_model.h5", "w") as keras:
        keras["bert/encoder/layer_._0/attention/self/query/kernel:0"] = np.zeros((8, 8), np.float32)
    installed = install_file(files / "tf_model.h5")
    assert installed.path == trees["aigc"] / "checkpoints" / "tf_model.safetensors"
    assert list(load_file(installed.path)) == ["bert.encoder.layer.0.attention.self.query.weight"]


class Payload:
    """Unpickled, it would print."""

    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("evil.ckpt", pickle.dumps(Payload()), "unsafe"),
        ("page.safetensors", b"<!doctype html><title>Sign in</title>", "a web page"),
        ("pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("short.safetensors", None, "truncated|shorter|end"),
        (
            "unknown.safetensors",
            b'\x3b\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     abcd',
            "do not tell",
        ),
    ],
)
def test_what_is_refused_does_not_get_in(
    trees: dict[str, Path], files: Path, name: str, content: bytes | None, words: str
) -> None:
    content = content or (files / "lora.safetensors").read_bytes()[:-1]
    (files / name).write_bytes(content)
    with pytest.raises(ReaderError, match=words):
        install_file(files / name)
    with FaultyServer(content) as server, pytest.raises(ReaderError, match=words):
        install_address(server.url(name))
    assert [path for path in weights_in(trees["aigc"]) if "downloads" not in path.parts] == []
    # A whole file that nobody can place is kept, so that it need not be fetched again; a bad one is not.
    assert len(weights_in(trees["aigc"])) == (words == "do not tell")


def test_the_programs_read_kohyas_names_and_others_are_told_so(trees: dict[str, Path], files: Path) -> None:
    film = DATA / "film_adapter" / "adapter_model.safetensors"
    with pytest.raises(ReaderError, match=r"has no place for a file of this kind \(LoRA for BERT\)"):
        install_file(film, layout="comfyui", to=trees["comfyui"])
    remarks = install_file(files / "lora.safetensors", layout="comfyui", to=trees["comfyui"]).remarks
    assert not any("aigc convert" in each for each in remarks)


def test_a_folder_is_copied_without_what_could_run_code(trees: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "adapter"
    source.mkdir()
    for path in (DATA / "film_adapter").iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    (source / "adapter_model.bin").write_bytes(pickle.dumps(Payload()))
    (source / "modeling.py").write_text("raise SystemExit")
    installed = install_folder(source)
    assert installed.path == trees["aigc"] / "loras" / "adapter"
    assert {path.name for path in installed.path.iterdir()} == {path.name for path in (DATA / "film_adapter").iterdir()}
    assert any("adapter_model.bin, modeling.py" in remark for remark in installed.remarks)
    assert install_folder(source).already_there
    (installed.path / "adapter_config.json").write_text("{}")
    with pytest.raises(ReaderError, match="another folder lies at"):
        install_folder(source)
    with pytest.raises(ReaderError, match="no place for a folder"):
        install_folder(source, layout="a1111", to=trees["a1111"])


def test_a_folder_of_pickles_alone_is_refused(trees: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    torch.save({"encoder.layer.0.attention.self.query.weight": torch.zeros(8, 8)}, tmp_path / "model" / "model.bin")
    with pytest.raises(ReaderError, match="is a pickle, and there are no safetensors beside it"):
        install_folder(tmp_path / "model")
    assert weights_in(trees["aigc"]) == []


def test_an_address_is_downloaded_once_and_placed(trees: dict[str, Path], files: Path) -> None:
    content = (files / "lora.safetensors").read_bytes()
    disposition = {"Content-Disposition": 'attachment; filename="tiger.safetensors"'}
    with FaultyServer(content, Fault(cut_after=100, headers=disposition)) as server:
        url = server.url("api/download/7?token=secret")
        installed = install_address(url)
        assert installed.path == trees["aigc"] / "loras" / "tiger.safetensors"
        assert install_address(url).already_there
        # Into the other program from the store, without asking the server again.
        there = install_address(url, layout="comfyui", to=trees["comfyui"])
    assert there.path == trees["comfyui"] / "models" / "loras" / "tiger.safetensors"
    assert there.path.read_bytes() == content
    assert server.ranges == [None, "bytes=100-"]
    assert weights_in(trees["aigc"]) == [installed.path]
    assert not any("secret" in path.read_text() for path in (trees["aigc"]).rglob("*.json"))


def test_a_download_that_finds_its_place_taken_is_not_lost(trees: dict[str, Path], files: Path) -> None:
    there = trees["aigc"] / "vae" / "vae.safetensors"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"somebody's own")
    with FaultyServer((files / "vae.safetensors").read_bytes()) as server:
        with pytest.raises(ReaderError, match="another file lies at"):
            install_address(server.url("vae.safetensors"))
        there.unlink()
        assert install_address(server.url("vae.safetensors")).path == there
    assert len(server.requests) == 1


def test_another_sha256_at_the_address_is_refused(trees: dict[str, Path], files: Path) -> None:
    with FaultyServer((files / "vae.safetensors").read_bytes()) as server:
        install_address(server.url("vae.safetensors"))
        with pytest.raises(ReaderError, match="thrown away"):
            install_address(server.url("vae.safetensors"), sha256="0" * 64)
    assert [path.name for path in weights_in(trees["aigc"])] == ["vae.safetensors"]
