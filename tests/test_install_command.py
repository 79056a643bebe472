"""``aigc install`` takes names, files, folders, zips and addresses, and its status and its words can be relied on."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_weight_files
from faulty_server import FaultyServer
from huggingface_hub import hf_hub_download
from loopback_hub import COMMIT, LoopbackHub
from safetensors.numpy import save

from aigc_helpers.cli import main
from aigc_helpers.paths import DATA

VAE = save({name: np.zeros((2, 2), np.float32) for name in ("decoder.up_blocks.0.w", "encoder.down_blocks.0.w")})
BERT = save({"encoder.layer.0.attention.self.query.weight": np.zeros((8, 8), np.float32)})
CONFIG = b'{"model_type": "bert"}'
REPOSITORY = {"config.json": CONFIG, "model.safetensors": BERT}
SHA256 = hashlib.sha256(VAE).hexdigest()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    (tmp_path / "vae.safetensors").write_bytes(VAE)
    return tmp_path / "vae.safetensors"


def test_a_file_in_words_and_as_json(vae: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", str(vae), "--sha256", SHA256]) == 0
    assert capsys.readouterr().out == (f"✓ VAE, installed: {store / 'vae' / 'vae.safetensors'}\n  sha256  {SHA256}\n")
    assert main(["install", "vae.safetensors", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["kind"], report["already_there"]) == ("VAE", True)
    assert report["path"] == str(store / "vae" / "vae.safetensors")


def test_an_address_into_another_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "comfyui" / "models" / "checkpoints").mkdir(parents=True)
    with FaultyServer(VAE) as server:
        assert main(["install", server.url("my.safetensors"), "--layout", "comfyui", "--to", "comfyui"]) == 0
    assert (tmp_path / "comfyui" / "models" / "vae" / "my.safetensors").read_bytes() == VAE


def test_a_folder_and_its_name_in_the_catalog(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", str(DATA / "film_adapter")]) == 0
    assert (store / "loras" / "film_adapter" / "adapter_config.json").is_file()
    # A folder that happens to be called like an asset does not stand in its way.
    Path("poet").mkdir()
    capsys.readouterr()
    assert main(["install", "poet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(DATA / "poet")


def test_what_is_refused_says_so_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.ckpt").write_bytes(b"<html>Sign in</html>")
    assert main(["install", "page.ckpt", "--json"]) == 1
    captured = capsys.readouterr()
    assert "a web page" in json.loads(captured.out)["refused"]
    assert "a web page" in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["install", "vae.safetensors", "--layout", "a1111"], "need to be told the folder in which that program lies"),
        (["install", "vae.safetensors", "--to", "."], "that folder needs one of these layouts"),
        (["install", "vae.safetensors", "--layout", "a111", "--to", "."], "there is no layout 'a111'. Valid: a1111"),
        (["install", "poet", "--sha256", SHA256], "for single files"),
        (["install", ".", "--sha256", SHA256], "a folder has no sha256"),
        (["install", "gone/vae.safetensors"], "there is no file or folder gone/vae.safetensors"),
        (["install", "gone.ckpt"], "there is no file or folder gone.ckpt"),
        (["install", "poett"], "there is no asset 'poett'. Valid: poet"),
        (["bundle", "poet", "stick"], "such as stick.zip"),
        (["bundle", "poett", "stick.zip"], "there is no asset 'poett'. Valid: poet"),
    ],
)
def test_wrong_usage_exits_with_2(
    vae: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_sha256_that_is_none_is_wrong_usage(vae: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", str(vae), "--sha256", "abc"]) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err


def test_a_shipped_asset_needs_no_stick(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "poet", "stick.zip"]) == 1
    assert "comes with the workbook" in capsys.readouterr().err


def test_without_a_network_the_way_by_stick_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``HF_HUB_OFFLINE=1`` has it."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main(["install", "bert", "--profile", "full"]) == 1
    message = capsys.readouterr().err
    for words in (
        "HF_HUB_OFFLINE is set",
        "Already here: none of its files. Missing: config.json (0.0 MB), model.safetensors (440.4 MB)",
        "aigc bundle bert stick.zip --profile full\n",
        "aigc install stick.zip\n",
    ):
        assert words in message


def test_a_repository_of_the_hub_as_a_whole(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    others = {"pytorch_model.bin": b"pickle", "tf_model.h5": b"keras", ".gitattributes": b"lfs"}
    with LoopbackHub(REPOSITORY | others, large={"model.safetensors"}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny", "--json"]) == 0
        folder = Path(json.loads(capsys.readouterr().out)["path"])
        assert main(["install", "hub:someone/tiny@main/model.safetensors"]) == 0
        assert main(["install", "hub:someone/tiny/other.safetensors"]) == 1
    assert folder == store / "checkpoints" / "someone--tiny"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == REPOSITORY
    assert (store / "checkpoints" / "model.safetensors").read_bytes() == BERT
    assert all(COMMIT in path for path in hub.requested if "/resolve/" in path)
    assert not any(name in path for path in hub.requested for name in others)
    assert "has no file other.safetensors. It has: config.json" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_unlike_the_hubs_listing_is_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with LoopbackHub(REPOSITORY, damaged={name}, large={"model.safetensors"}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 1
    assert f"someone/tiny/{name}" in (message := capsys.readouterr().err) and "thrown away" in message
    assert not (store / "checkpoints").exists()


@pytest.mark.parametrize("name", ["../escaped.safetensors", "/tmp/escaped.safetensors", "a/../../escaped.safetensors"])
def test_a_listing_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with LoopbackHub(REPOSITORY | {name: BERT}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 1
    assert "would lead out of its folder" in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert not any("/resolve/" in path for path in hub.requested)


@pytest.mark.parametrize(
    "page",
    [b"<!DOCTYPE html><html>Sign in</html>", b"\xff", b"{}", b"[]", b'{"sha": %b1%b}' % (b"[" * 200, b"]" * 200)],
    ids=["a page to sign in", "no text", "no commit", "no object", "nested too deeply"],
)
def test_what_a_hub_says_in_place_of_a_listing_is_refused(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: bytes
) -> None:
    with LoopbackHub(REPOSITORY, page=page) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 1
    message = capsys.readouterr().err
    assert f"the list of files of someone/tiny: {hub.address} gave something else" in message
    assert "ask you to sign in first" in message and message.count("\n") == 1
    assert not (store / "checkpoints").exists()


@pytest.mark.parametrize("kind", ["whole", "file"])
def test_a_page_in_place_of_the_file_is_one_sentence(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with LoopbackHub(REPOSITORY, file_page=b"<!DOCTYPE html><html>Sign in</html>") as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny" + "/model.safetensors" * (kind == "file")]) == 1
        assert not [path for path in hub.cache.rglob("*") if path.is_file()]
    message = capsys.readouterr().err
    assert "the hub did not give someone/tiny/" in message and "sign in first" in message
    assert message.count("\n") == 1
    assert not (store / "checkpoints").exists()


@pytest.mark.parametrize("lost", ["nothing", "the cache", "the store", "the hub's word for the store"])
def test_what_was_installed_once_costs_no_byte_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    with LoopbackHub(REPOSITORY, large={"model.safetensors"}) as hub:
        hub.serve_to(monkeypatch)
        for address in ("hub:someone/tiny", "hub:someone/tiny/model.safetensors"):
            assert main(["install", address]) == 0
        # The file of its own came out of the cache already.
        assert sorted(hub.fetched) == ["config.json", "model.safetensors"]
        if lost == "the cache":
            shutil.rmtree(hub.cache / "models--someone--tiny")
        if lost == "the store":
            shutil.rmtree(store)
        if lost == "the hub's word for the store":
            shutil.rmtree(store / "downloads")
        for address in ("hub:someone/tiny", "hub:someone/tiny/model.safetensors"):
            capsys.readouterr()
            assert main(["install", address, "--json"]) == 0
            assert json.loads(capsys.readouterr().out)["already_there"] == (lost != "the store")
        assert len(hub.fetched) == 2


def test_a_damaged_file_in_the_cache_is_fetched_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackHub(REPOSITORY, large={"model.safetensors"}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 0
        shutil.rmtree(store)
        (cached,) = hub.cache.glob("models--*/snapshots/*/model.safetensors")
        cached.write_bytes(BERT[:-1] + b"x")
        assert main(["install", "hub:someone/tiny"]) == 0
        assert hub.fetched.count("model.safetensors") == 2 and cached.read_bytes() == BERT


def test_a_large_file_goes_on_where_the_last_run_stopped(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """huggingface_hub throws away what had arrived, so that this piece is ours."""
    monkeypatch.setattr("aigc_helpers.store.transfer._PAUSES", ())
    with LoopbackHub(REPOSITORY, large={"model.safetensors"}) as hub:
        hub.serve_to(monkeypatch)
        hub.cut_after = 100
        assert main(["install", "hub:someone/tiny/model.safetensors"]) == 1
        assert "broke off. What has arrived is kept" in capsys.readouterr().err
        assert main(["install", "hub:someone/tiny/model.safetensors"]) == 0
        assert hub.fetched == ["model.safetensors", "model.safetensors bytes=100-"]
        # It lies where transformers finds it.
        assert hf_hub_download("someone/tiny", "model.safetensors", revision=COMMIT, cache_dir=hub.cache)
        assert len(hub.fetched) == 2
    assert (store / "checkpoints" / "model.safetensors").read_bytes() == BERT


@pytest.mark.parametrize(
    ("code", "token", "words"),
    [
        ("GatedRepo", None, "it is gated (401). Accept its licence at http://127.0.0.1:"),
        ("RepoNotFound", None, "there is no such repository, or it is private (401)"),
        ("RepoNotFound", "hf_wrong", "it does not accept your token (401). Make a new one at http://127.0.0.1:"),
    ],
)
def test_the_hub_is_told_who_asks(
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: str,
    token: str | None,
    words: str,
) -> None:
    with LoopbackHub(REPOSITORY, token="hf_mine", code=code) as hub:
        hub.serve_to(monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "none")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        assert main(["install", "hub:someone/tiny"]) == 1
        message = capsys.readouterr().err
        assert words in message and "hf auth login" in message and message.count("\n") == 1
        monkeypatch.setenv("HF_TOKEN", "hf_mine")
        assert main(["install", "hub:someone/tiny"]) == 0


def test_a_hub_that_cannot_be_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackHub(REPOSITORY) as hub:
        hub.serve_to(monkeypatch)
    assert main(["install", "hub:someone/tiny"]) == 1
    message = capsys.readouterr().err
    assert "refused the connection. Check the address" in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            ["README.md", "a.Q4_K_M.gguf", "a.Q8_0.gguf"],
            "a.Q4_K_M.gguf  (Q4_K_M, 0.0 MB)\n  hub:someone/tiny/a.Q8_0.gguf  (Q8_0, ",
        ),
        (["config.json", "pytorch_model.bin"], "\n  hub:someone/tiny/pytorch_model.bin  (0.0 MB)\n"),
        (["a.safetensors", "b.safetensors"], "\n  hub:someone/tiny/a.safetensors  (0.0 MB)\n  hub:someone/tiny/b"),
        (["loras/a.safetensors"], "\n  hub:someone/tiny/loras/a.safetensors  ("),
        (["README.md"], "no weights that can be installed. It has: README.md"),
    ],
)
def test_what_cannot_be_installed_as_a_whole_is_refused_before_a_byte_is_fetched(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], files: list[str], words: str
) -> None:
    weights = [name for name in files if not name.startswith(("README", "config"))]
    with LoopbackHub(dict.fromkeys(files, BERT), large=set(files)) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 1
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1 + len(weights)
    assert not weights or f"aigc install hub:someone/tiny/{weights[0]}" in message
    assert hub.fetched == []


def test_the_command_that_is_named_installs_a_gguf_file(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gguf = small_weight_files.gguf()
    with LoopbackHub({"a.Q4_K_M.gguf": gguf}, large={"a.Q4_K_M.gguf"}) as hub:
        hub.serve_to(monkeypatch)
        assert main(["install", "hub:someone/tiny"]) == 1
        command = re.search(r"aigc (install hub:\S+)", capsys.readouterr().err)
        assert command and main(command[1].split()) == 0
    assert (store / "checkpoints" / "a.Q4_K_M.gguf").read_bytes() == gguf


def test_a_mirror_is_named_by_the_hubs_own_variable(store: Path) -> None:
    """In a process of its own: huggingface_hub reads the variable when it is imported."""
    with LoopbackHub(REPOSITORY) as hub:
        environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(hub.cache)}
        command = [sys.executable, "-m", "aigc_helpers.cli", "install", "hub:someone/tiny"]
        finished = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=DATA.parent)
    assert finished.returncode == 0, finished.stderr
    assert (store / "checkpoints" / "someone--tiny" / "model.safetensors").read_bytes() == BERT
