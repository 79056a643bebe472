"""The copy is what is inspected and put in place; of a folder only what a model consists of, and nothing from outside.

And what a killed process leaves behind is gone after the next one.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file
from small_weight_files import kohya_lora

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import replacing, temporary_folder
from aigc_helpers.inspection import contents
from aigc_helpers.store import install_file, install_folder, local_files, local_folders

LORA = save(kohya_lora(768))
BERT = {"bert.encoder.layer.0.attention.self.query.weight": np.zeros((8, 8), "f4")}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the store, which is empty."""
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a BERT."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(BERT, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


# --- checked, then changed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (save({"w": np.zeros((2, 2), "f4")}), "was changed while it was being copied"),
        (pickle.dumps({"a": 1}, 2), "was changed while|is no valid|not a weight file"),
        (b"<html>sign in</html>", "not a weight file but a web page"),
    ],
)
def test_a_file_that_changes_between_check_and_copy_is_refused(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, later: bytes, words: str
) -> None:
    source = tmp_path / "style.ckpt"
    source.write_bytes(LORA)
    copy = local_files.copy_hashed

    def changed_before(path: Path, target: Path) -> str:
        if path == source:
            source.write_bytes(later)
        return copy(path, target)

    monkeypatch.setattr(local_files, "copy_hashed", changed_before)
    with pytest.raises(ReaderError, match=words):
        install_file(source)
    assert files_in(store) == []


