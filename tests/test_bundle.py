"""A bundle on a stick brings exactly the catalog's files, all or none, whatever somebody did to the zip."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import struct
import sys
import zipfile
from pathlib import Path

import pytest

from aigc_helpers.errors import ReaderError, UnknownNameError
from aigc_helpers.store import bundle, install_asset, install_bundle
from aigc_helpers.store.bundles import MANIFEST

CONFIG, WEIGHTS = b'{"model_type": "tiny"}', bytes(range(256)) * 40
FILES = {"config.json": CONFIG, "unet/model.safetensors": WEIGHTS}


def catalog_entry(name: str, profile: str, source: str, files: dict[str, bytes]) -> str:
    lines = [f'[{name}.{profile}]\ntitle = "t"\nlicence = "Apache-2.0"\nsources = [{source}]\n[{name}.{profile}.files]']
    for file, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        lines.append(f'"{file}" = {{ size = {len(content)}, sha256 = "{sha256}" }}')
    return "\n".join(lines) + "\n"


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a catalog whose assets come from another folder of this disk; the store is empty."""
    for name, content in FILES.items():
        (tmp_path / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "origin" / name).write_bytes(content)
    folder = f'{{ kind = "folder", folder = "{(tmp_path / "origin").as_posix()}" }}'
    path = tmp_path / "catalog.toml"
    path.write_text(
        catalog_entry("tiny", "embedded", folder, FILES)
        + catalog_entry("either", "any", folder, {"config.json": CONFIG})
        + catalog_entry("shipped", "any", '{ kind = "bundled", folder = "x" }', {}),
        encoding="utf-8",
    )
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    return path


@pytest.fixture
def stick(catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a bundle of both assets; the store that is to receive it is another, empty one."""
    bundle(["tiny", "either"], tmp_path / "stick.zip", profile="embedded", catalog=catalog)
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "other"))
    return tmp_path / "stick.zip"


def rewrite(stick: Path, **changes: object) -> None:
    """Write the zip again: ``drop`` a member, ``replace`` or ``add`` some, or ``edit`` the manifest's text."""
    with zipfile.ZipFile(stick) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in changes.get("drop", ()):
        del members[name]
    members |= changes.get("replace", {})
    if "edit" in changes:
        members[MANIFEST] = changes["edit"](members[MANIFEST].decode()).encode()
    with zipfile.ZipFile(stick, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, content in changes.get("add", ()):
            archive.writestr(name, content)


def refused(stick: Path, catalog: Path, words: str) -> None:
    with pytest.raises(ReaderError, match=words):
        install_bundle(stick, catalog=catalog)
    store = stick.parent / "other"
    assert [path for path in store.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    outside = {path.name for path in stick.parent.iterdir()}
    assert outside <= {"catalog.toml", "origin", "store", "other", "stick.zip"}


def test_what_is_packed_comes_out_equal(stick: Path, catalog: Path, tmp_path: Path) -> None:
    folders = {str(asset): asset.folder for asset in install_bundle(stick, catalog=catalog)}
    assert {name: (folders["tiny (embedded)"] / name).read_bytes() for name in FILES} == FILES
    assert set(folders) == {"tiny (embedded)", "either (any)"}
    # The network, here the folder, is not needed any more.
    (tmp_path / "origin" / "config.json").unlink()
    assert install_asset("tiny", "embedded", catalog=catalog) == folders["tiny (embedded)"]


def test_the_manifest_tells_people_what_is_on_the_stick(stick: Path) -> None:
    with zipfile.ZipFile(stick) as archive:
        entry = json.loads(archive.read(MANIFEST))["assets"][0]
    assert (entry["name"], entry["profile"], entry["licence"]) == ("tiny", "embedded", "Apache-2.0")
    assert entry["files"]["config.json"] == {"size": len(CONFIG), "sha256": hashlib.sha256(CONFIG).hexdigest()}
    assert entry["sources"][0]["kind"] == "folder"


def test_the_licence_goes_with_the_copy(stick: Path, catalog: Path) -> None:
    with zipfile.ZipFile(stick) as archive:
        assert "END OF TERMS AND CONDITIONS" in archive.read("licences/Apache-2.0.txt").decode()
    assert len(install_bundle(stick, catalog=catalog)) == 2


def test_installing_twice_changes_nothing(stick: Path, catalog: Path) -> None:
    before = (install_bundle(stick, catalog=catalog)[0].folder / "config.json").stat().st_mtime_ns
    assert (install_bundle(stick, catalog=catalog)[0].folder / "config.json").stat().st_mtime_ns == before


def test_a_shipped_asset_needs_no_stick(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="comes with the workbook"):
        bundle(["tiny", "shipped"], tmp_path / "stick.zip", profile="embedded", catalog=catalog)
    assert not (tmp_path / "stick.zip").exists()


def test_an_unknown_name_is_answered_with_the_nearest(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Valid: tiny"):
        bundle(["tiyn"], tmp_path / "stick.zip", profile="embedded", catalog=catalog)


@pytest.mark.parametrize(
    "name", ["../escaped", "tiny/../../escaped", "/tmp/escaped", "C:/escaped", "..\\escaped", "a/NUL", "a\0b", "a/ "]
)
def test_no_name_leads_out_of_the_store(stick: Path, catalog: Path, name: str) -> None:
    with zipfile.ZipFile(stick, "a") as archive:
        member = zipfile.ZipInfo("placeholder")
        member.filename = name  # ZipInfo itself would cut the name at a NUL.
        archive.writestr(member, b"escaped")
    refused(stick, catalog, "lead out of its folder|no name on some system")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replace": {"tiny/embedded/config.json": CONFIG[::-1]}}, "with other bytes: its sha256 is"),
        ({"replace": {"tiny/embedded/config.json": CONFIG + b" "}}, "with 23 bytes, expected 22"),
        ({"replace": {"either/any/config.json": CONFIG[::-1]}}, "with other bytes"),
        ({"drop": ["tiny/embedded/config.json"]}, "lacks 'tiny/embedded/config.json'"),
        ({"drop": [MANIFEST]}, "was not made by aigc bundle"),
        ({"add": [("tiny/embedded/extra.py", b"")]}, "does not name"),
        ({"edit": lambda text: text[:-2]}, "makes no sense"),
        ({"edit": lambda text: "[]"}, "makes no sense"),
        ({"edit": lambda text: text.replace("{", '{"x": ' + "[" * 127 + "]" * 127 + ",", 1)}, "nested too deeply"),
        ({"edit": lambda text: text.replace("bundle 1", "bundle 2")}, "of the format 'aigc bundle 2'"),
        ({"edit": lambda text: text.replace('"tiny"', '"huge"')}, "'huge' .*catalog here does not have"),
        ({"edit": lambda text: text.replace('"tiny"', '"shipped"')}, "catalog here does not have"),
        ({"edit": lambda text: text.replace(": 22", ": 23", 1)}, "another version of tiny"),
    ],
    ids=range(13),
)
def test_a_changed_bundle_installs_nothing(stick: Path, catalog: Path, changes: dict[str, object], words: str) -> None:
    rewrite(stick, **changes)
    refused(stick, catalog, words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_twice_is_refused(stick: Path, catalog: Path) -> None:
    rewrite(stick, add=[("tiny/embedded/config.json", CONFIG)])
    refused(stick, catalog, "twice")


def test_a_link_is_refused(stick: Path, catalog: Path) -> None:
    link = zipfile.ZipInfo("tiny/embedded/config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    rewrite(stick, drop=["tiny/embedded/config.json"], add=[(link, "/etc/hostname")])
    refused(stick, catalog, "a link or a device")


def test_a_bomb_is_not_unpacked(stick: Path, catalog: Path) -> None:
    """A member that says it is small, and whose packed bytes would give gigabytes."""
    with zipfile.ZipFile(stick) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(stick, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(50_000_000) if name == "tiny/embedded/config.json" else content)
        archive.getinfo("tiny/embedded/config.json").file_size = len(CONFIG)  # For the list at the end of the zip.
    refused(stick, catalog, "damaged zip|with other bytes")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.99])
def test_a_truncated_zip_is_refused(stick: Path, catalog: Path, share: float) -> None:
    stick.write_bytes(stick.read_bytes()[: int(stick.stat().st_size * share)])
    refused(stick, catalog, "damaged zip")


def test_a_flipped_byte_is_refused(stick: Path, catalog: Path) -> None:
    content = bytearray(stick.read_bytes())
    content[content.index(WEIGHTS) + 1_000] ^= 1
    stick.write_bytes(content)
    refused(stick, catalog, "damaged zip")


def test_a_full_disk_leaves_the_older_bundle(
    stick: Path, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path / "store"))
    before = stick.read_bytes()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 100}))
    with pytest.raises(ReaderError, match="Free some space"):
        bundle(["tiny"], stick, profile="embedded", catalog=catalog)
    assert stick.read_bytes() == before