def test_a_folder_that_changes_between_check_and_copy_is_refused(
    store: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = local_folders.copy_hashed

    def changed_before(path: Path, target: Path) -> str:
        if path.name == "model.safetensors":
            path.write_bytes(LORA)
        return copy(path, target)

    monkeypatch.setattr(local_folders, "copy_hashed", changed_before)
    with pytest.raises(ReaderError, match="was changed while it was being copied"):
        install_folder(model)
    assert files_in(store) == []


def test_what_is_said_of_a_file_with_its_configuration_beside_it_holds_for_the_copy(
    tmp_path: Path, store: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(BERT, path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    done = install_file(path)
    assert (done.family, files_in(store)) == ("BERT", ["model.safetensors"])


# --- folders ---------------------------------------------------------------------------------------------------------

_LEFT_OUT = (
    *("evil.py", "EVIL.PY", "pytorch_model.BIN", "m.PT", "m.CKPT", "m.PKL", "evil.pyc", "evil.so", "evil.dll"),
    *("m.joblib", "m.dill", "m.npy", "m.keras", "training_args.bin", "run.sh", "setup.cfg", "no_suffix"),
)
_KEPT = ("tokenizer.json", "vocab.txt", "spiece.model", "source.spm", "merges.bpe", "README.md", "LICENSE", "one.png")


def test_only_what_a_model_consists_of_is_copied_from_a_folder(store: Path, model: Path) -> None:
    for name in (*_LEFT_OUT, *_KEPT):
        (model / name).write_bytes(b"{}")
    done = install_folder(model)
    assert sorted(path.name for path in done.path.iterdir()) == sorted(("model.safetensors", "config.json", *_KEPT))
    (remark,) = (remark for remark in done.remarks if remark.startswith("Left out"))
    assert "EVIL.PY" in remark and "and 7 more" in remark
    assert install_folder(model).already_there


@pytest.mark.parametrize("name", ["spiece.model", "vocab.txt", "config_2.json"])
def test_a_pickle_under_a_harmless_name_is_left_out(store: Path, model: Path, name: str) -> None:
    (model / name).write_bytes(pickle.dumps({"a": 1}, 2))
    with zipfile.ZipFile(model / f"zipped_{name}", "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
    assert files_in(install_folder(model).path) == ["config.json", "model.safetensors"]


def test_every_safetensors_file_of_a_folder_is_checked(store: Path, model: Path) -> None:
    (model / "variant.safetensors").write_bytes(pickle.dumps({"a": 1}, 2))
    (model / "diffusion_pytorch_model.fp16.safetensors").write_bytes(LORA)
    with pytest.raises(ReaderError, match=r"variant.safetensors is not a safetensors file"):
        install_folder(model)
    assert files_in(store) == []


def test_a_link_to_a_file_outside_is_refused(tmp_path: Path, store: Path, model: Path) -> None:
    (tmp_path / "private.txt").write_text("secret")
    (model / "notes.txt").symlink_to(tmp_path / "private.txt")
    with pytest.raises(ReaderError, match="notes.txt is a link to .*private.txt, which lies outside the folder"):
        install_folder(model)
    assert files_in(store) == []


def test_a_link_to_a_folder_is_refused_instead_of_left_out_in_silence(tmp_path: Path, store: Path, model: Path) -> None:
    (model / "there").mkdir()
    (model / "unet").symlink_to(model / "there")
    with pytest.raises(ReaderError, match="unet is a link to another folder"):
        install_folder(model)
    (model / "unet").unlink()
    (model / "unet").symlink_to(tmp_path)
    with pytest.raises(ReaderError, match="lies outside the folder"):
        install_folder(model)


def test_a_link_in_a_circle_leads_to_nothing(model: Path) -> None:
    (model / "circle.json").symlink_to("circle.json")
    assert files_in(install_folder(model).path) == ["config.json", "model.safetensors"]


def test_folders_in_folders_without_end_are_refused(store: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    for _ in range(30):
        os.mkdir("a")
        os.chdir("a")
    with pytest.raises(ReaderError, match="lies 21 folders deep, as no part of a model does"):
        install_folder(model)
    assert files_in(store) == []


def test_links_within_a_folder_and_within_the_hub_s_cache_are_followed(
    tmp_path: Path, store: Path, model: Path
) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "c0ffee", tmp_path / "models--a--b" / "blobs"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    model.rename(snapshot)
    (snapshot / "model.safetensors").rename(blobs / "1234")
    (snapshot / "model.safetensors").symlink_to(Path("..") / ".." / "blobs" / "1234")
    (snapshot / "again.txt").symlink_to("config.json")
    done = install_folder(snapshot)
    assert files_in(done.path) == ["again.txt", "config.json", "model.safetensors"]
    assert not any(path.is_symlink() for path in done.path.iterdir())


def test_a_folder_with_a_keras_file_alone_is_told_to_convert_it(store: Path, model: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (model / "model.safetensors").unlink()
    with h5py.File(model / "tf_model.h5", "w") as opened:
        opened["bert/encoder/layer_._0/attention/self/query/kernel:0"] = np.zeros((8, 8), "f4")
    with pytest.raises(ReaderError, match="is a Keras file.*aigc install .*tf_model.h5"):
        install_folder(model)
    assert install_file(model / "tf_model.h5").path.suffix == ".safetensors"


# --- leftovers -------------------------------------------------------------------------------------------------------

_KILLED = """
    import os, signal, sys
    from pathlib import Path
    from aigc_helpers.files import replacing, temporary_folder
    here = Path(sys.argv[1])
    with temporary_folder(here) as folder, replacing(here / "model.safetensors") as unfinished:
        (folder / "half").write_bytes(bytes(1000))
        unfinished.write_bytes(bytes(1000))
        print("written", flush=True)
        if sys.argv[2] == "wait":
            sys.stdin.read()
        os.kill(os.getpid(), int(sys.argv[2]))
"""


def writes(folder: Path, end: str) -> subprocess.Popen[str]:
    program = textwrap.dedent(_KILLED)
    command = [sys.executable, "-c", program, str(folder), end]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
@pytest.mark.parametrize("signal", ["15", "9"])
def test_what_a_killed_process_left_is_gone_after_the_next_one(tmp_path: Path, signal: str) -> None:
    writes(tmp_path, signal).communicate()
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(tmp_path / "another.txt") as unfinished:
        unfinished.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["another.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are those of Unix")
def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    process = writes(tmp_path, "wait")
    assert process.stdout is not None and process.stdout.readline() == "written\n"
    before = sorted(path.name for path in tmp_path.iterdir())
    with temporary_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == before and len(before) == 2
    process.kill()
    process.communicate()


def test_files_of_others_that_are_not_finished_are_left_alone(tmp_path: Path) -> None:
    for name in (".model.safetensors.x1y2.part", "film.mkv.part", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    with replacing(tmp_path / "another.txt") as unfinished:
        unfinished.write_text("whole")
    assert len(list(tmp_path.iterdir())) == 4


def test_an_interrupted_install_of_a_file_leaves_nothing_after_the_next(tmp_path: Path, store: Path) -> None:
    source = tmp_path / "style.safetensors"
    source.write_bytes(LORA)
    program = """
        import os, sys
        from pathlib import Path
        from aigc_helpers.store import local_files
        local_files.describe = lambda path, known=local_files.describe: (
            known(path) if "store" not in path.parts else os.kill(os.getpid(), 9)
        )
        local_files.install_file(Path(sys.argv[1]))
    """
    if sys.platform != "win32":
        subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(source)], env=dict(os.environ))
        assert len(files_in(store)) > 1
    install_file(source)
    assert files_in(store) == ["style.safetensors"]
    assert contents.read_contents(store / "loras" / "style.safetensors").tensors