# --- damage ----------------------------------------------------------------------------------------------------------


def refused_by(path: Path, catalog: Path) -> str:
    with pytest.raises(ReaderError) as caught:
        install_bundle(path, catalog=catalog)
    return str(caught.value)


def test_a_bundle_damaged_anywhere_is_refused_in_a_sentence(stick: Path, catalog: Path, tmp_path: Path) -> None:
    whole = stick.read_bytes()
    randomly = random.Random(0)
    store = tmp_path / "other"
    # Its records above all: the list of members and the end, where a length or a kind of packing is changed.
    end = whole.rindex(MANIFEST.encode()) - 60
    places = [*range(40), *range(end, len(whole)), *(randomly.randrange(len(whole)) for _ in range(100))]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= randomly.randrange(1, 256)
        stick.write_bytes(changed)
        try:
            install_bundle(stick, catalog=catalog)
        except ReaderError as refused:
            assert str(stick) in str(refused) and "Traceback" not in str(refused)
            assert [path for path in store.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
        else:
            shutil.rmtree(store)  # A byte that says nothing, such as a date.


def test_a_bundle_cut_anywhere_is_refused_in_a_sentence(stick: Path, catalog: Path) -> None:
    whole = stick.read_bytes()
    for length in (0, 1, 21, 22, 100, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        stick.write_bytes(whole[:length])
        assert "is a damaged zip" in refused_by(stick, catalog)


def test_a_manifest_that_names_nothing_is_refused(tmp_path: Path, catalog: Path) -> None:
    path = tmp_path / "none.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MANIFEST, '{"format": "aigc bundle 1", "assets": []}')
    assert "names no asset" in refused_by(path, catalog)


def test_a_manifest_that_names_an_asset_twice_is_refused(stick: Path, catalog: Path) -> None:
    def doubled(text: str) -> str:
        manifest = json.loads(text)
        return json.dumps(manifest | {"assets": manifest["assets"] * 2})

    rewrite(stick, edit=doubled)
    refused(stick, catalog, "names tiny .embedded. twice")


def test_a_list_of_members_as_long_as_the_disk_is_refused(tmp_path: Path, catalog: Path) -> None:
    path = tmp_path / "sparse.zip"
    size = 1 << 31
    with path.open("wb") as opened:
        opened.truncate(size)
        opened.seek(size)
        opened.write(b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, size, 0, 0))
    assert "list of members is longer" in refused_by(path, catalog)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_a_pipe_or_a_device_called_zip_is_refused_at_once(tmp_path: Path, catalog: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "zero.zip").symlink_to("/dev/zero")
    for name in ("pipe.zip", "zero.zip"):
        assert "is no file" in refused_by(tmp_path / name, catalog)


def test_a_member_packed_as_aigc_bundle_never_packs_is_refused(stick: Path, catalog: Path) -> None:
    with zipfile.ZipFile(stick) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(stick, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(stick, catalog, "packed as aigc bundle never packs")
